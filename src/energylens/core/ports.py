"""The outside world as the rooms see it: three small protocols, implemented under `run/edges`."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    from torch import Tensor


@runtime_checkable
class Collective(Protocol):
    """Sums and gathers over the processes that share one computation."""

    rank: int
    world: int

    def all_reduce(self, value: "Tensor") -> "Tensor": ...


class Solo:
    """The collective of one process: every reduction is the identity."""

    rank = 0
    world = 1

    def all_reduce(self, value: "Tensor") -> "Tensor":
        return value


solo = Solo()


@runtime_checkable
class Store(Protocol):
    """Where a study keeps what it finished: a part is all there, or not there at all."""

    def done(self, part: str) -> bool:
        """Whether the part was finished and all its files are as they were written."""
        ...

    def save(
        self,
        part: str,
        *,
        tensors: Mapping[str, Mapping[str, "Tensor"]] | None = None,
        tables: Mapping[str, "pa.Table"] | None = None,
        records: Mapping[str, Any] | None = None,
        files: "Mapping[str, Callable[[Path], object]] | None" = None,
        scratch: bool = False,
    ) -> None:
        """Write files (each atomically), then mark the part as finished."""
        ...

    def tensors(self, name: str) -> dict[str, "Tensor"]: ...

    def tensor(self, name: str, key: str) -> "Tensor":
        """One tensor of a file, without reading the others."""
        ...

    def table(self, name: str) -> "pa.Table": ...

    def record(self, name: str) -> Any: ...

    def folder(self, name: str) -> "Path":
        """Where the finished files whose paths begin with `name/` can be read."""
        ...

    def require_room(self, num_bytes: int) -> None:
        """Stop before long work that could not keep what it finds."""
        ...


@runtime_checkable
class Progress(Protocol):
    """Tells a person how far long work has come."""

    def task(
        self, label: str, total: int, unit: str = ""
    ) -> AbstractContextManager[Callable[[int], None]]:
        """A context whose value is called with the amount just finished."""
        ...


class Silence:
    """The progress of a program that nobody watches."""

    def task(
        self, label: str, total: int, unit: str = ""
    ) -> AbstractContextManager[Callable[[int], None]]:
        from contextlib import nullcontext

        return nullcontext(lambda amount: None)


silence = Silence()
