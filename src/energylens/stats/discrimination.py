"""How well scores tell two classes apart, with whole units left out or weighed.

Everything is kept as sums by unit, so that any weighing of units (one left out, some drawn twice)
costs a product and not another pass over the samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.bootstrap import Statistic, cluster_jackknife
from energylens.stats.interval import Interval
from energylens.stats.jackknife import jackknife_interval


@dataclass(frozen=True, kw_only=True)
class Discrimination:
    """What scores get right, by unit.

    Attributes:
        wins: Pairs of a positive sample of one unit and a negative one of another that are in the
            right order; equal scores count half.
        right: Samples of each class whose score is on the right side of 0; at 0 half.
        count: Samples of each class, negative first.
    """

    wins: Float64[Tensor, "positive_unit negative_unit"]
    right: Float64[Tensor, "two unit"]
    count: Float64[Tensor, "two unit"]

    @property
    def units(self) -> int:
        return self.count.shape[1]

    def auroc(self, weights: Float64[Tensor, "draw unit"]) -> Float64[Tensor, " draw"]:
        """Area under the receiver operating characteristic; nan where a class is absent."""
        negative, positive = (weights @ one for one in self.count)
        pairs = negative * positive
        won = ((weights @ self.wins) * weights).sum(1)
        return torch.where(pairs > 0, won / pairs, torch.nan)

    def balanced_accuracy(self, weights: Float64[Tensor, "draw unit"]) -> Float64[Tensor, " draw"]:
        """Mean over both classes of the share that is right; nan where a class is absent."""
        count = weights @ self.count.T
        return torch.where(count > 0, (weights @ self.right.T) / count, torch.nan).mean(1)


def discrimination(
    scores: Float[Tensor, " sample"],
    positive: Bool[Tensor, " sample"],
    unit: Int[Tensor, " sample"],
) -> Discrimination:
    """Sums by unit of what scores get right; units are the distinct values of `unit`, in order.

    Raises:
        BadInput: If a score is not finite.
    """
    if not bool(scores.isfinite().all()):
        raise BadInput("scores must be finite, found one that is not: look at what was fitted")
    units, number = unit.unique(return_inverse=True)
    side = torch.where(positive, scores, -scores)
    right = (side > 0).double() + (side == 0).double() / 2
    table = torch.zeros(2, len(units), dtype=torch.float64, device=scores.device)
    right, count = (
        table.index_put((positive.long(), number), one, accumulate=True)
        for one in (right, torch.ones_like(right))
    )
    wins = torch.zeros(len(units), len(units), dtype=torch.float64, device=scores.device)
    high, whose = scores[positive].contiguous(), number[positive]
    for other in range(len(units)):
        low = scores[~positive & (number == other)].sort().values
        beaten = torch.searchsorted(low, high) + torch.searchsorted(low, high, right=True)
        wins[:, other].index_add_(0, whose, beaten.double() / 2)
    return Discrimination(wins=wins, right=right, count=count)


def over_units(
    statistic: Statistic,
    units: int,
    *,
    level: float = 0.95,
    device: torch.device | str = "cpu",
) -> Interval:
    """A statistic with Student's interval from leaving each unit out.

    Coverage of 95 % over 300 data sets of documents with their own levels and shares of positives:
    .93 to .97 for an area or accuracy up to .75 and 10 to 60 documents; .86, .89 and .94 with 10,
    20 and 60 documents for an area of .97, where a percentile bootstrap has .82, .87 and .90.

    Args:
        statistic: Takes how much each unit weighs, [draw unit], as `Discrimination.auroc` does, or
            a difference of two such.

    Raises:
        InsufficientData: If there are fewer than two units.
    """
    if units < 2:
        raise InsufficientData(f"an interval over units needs 2, got {units}: use more documents")
    left_out = cluster_jackknife(statistic, units, device=device)
    everyone = torch.ones(1, units, dtype=torch.float64, device=device)
    return jackknife_interval(left_out, observed=statistic(everyone)[0], level=level).interval


def mean_of(statistics: Sequence[Statistic]) -> Statistic:
    """The mean of several statistics of the same units."""
    return lambda weights: torch.stack([one(weights) for one in statistics]).mean(0)
