"""When a series has settled: from which step on it stays in the band of its final plateau.

The plateau is the last part of the training. Its band is as wide as noise like that of the plateau
needs to keep a whole series inside, or a small share of how far the series ever
went, whichever is more. A series that leaves the band within the plateau itself, or still drifts
there, has not settled while it was watched: it is censored.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.stationarity import FEWEST, stationarity_test

INSIDE = 0.99  # of series of noise alone stay in the band, were its width known
INDEPENDENT = 6  # samples; noise that remembers longer cannot be told from wandering


@dataclass(frozen=True, kw_only=True)
class SettlingOptions:
    """What counts as settled.

    Attributes:
        plateau: Share of the samples, at the end, in which a series that ever settles is settled.
        tolerance: Half the width of the band that is allowed whatever the noise, as a share of the
            span of the whole series (the 5 % band of control theory).
        drift_p: A plateau that goes beyond the tolerance must be noise about a level. It drifts
            where the p of a constant level is below this, or where its samples go together for so
            long that it has as much to say as fewer than six independent ones.
    """

    plateau: float | int = 0.25
    tolerance: float | int = 0.05
    drift_p: float | int = 0.01

    def __post_init__(self) -> None:
        if not (0 < self.plateau < 1 and 0 <= self.tolerance < 1 and 0 <= self.drift_p < 1):
            raise BadInput(
                f"shares lie between 0 and 1, got a plateau of {self.plateau}, a tolerance of"
                f" {self.tolerance} and a p of {self.drift_p}: write 0.25 for a quarter"
            )


@dataclass(frozen=True, kw_only=True)
class Settling:
    """When each series settled.

    Attributes:
        step: First training step from which on the series stays in its band; nan if censored.
        censored: Whether it had not settled when the training ended. True where undefined.
        drifts: Whether its plateau still rises, falls or wanders.
        level: Median of the plateau.
        band: Half the width of the band; nan where too little of the plateau was measured.
    """

    step: Float64[Tensor, " series"]
    censored: Bool[Tensor, " series"]
    drifts: Bool[Tensor, " series"]
    level: Float64[Tensor, " series"]
    band: Float64[Tensor, " series"]


def settling(
    values: Float[Tensor, "series sample"],
    steps: Int[Tensor, " step"],
    options: SettlingOptions = SettlingOptions(),
) -> Settling:
    """Find when each series settles, in training steps.

    Example:
        >>> steps = torch.arange(0, 2000, 5)
        >>> falling = 10 * torch.exp(-steps / 100.0)[None]  # within 5 % from 100 ln 20 = 299.6 on
        >>> settling(falling, steps).step.item()
        300.0

    Args:
        values: A sample that could not be measured is nan, and neither inside nor outside.
        steps: Training steps of the samples, ascending.

    Raises:
        BadInput: If there are not as many steps as samples.
        InsufficientData: If the plateau has fewer than 16 samples.
    """
    samples = values.shape[1]
    if len(steps) != samples:
        raise BadInput(f"{samples} samples need as many steps, got {len(steps)}: give one each")
    plateau = round(options.plateau * samples)
    if plateau < FEWEST:
        raise InsufficientData(
            f"a plateau takes {FEWEST} samples, and {options.plateau:g} of {samples} are {plateau}:"
            " measure more often"
        )
    x = values.double()
    level, noise, drifts = _plateau(x[:, -plateau:], options)
    allowed = options.tolerance * _span(x)
    drifts = drifts & (_span(x[:, -plateau:]) > 2 * allowed)
    band = torch.maximum(_reach(samples, plateau) * noise, allowed)
    outside = (x - level[:, None]).abs() > band[:, None]
    number = torch.arange(1, samples + 1, device=x.device)
    first = (outside * number).amax(1)  # 0 if it was never outside
    undefined = x[:, -plateau:].isfinite().sum(1) < FEWEST
    censored = undefined | drifts | (first > samples - plateau)
    step = steps.to(x.device)[first.clamp(max=samples - 1)].double()
    return Settling(
        step=torch.where(censored, torch.nan, step), censored=censored, drifts=drifts & ~undefined,
        level=level, band=torch.where(undefined, torch.nan, band),
    )  # fmt: skip


def _plateau(
    end: Float64[Tensor, "series sample"], options: SettlingOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Median, deviation from it, and whether the plateau is more than noise about a level."""
    known = end.isfinite()
    level = end.nanquantile(0.5, dim=1)
    test = stationarity_test(torch.where(known, end, level[:, None]))
    drifts = (test.p < options.drift_p) | (test.independent < INDEPENDENT)
    # By the median, or a jump within the plateau would widen its own band.
    noise = 1.4826 * (end - level[:, None]).abs().nanquantile(0.5, dim=1)
    return level, noise, drifts


def _span(x: Float64[Tensor, "series sample"]) -> Float64[Tensor, " series"]:
    known = x.isfinite()
    return torch.where(known, x, -torch.inf).amax(1) - torch.where(known, x, torch.inf).amin(1)


def _reach(samples: int, plateau: int) -> float:
    """Standard deviations that all of so many samples of white noise keep within."""
    from scipy.special import stdtrit

    return float(stdtrit(plateau - 2, (1 + INSIDE ** (1 / samples)) / 2))
