"""Intrinsic dimension by loops over rows in float64."""

import math

import numpy as np
from numpy.typing import NDArray


def _distances(rows: NDArray[np.float64], at: int) -> list[float]:
    others = (row for i, row in enumerate(rows) if i != at)
    return sorted(math.dist(row, rows[at]) for row in others)


def two_nn(rows: NDArray[np.float64]) -> float:
    total = 0.0
    for at in range(len(rows)):
        first, second = _distances(rows, at)[:2]
        total += math.log(second / first)
    return (len(rows) - 1) / total


def levina_bickel(rows: NDArray[np.float64], k: int) -> float:
    """The mean of the inverse estimates of all rows, inverted."""
    inverse = []
    for at in range(len(rows)):
        near = _distances(rows, at)[:k]
        inverse.append(sum(math.log(near[-1] / r) for r in near[:-1]) / (k - 2))
    return len(rows) / sum(inverse)
