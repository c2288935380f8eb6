"""Do events come sooner than at random? Rates before and after a boundary, by unit."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.interval import Interval, checked_level
from energylens.stats.multiplicity import two_sided_p

# Added to both counts, so that none on one side leaves a ratio (Haldane 1956).
HALF = 0.5


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The rate of events before a boundary over that after it.

    Attributes:
        ratio: With its interval over units.
        null_mean, null_sd: Of the ratio with the events of each unit turned round in its time.
        p: Two-sided, of the ratio's logarithm.
        before, after: How many events.
        units: Units with an event.
    """

    ratio: Interval
    null_mean: float
    null_sd: float
    p: float
    before: int
    after: int
    units: int


def placement_test(
    time: Float[Tensor, " event"],
    unit: Int[Tensor, " event"],
    boundary: Float[Tensor, " unit"],
    generator: torch.Generator,
    *,
    weight: Float[Tensor, " unit"] | None = None,
    draws: int = 1999,
    level: float = 0.95,
) -> Placement:
    """Compare the rates of events before and after a boundary of each unit's own.

    Under the null all events of a unit are turned round in its time together, by one random amount:
    several at once stay several at once, and so count as little as they are worth. The interval is
    that of a ratio of rates whose counts are sums over units (sandwich), in its logarithm, on
    Student's law with units − 1 degrees of freedom.

    Example:
        >>> time, unit = torch.tensor([0.02, 0.05, 0.07, 0.6]), torch.tensor([0, 1, 2, 3])
        >>> found = placement_test(time, unit, torch.full((4,), 0.1), torch.Generator())
        >>> round(found.ratio.estimate.item(), 6), found.before, found.after  # 3.5/.1 : 1.5/.9
        (21.0, 3, 1)

    Args:
        time: Share of the unit's watched time at which each event came, 0 to 1.
        unit: Number of the unit of each event.
        boundary: Share of each unit's time that is before, strictly between 0 and 1.
        weight: How much was watched in each unit, such as its number of series; 1 by default.

    Raises:
        BadInput: If a time is outside 0 to 1, or a boundary is not strictly inside.
        InsufficientData: If there are fewer than two units or 19 draws, or no event.
    """
    units = len(boundary)
    if units < 2 or len(time) == 0 or draws < 19:
        raise InsufficientData(
            f"rates over units take 2 units, an event and 19 draws, got {units}, {len(time)} and"
            f" {draws}: analyse more"
        )
    if not bool(((time >= 0) & (time <= 1)).all() and ((boundary > 0) & (boundary < 1)).all()):
        raise BadInput(
            "times are shares of the watched time, and boundaries lie inside it, found one outside:"
            " divide by the length of the unit"
        )
    time, boundary = time.double(), boundary.double()
    watched = torch.ones_like(boundary) if weight is None else weight.double()
    early, late = (boundary * watched).sum(), ((1 - boundary) * watched).sum()

    def ratio(before: Tensor) -> Tensor:
        return (before + HALF) / early / ((len(time) - before + HALF) / late)

    first = time < boundary[unit]
    observed = ratio(first.sum().double())
    drawn = torch.rand(draws, units, generator=generator, device=generator.device)
    turned = (time + drawn.to(time)[:, unit]) % 1
    null = ratio((turned < boundary[unit]).sum(1).double())
    error = _error(first, unit, boundary * watched, (1 - boundary) * watched)
    factor = (_student(units - 1, level) * error).exp()
    return Placement(
        ratio=Interval(
            estimate=observed, low=observed / factor, high=observed * factor, level=level
        ),
        null_mean=float(null.mean()), null_sd=float(null.std()),
        p=float(two_sided_p(observed, null)), before=int(first.sum()),
        after=int((~first).sum()), units=len(unit.unique()),
    )  # fmt: skip


def _error(first: Tensor, unit: Tensor, early: Tensor, late: Tensor) -> Float64[Tensor, ""]:
    """Standard error of the logarithm of the ratio: root of the sum of squared influences."""
    units = len(early)
    count = torch.zeros(2, units, dtype=torch.float64, device=early.device)
    count[0].index_add_(0, unit, first.double())
    count[1].index_add_(0, unit, (~first).double())
    exposure = torch.stack([early, late])
    total = count.sum(1, keepdim=True) + HALF
    off = count / total - exposure / exposure.sum(1, keepdim=True)
    return ((off[0] - off[1]).square().sum() * units / (units - 1)).sqrt()


def _student(dof: int, level: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(dof, (1 + checked_level(level)) / 2))
