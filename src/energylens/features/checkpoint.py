"""A checkpoint that several processes share."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from energylens.core.checkpoint import Checkpoint, Saved
from energylens.features.mesh import Mesh


class SharedCheckpoint:
    """A checkpoint of several processes: the first writes and reads it, and the others wait.

    So it may lie on a disk that only the first can see.
    """

    def __init__(self, checkpoint: Checkpoint, mesh: Mesh) -> None:
        self._checkpoint, self._mesh = checkpoint, mesh

    @classmethod
    def of(cls, checkpoint: Checkpoint | None, mesh: Mesh) -> "SharedCheckpoint | None":
        """The checkpoint as all processes have it, if there is one."""
        return None if checkpoint is None else cls(checkpoint, mesh)

    def due(self, done: int) -> bool:
        return bool(self._mesh.broadcast(torch.tensor(int(self._checkpoint.due(done)))))

    def save(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        self._mesh.once(lambda: self._checkpoint.save(tensors, record))

    def load(self) -> Saved | None:
        read: dict[str, Tensor] = {}

        def described() -> tuple[dict[str, tuple[str, list[int]]], dict[str, Any]] | None:
            saved = self._checkpoint.load()
            if saved is None:
                return None
            read.update(saved[0])
            kinds = {
                n: (str(t.dtype).removeprefix("torch."), list(t.shape)) for n, t in read.items()
            }
            return kinds, saved[1]

        said = self._mesh.once(described)
        if said is None:
            return None
        kinds, record = said
        return {
            name: self._mesh.broadcast(
                read[name] if name in read else torch.empty(shape, dtype=getattr(torch, kind))
            )
            for name, (kind, shape) in kinds.items()
        }, record
