"""When several sites change at once, and whether the loss changes with them.

How fast a site changes is the size of its velocity, the change of a measure per training step. At a
critical moment it is above the site's own 90th percentile, so a tenth of all moments is critical at
every site, whatever happened: the mean of coordination says nothing. What says something is that
critical moments of different sites coincide, and then coordination varies more over time than it
would with the sites turned round in time against each other.

Everything in a network changes fast at the beginning of its training, and so does its loss. Such a
common course alone makes moments coincide. So each question is asked twice: with the course, and
beyond it, where a speed is taken relative to the running median of its own series.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.comovement import Comovement, comovement_test, lagged_link

CRITICAL = 0.9  # quantile of |velocity| beyond which a moment is critical
PARTS = 10  # of the training, within which the loss is turned against the sites
REACH = 10  # samples: half the window of a running median, and the largest lag
DRAWS = 1999


def velocity(
    values: Float[Tensor, "series sample"], steps: Int[Tensor, " step"]
) -> Float64[Tensor, "series change"]:
    """Change per training step, between neighbouring samples.

    Example:
        >>> velocity(torch.tensor([[0.0, 10.0, 10.0]]), torch.tensor([0, 5, 10])).tolist()
        [[2.0, 0.0]]

    Raises:
        BadInput: If there are not as many steps as samples.
        InsufficientData: If there are fewer than two samples.
    """
    if len(steps) != values.shape[1]:
        raise BadInput(
            f"{values.shape[1]} samples need as many steps, got {len(steps)}: give one each"
        )
    if len(steps) < 2:
        raise InsufficientData(f"a change needs 2 samples, got {len(steps)}: measure more often")
    return values.double().diff(dim=1) / steps.diff().to(values.device)


def acceleration(
    values: Float[Tensor, "series sample"], steps: Int[Tensor, " step"]
) -> Float64[Tensor, "series turn"]:
    """Change of the velocity per training step, at the inner samples.

    Example:
        >>> acceleration(torch.tensor([[0.0, 1.0, 4.0, 9.0]]), torch.arange(4)).tolist()
        [[2.0, 2.0]]

    Raises:
        BadInput, InsufficientData: As `velocity`; and with fewer than three samples.
    """
    speed = velocity(values, steps)
    if speed.shape[1] < 2:
        raise InsufficientData(f"a turn needs 3 samples, got {len(steps)}: measure more often")
    middle = (steps[1:] + steps[:-1]).double().to(values.device) / 2
    return speed.diff(dim=1) / middle.diff()


def critical_moments(speed: Float[Tensor, "series change"]) -> Bool[Tensor, "series change"]:
    """Whether each series is faster than at nine tenths of all moments. Never, if constant."""
    return speed > speed.nanquantile(CRITICAL, dim=1, keepdim=True)


def beyond_course(speed: Float[Tensor, "series change"]) -> Float[Tensor, "series moment"]:
    """Speed over the running median of 21 changes about it, without the ten at either end.

    Example:
        >>> slowing = torch.exp(-torch.arange(60.0) / 9)[None]
        >>> beyond_course(slowing).sub(1).abs().max().item() < 1e-5
        True
    """
    median = _running_median(speed)
    inner = speed[:, REACH:-REACH]
    return torch.where(inner > 0, inner / torch.where(median > 0, median, inner), 0.0)


@dataclass(frozen=True, kw_only=True)
class Coordination:
    """Do the sites of one network have their critical moments together?

    Attributes:
        course: Share of the sites that are at a critical moment, between neighbouring samples.
        highest: Largest value of the course.
        whole: Variance of the course over time (the strength of the coordination), beside turned
            series.
        beyond: The same of moments that are critical relative to the common course.
    """

    course: Float64[Tensor, " change"]
    highest: float
    whole: Comovement
    beyond: Comovement


def coordination(
    values: Float[Tensor, "site sample"],
    steps: Int[Tensor, " step"],
    generator: torch.Generator,
    *,
    draws: int = DRAWS,
) -> Coordination:
    """Judge how far the sites of a network change together.

    Sites that never change, or were not measured throughout, are left out.

    Raises:
        BadInput, InsufficientData: As `velocity`; and where fewer than two sites ever change, or
            there are too few samples for a running median.
    """
    speed = _moving(velocity(values, steps).abs())
    if len(speed) < 2:
        raise InsufficientData(
            f"coordination is between 2 sites that change, got {len(speed)}: measure more sites"
        )
    critical = critical_moments(speed).double()
    course = critical.mean(0)
    relative = critical_moments(beyond_course(speed)).double()
    return Coordination(
        course=course, highest=float(course.max()),
        whole=comovement_test(critical, generator, draws=draws),
        beyond=comovement_test(relative, generator, draws=draws),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LossLink:
    """Does a network change when its loss does?

    Attributes:
        lag: Training steps by which the loss changes later than the sites, where they go together
            most; below 0 it changes earlier.
        correlation: Of the ranks of the sites' mean speed and of the change of the loss at that
            lag, both beyond their course; below 0 the sites change fast where the loss falls.
        null_mean, null_sd, p: Of the largest |correlation| over all lags, with the loss turned
            within each tenth of the training.
        correlation_course, p_course: The same of the speed and the change as they are, with the
            whole loss turned: that both slow down in the course of the training is a link here.
        share_falling: Share of the critical moments at which the loss falls, each counted for
            every site at which it is critical.
        base_rate: Share of all moments at which the loss falls.
    """

    lag: float
    correlation: float
    null_mean: float
    null_sd: float
    p: float
    correlation_course: float
    p_course: float
    share_falling: float
    base_rate: float


def loss_link(
    values: Float[Tensor, "site sample"],
    steps: Int[Tensor, " step"],
    loss: Float[Tensor, " step"],
    generator: torch.Generator,
    *,
    draws: int = DRAWS,
) -> LossLink:
    """Set the speed of a network's sites beside the change of its loss.

    A change of the loss that is not finite is left out.

    Raises:
        BadInput, InsufficientData: As `velocity`; and where no site changes, the loss never does,
            or there are too few samples to be turned.
    """
    speed = _moving(velocity(values, steps).abs())
    change = velocity(loss[None], steps)
    known = change[0].isfinite()
    if len(speed) == 0 or not bool(known.any()):
        raise InsufficientData(
            "a link to the loss takes a site that changes and a loss: measure more sites, or record"
            " the loss"
        )
    relative = beyond_course(speed).mean(0)
    around = change[0, REACH:-REACH] - _running_median(change)[0]
    beyond = lagged_link(relative, around, generator, reach=REACH, parts=PARTS, draws=draws)
    mean_speed = (speed / speed.mean(1, keepdim=True)).mean(0)
    whole = lagged_link(mean_speed, change[0], generator, reach=REACH, parts=PARTS, draws=draws)
    falling, critical = change[0] < 0, critical_moments(speed) & known
    return LossLink(
        lag=beyond.lag * float(steps.diff().double().median()), correlation=beyond.correlation,
        null_mean=beyond.null_mean, null_sd=beyond.null_sd, p=beyond.p,
        correlation_course=whole.correlation, p_course=whole.p_whole,
        share_falling=float((critical & falling).sum() / critical.sum()),
        base_rate=float(falling[known].double().mean()),
    )  # fmt: skip


def _moving(speed: Float64[Tensor, "series change"]) -> Float64[Tensor, "moving change"]:
    """The series that ever change and were measured throughout, if they are long enough."""
    if speed.shape[1] < 4 * REACH + 2:
        raise InsufficientData(
            f"critical periods take {4 * REACH + 3} samples, got {speed.shape[1] + 1}: measure more"
            " often"
        )
    return speed[(speed > 0).any(1) & speed.isfinite().all(1)]


def _running_median(series: Float[Tensor, "series change"]) -> Float[Tensor, "series moment"]:
    return series.unfold(1, 2 * REACH + 1, 1).nanmedian(2).values
