"""Registries filled by scanning a room: adding a thing is one file and one decorator."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from energylens.core.errors import UnknownName

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Registry(Generic[T], Mapping[str, T]):
    """Things of one kind by name, found by importing every module of their room.

    Raises:
        UnknownName: On look-up of a name that is not there; carries the nearest ones.
    """

    def __init__(self, kind: str, room: str) -> None:
        self.kind, self._room = kind, room
        self._items: dict[str, T] = {}
        self._scanned = False

    def add(self, name: str, item: T) -> None:
        if name in self._items:
            raise ValueError(f"two {self.kind}s are named {name!r}: rename one")
        self._items[name] = item

    def _scan(self) -> None:
        if not self._scanned:
            self._scanned = True  # first, so that a module which looks things up on import ends
            scan(self._room)

    def __getitem__(self, name: str) -> T:
        self._scan()
        if name not in self._items:
            raise UnknownName(self.kind, name, sorted(self._items))
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        self._scan()
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        self._scan()
        return iter(sorted(self._items))

    def __len__(self) -> int:
        self._scan()
        return len(self._items)


def scan(room: str) -> None:
    """Import every module of a package, so that what it registers is known.

    Only direct members: the inner modules of a study are imported when it runs, not to list it.
    """
    package = importlib.import_module(room)
    for info in pkgutil.iter_modules(package.__path__, prefix=f"{room}."):
        importlib.import_module(info.name)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a measure promises: read by tests, docs and reports."""

    name: str
    function: Callable[..., Any]
    units: str
    axes: tuple[str, ...]
    source: str
    null: str
    unchanged_by: tuple[str, ...] = ()
    formula: str = ""


MEASURES: dict[str, Measure] = {}


def measure(
    *,
    units: str,
    axes: tuple[str, ...],
    source: str,
    null: str,
    unchanged_by: tuple[str, ...] = (),
    formula: str = "",
) -> Callable[[F], F]:
    """Register a function as a measure: no measure is without its source and its null."""

    def register(function: F) -> F:
        name = function.__name__
        if name in MEASURES:
            raise ValueError(f"two measures are named {name!r}: rename one")
        MEASURES[name] = Measure(
            name=name, function=function, units=units, axes=axes, source=source,
            null=null, unchanged_by=unchanged_by, formula=formula,
        )  # fmt: skip
        return function

    return register
