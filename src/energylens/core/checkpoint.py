"""Where a training is kept while it runs, so that a killed one goes on to the bit."""

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from energylens.core.errors import ArtifactRefused
from energylens.core.files import write_bytes

Saved: TypeAlias = tuple[dict[str, Tensor], dict[str, Any]]
TENSORS, RECORD = "training.safetensors", "training.json"


def is_of_training(path: Path) -> bool:
    """Whether a path is named as a file of a `FolderCheckpoint`, or is a folder that holds one."""
    if path.is_dir():
        return (path / RECORD).is_file()
    return path.name == RECORD or path.name.endswith(f".{TENSORS}")


@runtime_checkable
class Checkpoint(Protocol):
    """What a training saves to and resumes from."""

    def due(self, done: int) -> bool:
        """Whether to save after this many steps."""
        ...

    def save(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None: ...

    def load(self) -> Saved | None:
        """What was saved last; None if nothing was."""
        ...


class FolderCheckpoint:
    """A checkpoint in a folder: two files, replaced as a whole, told apart by their hash.

    The record names the tensors by their hash and is written last: until it is, the one before
    stands, with its own tensors. A file that is damaged is refused, never read in part.

    Args:
        folder: Made when something is saved.
        seconds: Least time between two checkpoints.
        every: Save at every so many steps instead, whatever the time.
    """

    def __init__(self, folder: Path | str, *, seconds: float | int = 60, every: int = 0) -> None:
        self._folder, self._seconds, self._every = Path(folder), seconds, every
        self._last = time.monotonic()

    def due(self, done: int) -> bool:
        if self._every:
            return done % self._every == 0
        return time.monotonic() - self._last >= self._seconds

    def save(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        content = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
        digest = hashlib.sha256(content).hexdigest()
        self._folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self._file(digest), content)
        text = json.dumps({"sha256": digest, "record": dict(record)}, indent=1)
        write_bytes(self._folder / RECORD, text.encode())
        for old in self._folder.glob(f"*.{TENSORS}"):
            if old != self._file(digest):
                old.unlink()
        self._last = time.monotonic()

    def load(self) -> Saved | None:
        path = self._folder / RECORD
        if not path.is_file():
            return None
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            digest, record = said["sha256"], said["record"]
            content = self._file(digest).read_bytes()
            whole = hashlib.sha256(content).hexdigest() == digest
            tensors = load(content) if whole else {}
        except (ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
            raise ArtifactRefused(
                f"the checkpoint in {self._folder} cannot be read ({type(error).__name__}): remove"
                " the folder to train from the beginning"
            ) from error
        if not whole:
            raise ArtifactRefused(
                f"the checkpoint in {self._folder} has changed since it was written: remove the"
                " folder to train from the beginning"
            )
        return {name: torch.as_tensor(t) for name, t in tensors.items()}, record

    def _file(self, digest: str) -> Path:
        return self._folder / f"{digest[:16]}.{TENSORS}"
