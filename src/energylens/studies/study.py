"""What a study is: a frozen dataclass of options, and a function from it to a summary.

A study's package holds the options and is imported to list the studies, so it is light; the
function that does the work is named by a string and imported when the study runs.

    @study(
        name="energy-lens",
        question="Which features drive the model up and down its energy?",
        example="energylens run energy-lens --model tiny",
        entry="energylens.studies.energy_lens.wire:run",
        subject="model",
    )
    @dataclass(frozen=True, kw_only=True)
    class EnergyLens:
        model: str = "default"
        \"""Model to look into: default, tiny, a hub id, a folder or a .gguf file.\"""
        documents: Annotated[int, Range(10, 100_000)] = 200
        \"""Documents to read.\"""

    def run(options: EnergyLens, *, store, progress, say) -> Summary: ...
"""

import hashlib
import importlib
import json
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    runtime_checkable,
)
from typing import get_type_hints as type_hints

from energylens.core.errors import BadInput
from energylens.core.ports import Progress, Store
from energylens.core.registry import Registry
from energylens.results.plain import plain
from energylens.results.record import Summary

C = TypeVar("C", bound=type)


@runtime_checkable
class StudyFunction(Protocol):
    """The work of a study: what is finished goes to the store, what was found comes back."""

    def __call__(
        self, options: Any, *, store: Store, progress: Progress, say: Callable[[str], None]
    ) -> Summary: ...


@dataclass(frozen=True)
class Range:
    """The values a number may take, both ends included: `Annotated[int, Range(1, 64)]`."""

    low: float | int = -math.inf
    high: float | int = math.inf

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"{self.low:,} or more"
        return f"{self.low:,} to {self.high:,}"


@dataclass(frozen=True, kw_only=True)
class Study:
    """One question, the options it takes, and where its function is."""

    name: str
    question: str
    example: str
    entry: str
    options: type[Any]
    subject: str = ""
    plan: str = ""
    parallel: bool = False
    tasks: bool = False
    logs: bool = False

    def function(self) -> StudyFunction:
        """Import the function that does the work; this is where torch comes in."""
        return _imported(self.entry)

    def planner(self) -> Callable[[Any, Callable[[str], None]], None]:
        """Import the function that says what a run would do.

        Raises:
            BadInput: If the study has none.
        """
        if not self.plan:
            raise BadInput(
                f"{self.name} cannot say beforehand what it will do: leave --dry-run out"
            )
        return _imported(self.plan)


def _imported(entry: str) -> Any:
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)


class _Studies(Registry[Study]):
    """Studies by name. Only the top of each study's package is imported, so none pulls torch."""

    def _scan(self) -> None:
        if not self._scanned:
            self._scanned = True
            room = importlib.import_module(self._room)
            for info in pkgutil.iter_modules(room.__path__, prefix=f"{self._room}."):
                importlib.import_module(info.name)


STUDIES: Registry[Study] = _Studies("study", "energylens.studies")


def study(
    *,
    name: str,
    question: str,
    example: str,
    entry: str,
    subject: str = "",
    plan: str = "",
    parallel: bool = False,
    tasks: bool = False,
    logs: bool = False,
) -> Callable[[C], C]:
    """Register a frozen dataclass of options as a study.

    Args:
        name: What a person types after `energylens run`.
        question: The question it answers, in one line.
        example: A command that runs in about a minute on a CPU.
        entry: `module:function`, imported only when the study runs.
        subject: The option whose value tells runs apart in the name of the default folder.
        plan: `module:function` that says what a run would do, for `--dry-run`.
        parallel: Whether several processes may run it together; its function then takes a further
            keyword, `collective` (`core.ports.Collective`), and all of them call the store alike.
        tasks: Whether it runs tasks; its function then takes a further keyword, `launch`
            (`core.ports.Launch`), and its command line `--on`.
        logs: Whether it logs numbers while it runs, which a tracker can show.
    """

    def register(options: C) -> C:
        if not is_dataclass(options):
            raise TypeError(f"the options of study {name!r} must be a dataclass")
        if subject and subject not in {f.name for f in fields(options)}:
            raise ValueError(f"study {name!r} names {subject!r} as its subject: no such option")
        STUDIES.add(name, Study(name=name, question=question, example=example, entry=entry,
                                options=options, subject=subject, plan=plan,
                                parallel=parallel, tasks=tasks, logs=logs))  # fmt: skip
        return options

    return register


def flag(field: str) -> str:
    """The option of the command line that sets a field: `top_features` is `--top-features`."""
    return "--" + field.replace("_", "-")


def range_of(hint: Any) -> Range | None:
    """The `Range` that an annotation carries, if any."""
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, Range)), None)


def check_options(options: Any) -> None:
    """Every number finite and in its range, every choice one of those offered.

    Raises:
        BadInput: Names the option, the value and what it may be.

    Example:
        >>> @dataclass(frozen=True)
        ... class Toy:
        ...     top_k: Annotated[int, Range(1, 64)] = 8
        >>> check_options(Toy(top_k=0))
        Traceback (most recent call last):
        energylens.core.errors.BadInput: option --top-k is 0: it must be 1 to 64
    """
    hints = type_hints(type(options), include_extras=True)
    for field in fields(options):
        value, hint = getattr(options, field.name), hints[field.name]
        for item in value if isinstance(value, list | tuple) else (value,):
            _check_value(flag(field.name), item, hint)


def _check_value(name: str, value: Any, hint: Any) -> None:
    kinds, choices, allowed = _kinds(hint), _choices(hint), range_of(hint)
    if value is None and NoneType in kinds:
        return
    if isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(name, value, allowed, whole=int in kinds and float not in kinds)
    elif allowed or (kinds & {int, float} and not isinstance(value, tuple(kinds))):
        raise BadInput(f"option {name} is {value!r}: it must be a number")
    elif choices and value not in choices:
        offered = ", ".join(str(choice) for choice in choices)
        raise BadInput(f"option {name} is {value!r}: it must be one of {offered}")


def _check_number(name: str, value: float | int, allowed: Range | None, *, whole: bool) -> None:
    if not math.isfinite(value):
        problem = f"a number, {allowed}" if allowed else "a finite number"
    elif whole and not isinstance(value, int):
        problem = "a whole number"
    elif allowed and not allowed.low <= value <= allowed.high:
        problem = str(allowed)
    else:
        return
    raise BadInput(f"option {name} is {value}: it must be {problem}")


def leaves(hint: Any) -> list[Any]:
    """The plain types and literals inside an annotation: `tuple[int, ...] | None` has two."""
    if get_origin(hint) is Annotated:
        return leaves(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType, list, tuple):
        return [leaf for part in get_args(hint) if part is not ... for leaf in leaves(part)]
    return [hint]


def _kinds(hint: Any) -> set[Any]:
    return {leaf for leaf in leaves(hint) if isinstance(leaf, type)}


def _choices(hint: Any) -> tuple[Any, ...]:
    return tuple(c for x in leaves(hint) if get_origin(x) is Literal for c in get_args(x))


def options_record(options: Any) -> dict[str, Any]:
    """The options as plain values; paths are absolute, so that two spellings are one run."""
    return {f.name: plain(_absolute(getattr(options, f.name))) for f in fields(options)}


def _absolute(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.expanduser().resolve())
    if isinstance(value, list | tuple):
        return [_absolute(item) for item in value]
    return value


def run_key(name: str, options: Any) -> str:
    """What makes two runs one and the same: SHA-256 of the study and its options, in hex."""
    record = {"study": name, "options": options_record(options)}
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def pin_inputs(store: Store, inputs: Mapping[str, Any]) -> None:
    """Record what a run reads (model and text with their hashes); refuse to mix two inputs.

    Called first by every study: the record `inputs` goes into `run.json`, and a run that is
    resumed with a model or a text that has changed since stops here.

    Raises:
        BadInput: If the run was begun with other inputs.
    """
    now = plain(inputs)
    if not store.done("inputs"):
        store.save("inputs", records={"inputs": now})
        return
    before = store.record("inputs")
    changed = sorted(k for k in {*before, *inputs} if before.get(k) != plain(inputs.get(k)))
    if changed:
        raise BadInput(
            f"this run was begun with another {' and '.join(changed)} than it finds now: "
            "restore it, or start anew in another folder with --out"
        )
