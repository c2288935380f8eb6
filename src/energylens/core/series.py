"""A series of numbers in a file of lines, which can be watched while it grows."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from energylens.core.files import write_bytes

Numbers: TypeAlias = "float | Sequence[Numbers]"


class Series:
    """One JSON object a line: the step, and what it was like; nan is null.

    Where lines of an earlier sitting are there, those from the first step of this one on are
    dropped: the run went back to a checkpoint, and makes them again.

    Args:
        path: Made with its folder when the first line is added.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._begun = path, False

    def add(self, step: int, values: Mapping[str, Numbers]) -> None:
        """Add a line, whole and at once."""
        if not self._begun:
            self.begin(step)
        plain = {name: _plain(value) for name, value in values.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step} | plain) + "\n")

    def begin(self, step: int) -> None:
        """Drop the lines of an earlier sitting from this step on."""
        self._begun = True
        if self._path.is_file():
            kept = [line for line, content in _lines(self._path) if content["step"] < step]
            write_bytes(self._path, b"".join(kept))
        self._path.parent.mkdir(parents=True, exist_ok=True)


def read_series(path: Path) -> list[dict[str, Any]]:
    """The lines of a series that are whole, in their order; none if there is no such file."""
    return [content for _, content in _lines(path)] if path.is_file() else []


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Lines that are whole, and what they hold: one that was cut off by a crash is left out."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            content = json.loads(line)
            if line.endswith(b"\n") and isinstance(content["step"], int):
                yield line, content
        except (ValueError, KeyError, TypeError):
            continue


def _plain(value: Numbers) -> Any:
    if isinstance(value, Sequence):
        return [_plain(number) for number in value]
    return value if math.isfinite(value) else None
