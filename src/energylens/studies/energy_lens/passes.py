"""What one pass of a model over the text left behind."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from energylens.core.ports import Store
from energylens.studies.energy_lens.bench import Bench
from energylens.studies.energy_lens.scoring import Piece, Scored


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The tensors of a stored piece, each read when it is asked for: a run's sums are large."""

    store: Store
    name: str

    def __getitem__(self, key: str) -> Tensor:
        return self.store.tensor(self.name, key)


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One model's dictionaries and scores over the held-out text."""

    benches: Mapping[str, Bench]
    pieces: list[Piece]
    scored: Scored

    @property
    def documents_of_half_b(self) -> Int[Tensor, " window"]:
        """Document of each window of half B (pieces of odd number)."""
        return torch.cat([piece.document for piece in self.pieces[1::2]])
