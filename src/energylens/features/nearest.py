"""The features whose decoder rows point most nearly the same way."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

ROWS_AT_ONCE = 512


class Nearest(NamedTuple):
    """The nearest rows of every row, nearest first; nan for rows of norm 0."""

    feature: Int64[Tensor, "feature near"]
    cosine: Float[Tensor, "feature near"]


def nearest_rows(directions: Float[Tensor, "feature d"], near: int) -> Nearest:
    """Rows of largest cosine with each row, itself left out, some rows at a time.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
        >>> nearest_rows(rows, 1).feature.flatten().tolist()
        [2, 2, 1]
    """
    norm = torch.linalg.vector_norm(directions, dim=1, keepdim=True)
    unit = directions / torch.where(norm > 0, norm, 1.0)
    near = min(near, len(unit) - 1)
    found, cosine = [], []
    for first in range(0, len(unit), ROWS_AT_ONCE):
        some = unit[first : first + ROWS_AT_ONCE] @ unit.T
        own = torch.arange(len(some), device=some.device)
        some[own, own + first] = -2.0
        best = some.topk(near, dim=1)
        found.append(best.indices)
        cosine.append(best.values)
    return Nearest(torch.cat(found), torch.where(norm > 0, torch.cat(cosine), torch.nan))
