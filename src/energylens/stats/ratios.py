"""Ratios of sums over units, alone and against one another."""

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.stats.bootstrap import cluster_bootstrap, interval
from energylens.stats.interval import Interval


def difference_of_ratios_interval(
    sums: Float[Tensor, " unit"],
    counts: Float[Tensor, " unit"],
    other_sums: Float[Tensor, " other"],
    other_counts: Float[Tensor, " other"],
    *,
    draws: int = 2000,
    generator: torch.Generator,
    level: float = 0.95,
) -> Interval:
    """Σ sums / Σ counts − Σ other_sums / Σ other_counts of the same units, with its interval.

    A studentised cluster bootstrap: both ratios are made of the same resampled units, and each
    draw's difference is divided by its own standard error, √Σ w e² with
    e = (s − R n) / Σ w n − (s′ − R′ n′) / Σ w n′. Where the denominators are equal this is
    `weighted_means_interval` of the differences. nan where a draw has no denominator or no spread.

    Example:
        >>> one = torch.ones(3)
        >>> sums, other = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1.0, 1.0, 4.0])
        >>> g = torch.Generator().manual_seed(0)
        >>> found = difference_of_ratios_interval(sums, one, other, one, draws=50, generator=g)
        >>> found.estimate.item()
        1.0

    Raises:
        BadInput: If the two are not of as many units.
        InsufficientData: If there are fewer than two units or no draw.
    """
    if len(sums) != len(other_sums):
        raise BadInput(
            f"two ratios over the same units were asked for, got {len(sums)} units and"
            f" {len(other_sums)}: measure both on the same documents"
        )
    s, n, s2, n2 = (x.double() for x in (sums, counts, other_sums, other_counts))
    observed, error = _difference(torch.ones(1, len(s)).to(s), s, n, s2, n2)

    def studentised(weights: Tensor) -> Tensor:
        drawn, spread = _difference(weights.to(s.device), s, n, s2, n2)
        return (drawn - observed) / spread

    t = cluster_bootstrap(studentised, len(s), draws=draws, generator=generator)
    ends = interval(t, observed=observed[0], level=level)
    return Interval(
        estimate=observed[0], low=(observed - ends.high * error)[0],
        high=(observed - ends.low * error)[0], level=level,
    )  # fmt: skip


def _difference(
    weights: Tensor, s: Tensor, n: Tensor, s2: Tensor, n2: Tensor
) -> tuple[Tensor, Tensor]:
    """The difference and its standard error, [draw]."""
    total, total2 = weights @ n, weights @ n2
    first, second = (weights @ s) / total, (weights @ s2) / total2
    off = (s - first[:, None] * n) / total[:, None]
    off = off - (s2 - second[:, None] * n2) / total2[:, None]
    return first - second, (weights * off.square()).sum(1).sqrt()
