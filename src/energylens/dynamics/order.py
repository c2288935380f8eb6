"""In which order sites settle: from the input up, from the output down, or at once.

Depth comes from the order of modules. A site that had not settled when the training ended settled
later than all that had. That an order cannot be told from chance does not make sites simultaneous:
that is said only where all of them settle within a small part of the training.
"""

from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.stats.ranking import rank_test

LEVEL = 0.05


class Pattern(StrEnum):
    """How settling goes through the network."""

    BOTTOM_UP = "bottom_up"
    TOP_DOWN = "top_down"
    SIMULTANEOUS = "simultaneous"
    UNCLEAR = "unclear"


@dataclass(frozen=True, kw_only=True)
class Order:
    """How depth and the time of settling go together in one network.

    Attributes:
        rho: Spearman's ρ of depth and settling step; above 0 the input settles first. nan with
            fewer than three sites, or where all settle at the same step.
        p: Two-sided, by dealing the settling times out anew among the sites.
        spread: Last settling step minus the first, as a share of the training; nan if a site is
            censored.
        pattern: Ordered where p ≤ .05; simultaneous where it is not and the spread lies within the
            equivalence band; unclear otherwise.
        sites: How many sites there were.
        draws: Orders that p was drawn from; None where all were gone through.
    """

    rho: float
    p: float
    spread: float
    pattern: Pattern
    sites: int
    draws: int | None


def order_of_settling(
    settled: Float[Tensor, " site"],
    censored: Bool[Tensor, " site"],
    depth: Float[Tensor, " site"],
    num_steps: int,
    generator: torch.Generator,
    *,
    together: float | int = 0.05,
    draws: int = 4999,
) -> Order:
    """Judge the order in which sites settle.

    With four sites, no order has a p below 2/24: such networks are simultaneous or unclear.

    Example:
        >>> settled = torch.tensor([100.0, 200, 300, 500, 900, 1000])
        >>> found = order_of_settling(settled, settled < 0, torch.linspace(0, 1, 6), 2000,
        ...     torch.Generator())
        >>> found.pattern.value, found.rho
        ('bottom_up', 1.0)

    Args:
        settled: Training steps; what a censored site has is not looked at.
        depth: Relative depth, 0 at the input.
        num_steps: Length of the training.
        together: Share of the training within which all must settle to be called simultaneous.

    Raises:
        BadInput: If there are not as many sites in all, or no step of training.
    """
    if not len(settled) == len(censored) == len(depth) or num_steps < 1:
        raise BadInput(
            f"an order needs a time, a mark and a depth for each site and a training, got"
            f" {len(settled)}, {len(censored)} and {len(depth)}, and {num_steps} steps"
        )
    time = torch.where(censored, torch.inf, settled.double())
    last = time[~censored].amax() if bool((~censored).any()) else time.new_zeros(())
    ranked = torch.where(censored, last + 1, time)
    test = rank_test(depth, ranked, generator, draws=draws)
    spread = (
        float((time.amax() - time.amin()) / num_steps) if not bool(censored.any()) else torch.nan
    )
    rho, p = float(test.rho), float(test.p)
    return Order(
        rho=rho, p=p, spread=spread, pattern=_pattern(rho, p, spread, together),
        sites=len(settled), draws=test.draws,
    )  # fmt: skip


def _pattern(rho: float, p: float, spread: float, together: float | int) -> Pattern:
    if p <= LEVEL:
        return Pattern.BOTTOM_UP if rho > 0 else Pattern.TOP_DOWN
    return Pattern.SIMULTANEOUS if spread <= together else Pattern.UNCLEAR
