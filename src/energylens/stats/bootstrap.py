"""Intervals by resampling whole units."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float64, Num
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.interval import Interval, checked_level

DRAWS_AT_ONCE = 256

Statistic = Callable[[Tensor], Tensor]


def cluster_bootstrap(
    statistic: Statistic,
    units: int,
    *,
    draws: int = 2000,
    generator: torch.Generator,
) -> Float[Tensor, "draw ..."]:
    """The statistic on samples of whole units, drawn with replacement (Efron 1979).

    Args:
        statistic: Takes how often each unit was drawn, Float64 [draw, unit], and returns
            [draw, ...]. A sum over units is then one matrix product, `weights @ sums`.
        units: Number of independent units.
        draws: Number of samples; handed to `statistic` some hundred at a time.
        generator: Source of the draws; the weights lie on its device.

    Raises:
        InsufficientData: If there are fewer than two units or no draw.
    """
    _enough(units, draws)
    parts = [min(DRAWS_AT_ONCE, draws - done) for done in range(0, draws, DRAWS_AT_ONCE)]
    return torch.cat([statistic(_multiplicities(units, n, generator)) for n in parts])


def cluster_jackknife(
    statistic: Statistic, units: int, *, device: torch.device | str = "cpu"
) -> Float[Tensor, "unit ..."]:
    """The statistic with each unit left out in turn; `statistic` as in `cluster_bootstrap`.

    Raises:
        InsufficientData: If there are fewer than two units.
    """
    _enough(units, draws=1)
    everyone = torch.ones(units, units, dtype=torch.float64, device=device)
    return statistic(everyone - torch.eye(units, dtype=torch.float64, device=device))


def interval(
    draws: Float[Tensor, "draw ..."],
    *,
    observed: Float[Tensor, "..."],
    level: float = 0.95,
) -> Interval:
    """Percentile interval of bootstrap draws; nan where any draw is undefined.

    Covers too little with few units (89 % for 95 % with 10, 93 % with 40): where the statistic is
    a ratio of sums prefer `weighted_means_interval`.
    """
    tail = (1 - checked_level(level)) / 2
    at = [torch.full_like(draws[0], share, dtype=torch.float64) for share in (tail, 1 - tail)]
    low, high = _quantiles(draws.double(), torch.stack(at))
    return Interval(estimate=observed.double(), low=low, high=high, level=level)


def bca_interval(
    draws: Float[Tensor, "draw ..."],
    *,
    observed: Float[Tensor, "..."],
    jackknife: Float[Tensor, "unit ..."],
    level: float = 0.95,
) -> Interval:
    """Bias-corrected and accelerated interval (Efron 1987).

    nan where any draw is undefined, where all draws lie on one side of the observed value, or
    where leaving out a unit never changes it.

    Args:
        draws: From `cluster_bootstrap`.
        observed: The statistic on all units once.
        jackknife: From `cluster_jackknife`.
    """
    tail = (1 - checked_level(level)) / 2
    draws, observed = draws.double(), observed.double()
    below = ((draws < observed).double() + (draws == observed).double() / 2).mean(0)
    bias = torch.special.ndtri(below)
    pull = jackknife.double().mean(0) - jackknife.double()
    acceleration = pull.pow(3).sum(0) / (6 * pull.square().sum(0).pow(1.5))
    z = torch.special.ndtri(below.new_tensor([tail, 1 - tail])).view(2, *[1] * observed.ndim)
    at = torch.special.ndtr(bias + (bias + z) / (1 - acceleration * (bias + z)))
    at = torch.where(bias.isfinite(), at, torch.nan)
    low, high = _quantiles(draws, at)
    return Interval(estimate=observed, low=low, high=high, level=level)


def weighted_means_interval(
    sums: Float[Tensor, "unit ..."],
    counts: Num[Tensor, "unit ..."],
    *,
    draws: int = 2000,
    generator: torch.Generator,
    level: float = 0.95,
) -> Interval:
    """Σ_u sums / Σ_u counts, with a studentised cluster bootstrap interval (bootstrap-t).

    Each draw's ratio R_b is divided by its own standard error √(Σ w (S − R_b n)²) / Σ w n, which
    keeps the coverage with few or skewed units where percentiles lose it. A draw in which no unit
    has a count, or whose standard error is zero, makes the interval nan.

    Example:
        >>> sums, counts = torch.tensor([1.0, 4.0, 4.0]), torch.tensor([1, 2, 3])
        >>> g = torch.Generator().manual_seed(0)
        >>> weighted_means_interval(sums, counts, draws=50, generator=g).estimate.item()
        1.5

    Args:
        sums: Sum of the quantity within each unit.
        counts: What it is divided by, of the shape of `sums` or one a unit.

    Raises:
        InsufficientData: If there are fewer than two units or no draw.
        BadInput: If `counts` fits neither shape.
    """
    sums, counts = sums.double(), _as_shape_of(sums, counts.double())
    shape, units = sums.shape[1:], len(sums)
    s, n = sums.reshape(units, -1), counts.reshape(units, -1)
    ratio = s.sum(0) / n.sum(0)

    def studentised(weights: Tensor) -> Tensor:
        weights = weights.to(s.device)
        total = weights @ n
        drawn = (weights @ s) / total
        off = s - ratio * n  # centred first, or the three terms below cancel badly
        drift = drawn - ratio
        spread = weights @ off.square() - 2 * drift * (weights @ (off * n))
        spread = spread + drift.square() * (weights @ n.square())
        return drift / (spread.clamp(min=0).sqrt() / total)

    t = cluster_bootstrap(studentised, units, draws=draws, generator=generator)
    error = (s - ratio * n).square().sum(0).sqrt() / n.sum(0)
    ends = interval(t, observed=ratio, level=level)
    low, high = ratio - ends.high * error, ratio - ends.low * error
    return Interval(
        estimate=ratio.reshape(shape), low=low.reshape(shape), high=high.reshape(shape), level=level
    )


def _multiplicities(
    units: int, draws: int, generator: torch.Generator
) -> Float64[Tensor, "draw unit"]:
    chosen = torch.randint(units, (draws, units), generator=generator, device=generator.device)
    counts = torch.zeros(draws, units, dtype=torch.float64, device=generator.device)
    return counts.scatter_add_(1, chosen, torch.ones_like(counts))


def _quantiles(
    draws: Float64[Tensor, "draw ..."], share: Float64[Tensor, "end ..."]
) -> Float64[Tensor, "end ..."]:
    """Each column's own quantiles, linear between draws (torch.quantile has a limit on size)."""
    undefined = draws.isnan().any(0) | share.isnan()
    ranked = draws.sort(0).values
    place = torch.where(undefined, 0.0, share) * (len(draws) - 1)
    lower = place.floor().long()
    upper = (lower + 1).clamp(max=len(draws) - 1)
    low, high = ranked.gather(0, lower), ranked.gather(0, upper)
    return torch.where(undefined, torch.nan, low + (place - lower) * (high - low))


def _as_shape_of(sums: Tensor, counts: Tensor) -> Tensor:
    if counts.shape == sums.shape:
        return counts
    if counts.shape != sums.shape[:1]:
        raise BadInput(
            f"counts of shape {list(counts.shape)} do not fit sums of shape {list(sums.shape)}: "
            "give one count a unit, or one for each sum"
        )
    return counts.reshape(-1, *[1] * (sums.ndim - 1)).expand_as(sums)


def _enough(units: int, draws: int) -> None:
    if units < 2 or draws < 1:
        raise InsufficientData(
            f"resampling needs 2 units and 1 draw, got {units} and {draws}: use more documents"
        )
