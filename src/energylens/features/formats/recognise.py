"""Which program wrote a folder or a file, by names alone, and the dictionary in it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from energylens.core.checkpoint import is_of_training
from energylens.core.errors import ArtifactRefused, BadInput
from energylens.core.registry import Registry
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.crosscoder import SITES, Crosscoder
from energylens.features.dictionary import Dictionary

Loaded: TypeAlias = Dictionary | Crosscoder | CrossLayerTranscoder
"""What a file may hold: of one site (or from one to another), of several sites, of all layers."""
_NOTHING = re.compile(r"(?!)")


@dataclass(frozen=True, kw_only=True)
class Format:
    """A layout of files.

    Args:
        name: The program that writes it.
        files: What a folder of this format holds at the least; any of them stands for the folder.
        further: Names of what such a folder may hold of the same dictionary beside `files`.
        is_file: Whether a file is a dictionary by itself, or with settings that lie elsewhere.
        load: Reads a folder, or such a file.
        pickle: Whether `load` takes `allow_pickle`.
    """

    name: str
    files: tuple[str, ...]
    further: re.Pattern[str]
    is_file: Callable[[Path], bool]
    load: Callable[..., Loaded]
    pickle: bool

    def place(self, path: Path) -> Path | None:
        """What to load if a path names a dictionary of this format; None if it does not."""
        if path.is_file() and self.is_file(path):
            return path
        folder = path.parent if path.name in self.files and path.is_file() else path
        return folder if self.files and not self.lacks(folder) else None

    def lacks(self, folder: Path) -> list[str]:
        """What is missing for a folder to be of this format."""
        return [name for name in self.files if not (folder / name).is_file()]


FORMATS: Registry[Format] = Registry("dictionary format", "energylens.features.formats")

L = TypeVar("L", bound=Callable[..., Loaded])


def dictionary_format(
    name: str,
    *files: str,
    further: re.Pattern[str] = _NOTHING,
    is_file: Callable[[Path], bool] = lambda path: False,
    pickle: bool = False,
) -> Callable[[L], L]:
    """Register a function as what loads a format; see `Format`."""

    def register(load: L) -> L:
        found = Format(
            name=name, files=files, further=further, is_file=is_file, load=load, pickle=pickle
        )
        FORMATS.add(name, found)
        return load

    return register


def load_dictionary(path: Path | str, *, allow_pickle: bool = False) -> Loaded:
    """Read a dictionary of any format that is known.

    Args:
        path: The folder or the file, as the program that wrote it left it.
        allow_pickle: Whether formats that are pickles may be read; nothing in them is run.

    Returns:
        The dictionary; a crosscoder where its metadata list sites, a cross-layer transcoder where
        the files are of one.

    Raises:
        ArtifactRefused: If it is of no format or could be of two, or if its format refuses it.
    """
    path = Path(path)
    if not path.exists():
        raise ArtifactRefused(f"{path} does not exist: name a folder or a file with a dictionary")
    if is_of_training(path):
        raise ArtifactRefused(
            f"{path} is a checkpoint of a training that goes on, not a dictionary: let the training"
            " end, which the same call does, and name the folder that it saves"
        )
    kind = format_of(path)
    if kind is None:
        raise ArtifactRefused(_nearest(path))
    options: dict[str, Any] = {"allow_pickle": allow_pickle} if kind.pickle else {}
    found = kind.load(kind.place(path), **options)
    if not isinstance(found, Dictionary) or SITES not in found.metadata:
        return found
    try:
        return Crosscoder.of(found)
    except BadInput as error:
        raise ArtifactRefused(f"{path}: {error}") from error


def load_one(path: Path | str, *, allow_pickle: bool = False) -> Dictionary:
    """As `load_dictionary`, for work on one site.

    Raises:
        ArtifactRefused: As there, and if what is found is of several sites or layers.
    """
    found = load_dictionary(path, allow_pickle=allow_pickle)
    if not isinstance(found, Dictionary):
        raise ArtifactRefused(
            f"{path} is a {type(found).__name__}, and a dictionary of one site is asked for here"
        )
    return found


def format_of(path: Path) -> Format | None:
    """The format of what lies at a path; None if it is none that is known.

    Raises:
        ArtifactRefused: If it could be of two.
    """
    hits = [kind for kind in FORMATS.values() if kind.place(path) is not None]
    if len(hits) > 1:
        names = " or ".join(kind.name for kind in hits)
        raise ArtifactRefused(f"{path} could be of {names}: keep the files of one program there")
    return hits[0] if hits else None


def _nearest(path: Path) -> str:
    """What was expected at a path, and what is there instead."""
    folder = path if path.is_dir() else path.parent
    begun = [k for k in FORMATS.values() if 0 < len(k.lacks(folder)) < len(k.files)]
    if begun:
        there = sorted({n for kind in begun for n in kind.files if (folder / n).is_file()})
        missing = " or ".join(f"{', '.join(k.lacks(folder))} of {k.name}" for k in begun)
        return f"{folder} holds {', '.join(there)}, but not {missing}: copy it there too"
    inside = sorted(folder.iterdir()) if path.is_dir() else []
    for child in islice(inside, 200):
        kind = format_of(child)
        if kind is not None:
            return f"{path} is no dictionary, but {child.name} in it is one of {kind.name}: name it"
    known = "; ".join(
        f"{' with '.join(kind.files) or 'a file'} of {kind.name}" for kind in FORMATS.values()
    )
    names = ", ".join(child.name for child in inside[:5]) or (
        "nothing" if path.is_dir() else f"the file {path.name}"
    )
    return f"{path} is no dictionary that can be read: expected are {known}; found {names}"
