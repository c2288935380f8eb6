"""A series of numbers in a file of lines, which can be watched while it grows."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from energylens.core.files import write_bytes


class Series:
    """One JSON object a line: the step, and what it was like; nan is null.

    Where lines of an earlier sitting are there, those from the first step of this one on are
    dropped: the run went back to a checkpoint, and makes them again.

    Args:
        path: Made with its folder when the first line is added.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._begun = path, False

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line, whole and at once."""
        if not self._begun:
            self._begin(step)
        plain = {name: v if math.isfinite(v) else None for name, v in values.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step} | plain) + "\n")

    def _begin(self, step: int) -> None:
        self._begun = True
        if self._path.is_file():
            kept = [line for line in self._path.read_bytes().splitlines(keepends=True)
                    if _is_before(line, step)]  # fmt: skip
            write_bytes(self._path, b"".join(kept))
        self._path.parent.mkdir(parents=True, exist_ok=True)


def _is_before(line: bytes, step: int) -> bool:
    """Whether a line is whole, and of an earlier step."""
    try:
        return line.endswith(b"\n") and int(json.loads(line)["step"]) < step
    except (ValueError, KeyError, TypeError):
        return False
