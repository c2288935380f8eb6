"""Did more change at events than in the quiet windows matched to them?"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.stats.interval import Interval
from energylens.stats.matched_sets import apart_from_others, matched_set_test
from energylens.stats.rates import clustered_rate_interval
from energylens.stats.robust import cluster_mean_interval

FEWEST_EVENTS = 3


@dataclass(frozen=True, kw_only=True)
class EventContrast:
    """Events beside their quiet windows, one test a column.

    Attributes:
        difference: Mean over events of the event minus the mean of its quiet windows, in units of
            the column, with Student's interval over events.
        superiority: How often an event has the larger value than one of its quiet windows, .5 by
            chance; interval over events.
        null_sd: Standard deviation of the difference when any window may have been the event.
        p: Two-sided, of the ways in which another window of each set may have been the event.
        p_adjusted: Family-wise over all columns of this call (max-T).
        patterns: Of these ways: no p is below 1 / patterns.
    """

    difference: Interval
    superiority: Interval
    null_sd: Float64[Tensor, " column"]
    p: Float64[Tensor, " column"]
    p_adjusted: Float64[Tensor, " column"]
    patterns: int


def event_contrast(
    values: Float[Tensor, "event window column"],
    *,
    windows: Int[Tensor, " one_each"] | None = None,
    draws: int = 10_000,
    generator: torch.Generator,
    level: float = 0.95,
) -> EventContrast:
    """Compare each event with quiet windows of the same length from the same time.

    The unit is the window. With events of one training this tells whether *its* events went with
    more than its quiet times did, and nothing of other trainings; with events of several, that they
    come from few is for the reader to know.

    Under the null an event's window may as well have been another of its set. Changes die down
    while a network learns, so an event must not be set beside windows of another time. Rate of
    p ≤ .05, and coverage of the 95 % intervals of the difference and of superiority, over 8,000
    trainings whose changes know nothing of events (but for the first row they fall as 1 / time,
    with log-normal noise), for 3 and 5 events with 3 quiet windows each, and 8 with 2:

        quiet windows             p ≤ .05            difference         superiority
        no trend                  .046 .049 .056     .948 .950 .943     .913 .948 .938
        from the same tenth       .039 .042 .049     .970 .970 .966     .907 .952 .937
        from any time             .045 .054 .050     .962 .949 .957     .910 .947 .945
        later than their event    .275 .452 .555     .964 .943 .859     .815 .780 .729

    Example:
        >>> changes = torch.tensor([[[9.0], [1], [2], [1]], [[7.0], [2], [1], [1]],
        ...                         [[8.0], [1], [1], [3]]])
        >>> found = event_contrast(changes, generator=torch.Generator().manual_seed(0))
        >>> round(found.difference.estimate.item(), 3), found.superiority.estimate.item()
        (6.556, 1.0)
        >>> found.p.item() == 1 / 4**3
        True

    Args:
        values: Change in each window, the event's own first. A column with nan is undefined.
        windows: How many windows each event has, its own counted, where they differ.
        draws: Of the null, where there are more ways than that.

    Raises:
        InsufficientData: If there are fewer than 3 events, or so few ways that no p can be .05.
        BadInput: If an event has no quiet window.
    """
    if len(values) < FEWEST_EVENTS:
        raise InsufficientData(
            f"events are compared with quiet windows over at least {FEWEST_EVENTS} of them, found"
            f" {len(values)}: train longer, or take several trainings"
        )
    values = values.double()
    test = matched_set_test(
        values, members=windows, two_sided=True, draws=draws, generator=generator
    )
    members = torch.full((len(values),), values.shape[1]) if windows is None else windows
    apart = apart_from_others(values, members)[:, 0]
    return EventContrast(
        difference=cluster_mean_interval(apart, level=level),
        superiority=_superiority(values, members, apart.sum(0).isnan(), level),
        null_sd=test.null_sd, p=test.p, p_adjusted=test.p_adjusted, patterns=test.patterns,
    )  # fmt: skip


def _superiority(
    values: Float64[Tensor, "event window column"],
    windows: Int[Tensor, " event"],
    undefined: Bool[Tensor, " column"],
    level: float,
) -> Interval:
    """Pairs of an event and a quiet window of its own that the event wins; equal ones are half."""
    own, quiet = values[:, :1], values[:, 1:]
    there = (torch.arange(1, values.shape[1]) < windows[:, None])[:, :, None].to(values.device)
    won = ((own > quiet).double() + (own == quiet).double() / 2) * there
    rate = clustered_rate_interval(won.sum(1), there.sum(1), level=level)
    estimate, low, high = (
        torch.where(undefined, torch.nan, end) for end in (rate.estimate, rate.low, rate.high)
    )
    return Interval(estimate=estimate, low=low, high=high, level=level)
