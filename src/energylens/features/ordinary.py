"""Ordinary rows: those within ten median distances of the middle.

A handful of tokens carry massive activations (Sun et al. 2024, arXiv 2402.17762): a hundred times
the usual norm, hence more variance than everything else together, so that any squared error would
measure them alone. They are left out of training and of statistics alike, and counted.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

TIMES = 10.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Ordinary:
    """A ball about the median row; what lies outside is a massive activation."""

    center: Float[Tensor, " d"]
    radius: float

    @classmethod
    def of(cls, rows: Float[Tensor, "sample d"], *, times: float = TIMES) -> "Ordinary":
        """The ball whose radius is so many median distances.

        Example:
            >>> rows = torch.tensor([[1.0], [2.0], [3.0], [4.0], [500.0]])
            >>> Ordinary.of(rows).holds(rows).tolist()
            [True, True, True, True, False]
        """
        center = rows.median(dim=0).values
        distance = torch.linalg.vector_norm(rows - center, dim=1)
        return cls(center=center, radius=times * float(distance.median()))

    def holds(self, rows: Float[Tensor, "sample d"]) -> Bool[Tensor, " sample"]:
        """Which rows lie inside."""
        return torch.linalg.vector_norm(rows - self.center, dim=1) <= self.radius
