"""Sparse codes: the k entries a row, never a tensor as wide as the dictionary on the hot path."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseCode:
    """Which features are active on each row, and how strongly.

    An entry of value 0 is inactive: rows with fewer than `active` positive features hold zeros.
    No feature appears twice in a row with a value other than 0.

    Example:
        >>> code = SparseCode(indices=torch.tensor([[2, 0]]), values=torch.tensor([[3.0, 0.0]]),
        ...                   width=4)
        >>> code.dense().tolist(), code.column_counts().tolist()
        ([[0.0, 0.0, 3.0, 0.0]], [0, 0, 1, 0])
    """

    indices: Int64[Tensor, "sample active"]
    values: Float[Tensor, "sample active"]
    width: int

    def dense(self) -> Float[Tensor, "sample feature"]:
        """The code as a matrix; for small things only."""
        matrix = self.values.new_zeros(len(self.values), self.width)
        return matrix.scatter_add(1, self.indices, self.values)

    def columns(self, features: Int64[Tensor, " chosen"]) -> Float[Tensor, "sample chosen"]:
        """Activations of a few distinct features on every row, in the order asked for."""
        place = torch.full((self.width,), -1, device=features.device)
        place[features] = torch.arange(len(features), device=features.device)
        where = place[self.indices]
        matrix = self.values.new_zeros(len(self.values), len(features))
        return matrix.scatter_add(1, where.clamp(min=0), self.values * (where >= 0))

    def of_rows(self, chosen: Bool[Tensor, " sample"]) -> "SparseCode":
        """The code of some rows."""
        return SparseCode(
            indices=self.indices[chosen], values=self.values[chosen], width=self.width
        )

    def column_counts(self) -> Int64[Tensor, " feature"]:
        """On how many rows each feature is active (its value is not 0)."""
        return torch.bincount(self.indices[self.values != 0], minlength=self.width)
