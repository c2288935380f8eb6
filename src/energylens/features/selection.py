"""The largest of numbers that lie on several processes: exact, and the same answer on each."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from energylens.core.ports import Collective
from energylens.features.mesh import ALONE, Mesh

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_DIGIT = 11
"""Bits a pass: on one process as fast as `kthvalue`, and 16 kB to sum over several."""


def nth_largest(positive: Float[Tensor, " entry"], n: int, mesh: Mesh = ALONE) -> Float[Tensor, ""]:
    """The n-th largest of all positive numbers that the processes of a mesh hold.

    By digits: positive floats are ordered as their bits are, so the digits of the one that is
    sought are read from the top, each from counts over all processes. No number travels.

    Args:
        positive: This process's numbers, above 0; may be none.
        n: From 1 to how many there are on all processes.

    Example:
        >>> float(nth_largest(torch.tensor([0.5, 3.0, 2.0]), 2))
        2.0
    """
    bits = positive.view(_BITS[positive.element_size()])
    left, found = 8 * positive.element_size(), 0
    while left:
        size = min(_DIGIT, left)
        left -= size
        digit = (bits >> left) & ((1 << size) - 1)
        counts = mesh.all_reduce(torch.bincount(digit, minlength=1 << size))
        at_least = counts.flip(0).cumsum(0).flip(0)
        this = int((at_least >= n).sum()) - 1
        n -= int(at_least[this] - counts[this])
        bits, found = bits[digit == this], found << size | this
    return bits.new_tensor(found).view(positive.dtype)


def among_best(
    scores: Float[Tensor, "sample candidate"], k: int, features: Collective
) -> Bool[Tensor, "sample candidate"]:
    """Which of this process's candidates are among the k largest of their row on all processes.

    Exactly k of a row where there are as many, also among equals.
    """
    rows, own = scores.shape
    everyone = features.all_gather(scores).movedim(0, 1).flatten(1)
    best = everyone.topk(min(k, everyone.shape[1]), dim=1, sorted=False).indices
    kept = torch.zeros_like(everyone, dtype=torch.bool).scatter_(1, best, True)
    return kept.view(rows, features.world, own)[:, features.rank]


def least_of_best(
    scores: Float[Tensor, "sample feature"], k: int, features: Collective
) -> Float[Tensor, "sample 1"]:
    """The k-th largest score of each row over all processes; −∞ where there are fewer."""
    own = scores.topk(min(k, scores.shape[1]), dim=1, sorted=False).values
    own = pad(own, (0, k - own.shape[1]), value=-torch.inf)
    everyone = features.all_gather(own).movedim(0, 1).flatten(1)
    if everyone.shape[1] > k:
        everyone = everyone.topk(k, dim=1, sorted=False).values
    return everyone.amin(1, keepdim=True)
