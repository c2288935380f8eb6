"""Do two things happen together more often than independence would have it? Counts, lift and φ."""

import torch
from jaxtyping import Float64, Num
from torch import Tensor


def expected_together(
    one: Num[Tensor, "*#shape"], other: Num[Tensor, "*#shape"], n: int
) -> Float64[Tensor, "*shape"]:
    """How often both would happen in n trials if neither knew of the other: one · other / n."""
    return one.double() * other.double() / n


def phi(
    together: Num[Tensor, "*#shape"],
    one: Num[Tensor, "*#shape"],
    other: Num[Tensor, "*#shape"],
    n: int,
) -> Float64[Tensor, "*shape"]:
    """Correlation of two events over n trials (Yule 1912): 0 where independent, 1 where the same.

    nan where an event happens never or always. Trials that resemble their neighbours leave it as it
    is but not how far chance moves it: judge it by a null that keeps them together.

    Example:
        >>> phi(torch.tensor(5), torch.tensor(5), torch.tensor(5), 20).item()
        1.0

    Args:
        together: Trials in which both happen.
        one, other: Trials in which each does.
        n: All trials.
    """
    spread = _spread(one, n) * _spread(other, n)
    excess = together.double() - expected_together(one, other, n)
    return excess * n / torch.where(spread > 0, spread, torch.nan).sqrt()


def _spread(count: Tensor, n: int) -> Float64[Tensor, "..."]:
    return count.double() * (n - count.double())
