"""Times until something happens, where it has not happened to all: Kaplan–Meier and log-rank."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.interval import Interval, checked_level
from energylens.stats.multiplicity import ROUNDING

DRAWS_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class Survival:
    """The share to which it has not happened yet, over time.

    Attributes:
        time: Every time at which it happened to someone, ascending.
        alive: Share to which it had not happened after each time, with its interval; its upper end
            is nan where the share is 0.
        at_risk: How many it could still have happened to, just before each time.
        median: First time at which the share is at most one half; the ends are the first times at
            which the ends of the share are. inf where that never comes.
        subjects, events: How many there were, and to how many it happened.
    """

    time: Float64[Tensor, " event"]
    alive: Interval
    at_risk: Float64[Tensor, " event"]
    median: Interval
    subjects: int
    events: int


def kaplan_meier(
    time: Float[Tensor, " subject"],
    censored: Bool[Tensor, " subject"],
    *,
    unit: Int[Tensor, " subject"] | None = None,
    level: float = 0.95,
) -> Survival:
    """The share to which it has not happened (Kaplan & Meier 1958), by `scipy.stats.ecdf`.

    The interval is normal in log(−log(share)), which keeps it between 0 and 1, with Greenwood's
    variance where subjects are independent. Where several are of one unit, such as the layers of
    one training, the variance is that of the sums over units (Ying & Wei 1994), on Student's law
    with units − 1 degrees of freedom.

    Example:
        >>> time = torch.tensor([1.0, 2.0, 3.0, 4.0])
        >>> found = kaplan_meier(time, torch.tensor([False, True, False, False]))
        >>> found.alive.estimate.tolist(), found.median.estimate.item()
        ([0.75, 0.375, 0.0], 3.0)

    Args:
        time: When it happened, or, where censored, until when it had not.
        unit: Which unit a subject is of; None if each is its own.

    Raises:
        InsufficientData: If there is no subject, or are fewer than two units.
        BadInput: If a time is not finite, or the level is not between 0 and 1.
    """
    from scipy.stats import CensoredData, ecdf

    _check(time, censored)
    time = time.double()
    known = CensoredData.right_censored(time.numpy(force=True), censored.numpy(force=True))
    curve = ecdf(known).sf
    happened = torch.isin(torch.as_tensor(curve.quantiles), time[~censored].cpu())
    at = torch.as_tensor(curve.quantiles)[happened].to(time.device)
    share = torch.as_tensor(curve.probabilities)[happened].to(time.device)
    at_risk = (time[:, None] >= at).sum(0).double()
    if unit is None:
        error = _greenwood(time, censored, at, at_risk)
        reach = _normal(level)
    else:
        error, units = _between_units(time, censored, at, at_risk, unit)
        reach = _student(units - 1, level)
    # The standard error of log(−log S) is that of log S over −log S.
    power = (reach * error / share.log().abs()).exp()
    low = torch.where(share > 0, share**power, 0.0)
    high = torch.where(share > 0, share ** (1 / power), torch.nan)
    ends = Interval(estimate=share, low=low, high=high, level=level)
    median = Interval(
        estimate=_first(at, share), low=_first(at, low), high=_first(at, high), level=level
    )
    return Survival(
        time=at, alive=ends, at_risk=at_risk, median=median, subjects=len(time),
        events=int((~censored).sum()),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LogRank:
    """Do groups differ in when it happens?

    Attributes:
        excess: Events of each group minus what it would have at the pooled rates: above 0 where it
            happens earlier.
        expected: Events at the pooled rates.
        p: By dealing the groups out anew among the units; nan where it happens to nobody, or there
            is one group.
    """

    excess: Float64[Tensor, " group"]
    expected: Float64[Tensor, " group"]
    p: float


def log_rank(
    time: Float[Tensor, " subject"],
    censored: Bool[Tensor, " subject"],
    group: Int[Tensor, " subject"],
    generator: torch.Generator,
    *,
    unit: Int[Tensor, " subject"] | None = None,
    draws: int = 1999,
) -> LogRank:
    """Compare when it happens in two or more groups (Mantel 1966).

    A subject's score is 1 if it happened to it, minus the risk that all subjects ran up to its
    time (Nelson & Aalen); a group's scores sum to its observed minus its expected events. The
    statistic is Σ_g (Σ scores)² / units of g. Under the null, whole units may as well be of
    another group, if they are censored alike. `scipy.stats.logrank` has the same sums for two
    groups, and takes subjects for independent.

    Example:
        >>> time, g = torch.arange(1.0, 13), torch.Generator().manual_seed(0)
        >>> found = log_rank(time, time < 0, (time > 6).long(), g)
        >>> found.p < 0.01, found.excess.sum().abs().item() < 1e-9
        (True, True)

    Args:
        group: Numbers from 0; a unit is of one group.
        unit: Which unit a subject is of; None if each is its own.

    Raises:
        InsufficientData: If there is no subject, or are fewer than 19 draws.
        BadInput: If a time is not finite, or a unit is of two groups.
    """
    _check(time, censored)
    if draws < 19:
        raise InsufficientData(f"a p of .05 needs 19 draws, got {draws}: draw more")
    time = time.double()
    number = _numbered(unit, len(time)).to(time.device)
    units = int(number.max()) + 1
    of = torch.zeros(units, dtype=torch.long, device=time.device).scatter(0, number, group)
    if bool((of[number] != group).any()):
        raise BadInput("a unit is of two groups: give each of its subjects the same")
    at = time[~censored].unique()
    risk = _risk(time, censored, at)
    score = (~censored).double() - risk
    by_unit = torch.zeros(units, dtype=torch.float64, device=time.device).index_add(
        0, number, score
    )
    member = torch.nn.functional.one_hot(of).double()
    excess = by_unit @ member
    expected = torch.zeros_like(excess).index_add(0, group, risk)

    def statistic(sums: Tensor) -> Tensor:
        return (sums.square() / member.sum(0).clamp(min=1)).sum(-1)

    observed, beyond = statistic(excess), 0
    if not float(observed) > 0:
        return LogRank(excess=excess, expected=expected, p=torch.nan)
    for done in range(0, draws, DRAWS_AT_ONCE):
        size = min(DRAWS_AT_ONCE, draws - done)
        drawn = torch.rand(size, units, generator=generator, device=generator.device)
        null = statistic(by_unit[drawn.argsort(1).to(time.device)] @ member)
        beyond += int((null >= observed * (1 - ROUNDING)).sum())
    return LogRank(excess=excess, expected=expected, p=(1 + beyond) / (1 + draws))


def _risk(time: Tensor, censored: Tensor, at: Tensor) -> Float64[Tensor, " subject"]:
    """The risk summed up to each subject's time, Σ_{t ≤ time} events at t / at risk at t."""
    at_risk = (time[:, None] >= at).sum(0).double()
    events = ((time[:, None] == at) & ~censored[:, None]).sum(0).double()
    return ((time[:, None] >= at) * (events / at_risk)).sum(1)


def _greenwood(time: Tensor, censored: Tensor, at: Tensor, at_risk: Tensor) -> Tensor:
    """Standard error of the logarithm of the share, √Σ d / (n (n − d)); inf where it is 0."""
    events = ((time[:, None] == at) & ~censored[:, None]).sum(0).double()
    return (events / (at_risk * (at_risk - events))).cumsum(0).sqrt()


def _between_units(
    time: Tensor, censored: Tensor, at: Tensor, at_risk: Tensor, unit: Tensor
) -> tuple[Tensor, int]:
    """Standard error of the logarithm of the share from the sums of its influences over units."""
    number = _numbered(unit, len(time)).to(time.device)
    units = int(number.max()) + 1
    if units < 2:
        raise InsufficientData(f"an interval over units needs 2 of them, got {units}: use more")
    here = (time[:, None] == at) & ~censored[:, None]
    events = here.sum(0).double()
    at_risk_here = (time[:, None] >= at).double()
    # Each subject's part of Σ d / n: its own event minus the rate at which it was at risk.
    left = (at_risk - events).clamp(min=1)  # with Greenwood's n − d, so that one unit each is his
    part = ((here.double() - at_risk_here * events / at_risk) / left).cumsum(1)
    sums = torch.zeros(units, len(at), dtype=torch.float64, device=time.device)
    sums = sums.index_add(0, number, part)
    return (sums.square().sum(0) * units / (units - 1)).sqrt(), units


def _first(at: Tensor, share: Tensor) -> Float64[Tensor, ""]:
    """The first time at which the share is at most one half, inf if there is none."""
    below = share <= 0.5
    return at[below][0] if bool(below.any()) else at.new_tensor(torch.inf)


def _check(time: Tensor, censored: Tensor) -> None:
    if len(time) == 0:
        raise InsufficientData("a survival curve needs a subject, got none: measure some")
    if len(time) != len(censored) or not bool(time.isfinite().all()):
        raise BadInput(
            f"each of {len(time)} subjects needs a finite time and a mark, got {len(censored)}"
            " marks: give a censored one the time until which it was watched"
        )


def _numbered(unit: Tensor | None, subjects: int) -> Tensor:
    return torch.arange(subjects) if unit is None else unit.unique(return_inverse=True)[1]


def _normal(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + checked_level(level)) / 2))


def _student(dof: int, level: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(dof, (1 + checked_level(level)) / 2))
