"""Edits of one row at a time, with dense codes in float64."""

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


def greedy(before: Vector, after: Vector, wanted: Vector, W_dec: Matrix, most: int) -> list[int]:
    """Features in the order in which changing them brings the row nearest to what is wanted."""
    chosen: list[int] = []
    left = wanted.astype(np.float64).copy()
    for _ in range(most):
        tried = {
            f: float(np.linalg.norm(left - (after[f] - before[f]) * W_dec[f]))
            for f in range(len(before))
            if f not in chosen and after[f] != before[f]
        }
        if not tried:
            break
        best = min(tried, key=lambda f: tried[f])
        if tried[best] >= float(np.linalg.norm(left)):
            break
        left -= (after[best] - before[best]) * W_dec[best]
        chosen.append(best)
    return chosen


def weight(before: Vector, changes: Vector, W_dec: Matrix) -> float:
    """Share of the reconstruction that goes, feature by feature."""
    made = sum(a * d for a, d in zip(before, W_dec, strict=True))
    gone = 0.0
    for a, change, direction in zip(before, changes, W_dec, strict=True):
        if a != 0 and change < 0:
            gone += float(-change * direction @ made) / float(made @ made)
    return gone
