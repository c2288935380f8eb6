"""Do several series over time move together, more than turned against each other?"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.stats.multiplicity import ROUNDING, resampling_p
from energylens.stats.nulls import circular_shifts
from energylens.stats.ranking import average_ranks


@dataclass(frozen=True, kw_only=True)
class Comovement:
    """How much the mean of several series varies, beside the same series out of step.

    Attributes:
        variance: Of the mean over series, over time.
        null_mean, null_sd, p: With each series turned round in time by its own number of places.
    """

    variance: float
    null_mean: float
    null_sd: float
    p: float


def comovement_test(
    series: Float[Tensor, "series sample"], generator: torch.Generator, *, draws: int = 1999
) -> Comovement:
    """The variance of a mean over series against circular shifts.

    A turned series keeps its values and its memory. The variance of the mean of turned series is a
    sum of circular cross-covariances at the lags between their turns, which are computed once, so
    a draw costs one look-up a pair.

    Example:
        >>> wave = torch.sin(torch.arange(40.0))
        >>> found = comovement_test(torch.stack([wave, wave, wave]), torch.Generator(), draws=99)
        >>> found.p <= 0.05, found.variance > found.null_mean
        (True, True)

    Args:
        series: Complete, and alike in scale.

    Raises:
        InsufficientData: If there are fewer than two series or samples, or too few draws.
    """
    count, samples = series.shape
    if count < 2 or samples < 2 or draws < 19:
        raise InsufficientData(
            f"moving together takes 2 series of 2 samples and 19 draws, got {count} of {samples}"
            f" and {draws}: measure more"
        )
    off = series.double() - series.double().mean(1, keepdim=True)
    spectrum = torch.fft.rfft(off, dim=1)
    covariance = torch.fft.irfft(spectrum[:, None].conj() * spectrum, n=samples, dim=2)
    drawn = torch.rand(draws, count, generator=generator, device=generator.device)
    turn = (drawn * samples).long().to(series.device)
    first, second = torch.triu_indices(count, count, 1, device=series.device)
    lag = (turn[:, second] - turn[:, first]) % samples
    scale = count**2 * (samples - 1)
    own = off.square().sum() / scale
    null = own + 2 * covariance[first, second][torch.arange(len(first)), lag].sum(1) / scale
    observed = off.mean(0).square().sum() / (samples - 1)
    return Comovement(
        variance=float(observed), null_mean=float(null.mean()), null_sd=float(null.std()),
        p=float(resampling_p(observed * (1 - ROUNDING), null)),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LaggedLink:
    """The lag at which two series go together most.

    Attributes:
        lag: Samples by which the second comes later than the first; below 0 it comes earlier.
        correlation: Of their ranks at that lag.
        null_mean, null_sd, p: Of the largest |correlation| over all lags.
        p_whole: The same against all turns of the whole second series that are farther than the
            lags looked at. No smaller than 1 / (samples − 4 · reach).
    """

    lag: int
    correlation: float
    null_mean: float
    null_sd: float
    p: float
    p_whole: float


def lagged_link(
    first: Float[Tensor, " sample"],
    second: Float[Tensor, " sample"],
    generator: torch.Generator,
    *,
    reach: int,
    parts: int,
    draws: int = 1999,
) -> LaggedLink:
    """Lagged correlation of ranks against circular shifts, the largest against the largest.

    That many lags were looked at is paid for by taking the maximum under the null as well. The
    second series is turned within each of some parts of the time: what has a course in common over
    longer times is no link, as it stays under this null. `p_whole` turns it as a whole.

    Args:
        first, second: What is not finite is left out.
        reach: Most samples by which one may come later.
        parts: Of the time, each turned by itself.

    Raises:
        InsufficientData: If one of the series never varies, or is too short to be turned.
    """
    a, b = _ranked(first), _ranked(second)
    far = torch.arange(2 * reach + 1, len(b) - 2 * reach, device=b.device)
    if not bool(a.any() and b.any()) or len(far) == 0:
        raise InsufficientData(
            f"a link over {reach} samples either way takes two series that vary, of more than"
            f" {4 * reach + 1} samples, got {len(b)}: measure more often"
        )
    padded = torch.nn.functional.pad(a, (reach, reach))
    lagged = padded.unfold(0, len(a), 1).T.flip(1)  # column reach + lag: the first, a lag earlier
    observed = b @ lagged
    best = observed.abs().argmax()
    null = (circular_shifts(b[None], draws, generator, blocks=parts)[:, 0] @ lagged).abs().amax(1)
    place = torch.arange(len(b), device=b.device)
    whole = (b[(place + far[:, None]) % len(b)] @ lagged).abs().amax(1)
    largest = observed[best].abs() * (1 - ROUNDING)
    return LaggedLink(
        lag=int(best) - reach, correlation=float(observed[best]), null_mean=float(null.mean()),
        null_sd=float(null.std()), p=float(resampling_p(largest, null)),
        p_whole=float(resampling_p(largest, whole)),
    )  # fmt: skip


def _ranked(series: Float[Tensor, " sample"]) -> Float64[Tensor, " sample"]:
    """Ranks about their mean, of length 1; 0 where there is nothing, or all are equal."""
    ranks = average_ranks(series[None])[0]
    ranks = torch.where(ranks.isfinite(), ranks - ranks.nanmean(), 0.0)
    return ranks / torch.linalg.vector_norm(ranks).clamp(min=1e-9)
