"""Rankings by counting: every pair, every way to break ties."""

import itertools

import numpy as np


def precision_at_k(x: list[float], y: list[float], k: int) -> float:
    """Mean overlap of the two tops over all orders of the items that tie."""
    tops_x, tops_y = _tops(x, k), _tops(y, k)
    return float(np.mean([len(a & b) / k for a in tops_x for b in tops_y]))


def _tops(values: list[float], k: int) -> list[set[int]]:
    last = sorted(values, reverse=True)[k - 1]
    sure = {i for i, v in enumerate(values) if v > last}
    tied = [i for i, v in enumerate(values) if v == last]
    return [sure | set(some) for some in itertools.combinations(tied, k - len(sure))]
