"""Standard errors by leaving units out, and what they say of a slope over several estimates."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.stats.interval import Interval, checked_level


@dataclass(frozen=True, kw_only=True)
class Jackknifed:
    """An estimate with its interval and standard error over units."""

    interval: Interval
    error: Float64[Tensor, "*shape"]


def jackknife_interval(
    jackknife: Float[Tensor, "unit ..."],
    *,
    observed: Float[Tensor, "..."],
    level: float = 0.95,
) -> Jackknifed:
    """Estimate ± Student's t × the jackknife's standard error (Tukey 1958).

    For statistics that are smooth in the units, as means, correlations, and quantiles over many
    features of which each is a mean. Resampling would add its noise to the size of each feature,
    and a quantile of sizes would come out too large.

    Args:
        jackknife: From `cluster_jackknife`.
        observed: The statistic on all units once.

    Raises:
        InsufficientData: If there are fewer than two units.
        BadInput: If the level is not strictly between 0 and 1.
    """
    from scipy.special import stdtrit

    units = len(jackknife)
    if units < 2:
        raise InsufficientData(f"a jackknife needs 2 units, got {units}: use more documents")
    off = jackknife.double() - jackknife.double().mean(0)
    error = (off.square().sum(0) * (units - 1) / units).sqrt()
    half = float(stdtrit(units - 1, (1 + checked_level(level)) / 2)) * error
    middle = observed.double()
    return Jackknifed(
        interval=Interval(estimate=middle, low=middle - half, high=middle + half, level=level),
        error=error,
    )


def slope_of_estimates(
    x: Float[Tensor, " point"],
    estimate: Float[Tensor, " point"],
    error: Float[Tensor, " point"],
    *,
    level: float = 0.95,
) -> Interval:
    """Least-squares slope of independent estimates on x, with what their errors make of it.

    The interval tells how well the slope of these very points is known. It says nothing of other
    points: two models lie on a line whatever their size does.

    Example:
        >>> x, zero = torch.tensor([0.0, 1.0, 2.0]), torch.zeros(3)
        >>> slope_of_estimates(x, 3 * x + 1, zero).estimate.item()
        3.0

    Raises:
        InsufficientData: If there are fewer than two different x.
    """
    if len(x) < 2 or bool((x == x[0]).all()):
        raise InsufficientData("a slope needs 2 points that differ, found fewer: give more models")
    off = x.double() - x.double().mean()
    part = off / off.square().sum()
    slope = (part * estimate.double()).sum()
    spread = (part * error.double()).square().sum().sqrt()
    half = math.sqrt(2) * torch.special.erfinv(spread.new_tensor(checked_level(level))) * spread
    return Interval(estimate=slope, low=slope - half, high=slope + half, level=level)
