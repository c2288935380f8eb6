"""The outside world as the rooms see it: small protocols, implemented under `run/edges`."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar, Unpack, runtime_checkable

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

T = TypeVar("T")


@runtime_checkable
class Collective(Protocol):
    """Sums and gathers over the processes that share one computation.

    Every process makes the same calls in the same order, and each call waits for all. What is given
    stays as it is, and has one shape and type on all processes.
    """

    rank: int
    world: int

    def all_reduce(self, value: "Tensor") -> "Tensor":
        """The sum over processes, to the bit the same on each."""
        ...

    def all_gather(self, value: "Tensor") -> "Tensor":
        """The values of all processes in order of rank: [process, *shape]."""
        ...

    def broadcast(self, value: "Tensor") -> "Tensor":
        """The value of the first process."""
        ...

    def once(self, make: Callable[[], T]) -> T:
        """What the first process alone makes, a JSON value, once all have come; where it fails, all
        fail with it. `make` must call no collective."""
        ...

    def split(self, colour: int) -> "Collective":
        """The processes that give this colour, among themselves and in the same order."""
        ...


class Solo:
    """The collective of one process: every reduction is the identity."""

    rank = 0
    world = 1

    def all_reduce(self, value: "Tensor") -> "Tensor":
        return value

    def all_gather(self, value: "Tensor") -> "Tensor":
        return value.unsqueeze(0)

    def broadcast(self, value: "Tensor") -> "Tensor":
        return value

    def once(self, make: Callable[[], T]) -> T:
        return make()

    def split(self, colour: int) -> "Collective":
        return self


solo = Solo()


class Kept(TypedDict, total=False):
    """What a part of a run holds.

    Attributes:
        tensors: Files of named tensors; views that share memory are written apart.
        tables: Tables, one file each.
        records: Plain values, one JSON file each; nan is written as null.
        files: Files in a format of their own, by path `folder/…/name.suffix`; each is filled by its
            function.
        scratch: Needed only until the run is done.
    """

    tensors: "Mapping[str, Mapping[str, Tensor]]"
    tables: "Mapping[str, pa.Table]"
    records: Mapping[str, Any]
    files: Mapping[str, Callable[[Path], object]]
    scratch: bool


@runtime_checkable
class Store(Protocol):
    """Where a study keeps what it finished: a part is all there, or not there at all."""

    def done(self, part: str) -> bool:
        """Whether the part was finished and all its files are as they were written."""
        ...

    def save(self, part: str, **kept: Unpack[Kept]) -> None:
        """Write files (each atomically), then mark the part as finished."""
        ...

    def tensors(self, name: str) -> dict[str, "Tensor"]: ...

    def tensor(self, name: str, key: str) -> "Tensor":
        """One tensor of a file, without reading the others."""
        ...

    def table(self, name: str) -> "pa.Table": ...

    def record(self, name: str) -> Any: ...

    def folder(self, name: str) -> Path:
        """Where the finished files whose paths begin with `name/` can be read."""
        ...

    def require_room(self, num_bytes: int) -> None:
        """Stop before long work that could not keep what it finds."""
        ...

    def forget(self, prefix: str) -> None:
        """Remove the parts whose names begin with `prefix`, and their files."""
        ...

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        """Tell whoever watches the run what a step was like; never waits for them.

        A series that is begun again at an earlier step, as by a run that resumes, goes on there.
        """
        ...

    def workplace(self, name: str) -> "Path":
        """A folder for files that a study keeps by itself, such as checkpoints; gone when the run
        is done."""
        ...


class Nested:
    """The store of a run inside a run: the same store, every name behind the name of the child.

    All of it is scratch of the run around it, which takes over what it wants to keep and then
    calls `clear`; so however many children a run has, the disk holds the parts of one.

    Args:
        store: The store of the run around it.
        name: Of the child; a plain word without a dot, so that no two children share a prefix.

    Raises:
        ValueError: If the name has a dot or is empty.
    """

    def __init__(self, store: Store, name: str) -> None:
        if not name or "." in name:
            raise ValueError(f"{name!r} cannot name a child: use a word without a dot")
        self._store, self._name = store, name

    def done(self, part: str) -> bool:
        return self._store.done(self._of(part))

    def save(self, part: str, **kept: Unpack[Kept]) -> None:
        named: Kept = {"scratch": True}
        for kind in ("tensors", "tables", "records"):
            if kind in kept:
                named[kind] = {self._of(name): value for name, value in kept[kind].items()}
        if "files" in kept:
            named["files"] = {
                f"{self._name}/{path}": write for path, write in kept["files"].items()
            }
        self._store.save(self._of(part), **named)

    def tensors(self, name: str) -> dict[str, "Tensor"]:
        return self._store.tensors(self._of(name))

    def tensor(self, name: str, key: str) -> "Tensor":
        return self._store.tensor(self._of(name), key)

    def table(self, name: str) -> "pa.Table":
        return self._store.table(self._of(name))

    def record(self, name: str) -> Any:
        return self._store.record(self._of(name))

    def folder(self, name: str) -> Path:
        return self._store.folder(f"{self._name}/{name}")

    def require_room(self, num_bytes: int) -> None:
        self._store.require_room(num_bytes)

    def forget(self, prefix: str) -> None:
        self._store.forget(self._of(prefix))

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        self._store.log(self._of(series), step, values)

    def workplace(self, name: str) -> "Path":
        return self._store.workplace(self._of(name))

    def clear(self) -> None:
        """Remove all that the child has saved."""
        self.forget("")

    def _of(self, name: str) -> str:
        return f"{self._name}.{name}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One of many independent runs: a study, its options, and a folder of its own.

    Since it is an ordinary run, whether it is done is read in its folder alone; one that was killed
    resumes, and one that is started twice is done once.

    Attributes:
        study: Name of a registered study.
        options: An instance of its options.
        folder: Of the run. A study gives a plain name, which is put below the study's own run.
        work: How long it takes beside the others of its study, for whoever waits for them.
    """

    study: str
    options: Any
    folder: Path
    work: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a try at a task ended, as far as the launcher can tell.

    Attributes:
        code: Exit code; negative for a signal, None where it is not known.
        last: The last line that it wrote.
    """

    code: int | None
    last: str = ""


@runtime_checkable
class Launcher(Protocol):
    """Tries each task once, somewhere; it may lose some, and those are tried again."""

    def __call__(self, tasks: Sequence[Task], *, ended: Callable[[Task, Ending], None]) -> None:
        """Return when every task has ended, after `ended` was called with each.

        Whatever `ended` raises ends all tasks that are running, and is raised on.
        """
        ...


# Runs tasks to their end and opens what they left, by the names of their folders.
Launch = Callable[[Sequence[Task]], Mapping[str, Store]]


@runtime_checkable
class Tracker(Protocol):
    """A place outside the run's folder where people watch numbers, such as TensorBoard."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class Progress(Protocol):
    """Tells a person how far long work has come."""

    def task(self, label: str, total: int, unit: str = "") -> "AbstractContextManager[Advance]":
        """A context whose value is called with the amount just finished."""
        ...


@runtime_checkable
class Advance(Protocol):
    """Told of work as it is done."""

    def __call__(self, amount: int, note: str = "") -> object:
        """Add an amount; a note says in a few words how the work stands."""
        ...


class Silence:
    """The progress of a program that nobody watches."""

    def task(self, label: str, total: int, unit: str = "") -> "AbstractContextManager[Advance]":
        from contextlib import nullcontext

        return nullcontext(lambda amount, note="": None)


silence = Silence()
