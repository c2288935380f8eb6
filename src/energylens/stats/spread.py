"""Is a change larger than what repeats of the same thing differ by?"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.stats.interval import Interval, checked_level


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change, its interval, and the p of no change.

    Attributes:
        interval: Of the change; nan where it, or the repeats, are undefined or never differ.
        error: Standard deviation of the change if there is no effect.
        p: Two-sided.
    """

    interval: Interval
    error: Float64[Tensor, "*shape"]
    p: Float64[Tensor, "*shape"]


def change_from_repeats(
    value: Float[Tensor, "..."],
    repeats: Float[Tensor, "repeat ..."],
    *,
    least: float = 0.0,
    level: float = 0.95,
) -> Change:
    """One run against several of another kind, which differ in their seeds alone.

    The change is `value` minus the repeats' mean. If nothing but the seed differs, the run is one
    more repeat, and its distance from the mean of n, in units of s √(1 + 1/n), follows Student's t
    with n − 1 degrees of freedom: the prediction interval, exact for normal repeats.

    A few repeats of a small count are often equal by luck, and any other count would then seem a
    change: `least` is the standard deviation that counting alone gives, below which s is not taken.

    Example:
        >>> repeats = torch.tensor([1.0, 2.0, 3.0])
        >>> change = change_from_repeats(torch.tensor(9.0), repeats).interval
        >>> change.estimate.item(), round(change.low.item(), 3), round(change.high.item(), 3)
        (7.0, 2.032, 11.968)

    Raises:
        InsufficientData: If there are fewer than two repeats.
        BadInput: If the level is not strictly between 0 and 1.
    """
    repeats = repeats.double()
    n = _several(repeats)
    error = repeats.std(0).clamp(min=least) * math.sqrt(1 + 1 / n)
    return _student(value.double() - repeats.mean(0), error, n - 1, level)


def change_in_pairs(
    values: Float[Tensor, "repeat ..."],
    references: Float[Tensor, "repeat ..."],
    *,
    least: float = 0.0,
    level: float = 0.95,
) -> Change:
    """Two readings of every repeat: mean of their differences, Student's t over the repeats.

    `least` is the smallest standard deviation of one difference, as in `change_from_repeats`.

    Raises:
        InsufficientData: If there are fewer than two repeats.
        BadInput: If the level is not strictly between 0 and 1.
    """
    difference = values.double() - references.double()
    n = _several(difference)
    return _student(
        difference.mean(0), difference.std(0).clamp(min=least) / math.sqrt(n), n - 1, level
    )


def _student(change: Tensor, error: Tensor, dof: int, level: float) -> Change:
    from scipy.special import stdtr, stdtrit

    error = torch.where(error > 0, error, torch.nan)
    half = float(stdtrit(dof, (1 + checked_level(level)) / 2)) * error
    p = 2 * stdtr(dof, -(change / error).abs().numpy(force=True))
    return Change(
        interval=Interval(estimate=change, low=change - half, high=change + half, level=level),
        error=error,
        p=torch.as_tensor(p, dtype=torch.float64, device=change.device),
    )


def _several(repeats: Tensor) -> int:
    if len(repeats) < 2:
        raise InsufficientData(f"a spread needs 2 repeats, got {len(repeats)}: run more seeds")
    return len(repeats)
