"""What one pass of a model over the text left behind."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from energylens.studies.energy_lens.scoring import Bench, Piece, Scored


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
