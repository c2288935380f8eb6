"""Exact and near-exact intervals of rates and counts."""

import torch
from jaxtyping import Num
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.interval import Interval, checked_level


def wilson_interval(
    successes: Num[Tensor, "*#shape"], n: Num[Tensor, "*#shape"], *, level: float = 0.95
) -> Interval:
    """Share of successes among n independent trials (Wilson 1927); nan where n is 0.

    Example:
        >>> interval = wilson_interval(torch.tensor(0), torch.tensor(10))
        >>> [round(x.item(), 4) for x in (interval.low, interval.estimate, interval.high)]
        [0.0, 0.0, 0.2775]

    Raises:
        BadInput: If a count is negative or there are more successes than trials.
    """
    successes, n = torch.broadcast_tensors(successes.double(), n.double())
    if bool(((successes < 0) | (successes > n)).any()):
        raise BadInput(
            "a rate needs 0 ≤ successes ≤ trials, found a pair outside: check the arguments' order"
        )
    z2 = torch.special.ndtri(n.new_tensor((1 + checked_level(level)) / 2)).square()
    rate = successes / n  # 0 / 0 is nan
    middle = (successes + z2 / 2) / (n + z2)
    half = (z2 * (rate * (1 - rate) * n + z2 / 4)).sqrt() / (n + z2)
    low = middle - half
    high = torch.where(successes == n, rate, middle + half)  # 1 up to rounding
    return Interval(estimate=rate, low=low, high=high, level=level)


def clustered_rate_interval(
    successes: Num[Tensor, "unit *#shape"], n: Num[Tensor, "unit *#shape"], *, level: float = 0.95
) -> Interval:
    """Share of successes where trials within a unit depend on each other; nan where there is none.

    Wilson's interval on the effective number of trials: Σ n over the design effect, which is the
    variance of the rate between units over that of as many independent trials (Korn & Graubard
    1998); never more than the trials there are. Where all succeed, or none, the units say nothing
    of their dependence, and each counts as one trial.

    Example:
        >>> alike = clustered_rate_interval(torch.tensor([9, 0, 0, 0]), torch.tensor([9, 9, 9, 9]))
        >>> one_each = wilson_interval(torch.tensor(1), torch.tensor(4))
        >>> alike.low.item() < one_each.low.item() < 0.25
        True

    Raises:
        InsufficientData: If there are fewer than two units.
        BadInput: If a count is negative or there are more successes than trials.
    """
    if len(n) < 2:
        raise InsufficientData(f"a rate over units needs 2 of them, got {len(n)}: use more units")
    successes, n = successes.double(), n.double()
    wilson_interval(successes, n, level=level)  # refuses impossible counts
    total, units = n.sum(0), (n > 0).sum(0)
    rate = successes.sum(0) / total
    between = (successes - rate * n).square().sum(0) * units / (units - 1) / total.square()
    alone = rate * (1 - rate) / total
    effective = torch.where(alone > 0, torch.minimum(total, total * alone / between), units)
    return wilson_interval(rate * effective, effective, level=level)


def poisson_interval(count: Num[Tensor, "*shape"], *, level: float = 0.95) -> Interval:
    """Expected count behind an observed one, exact (Garwood 1936).

    Example:
        >>> interval = poisson_interval(torch.tensor(0))
        >>> interval.low.item(), round(interval.high.item(), 4)
        (0.0, 3.6889)

    Raises:
        BadInput: If a count is negative.
    """
    from scipy.special import gammaincinv

    count = count.double()
    if bool((count < 0).any()):
        raise BadInput(f"a count is not negative, got {count.min().item()}: check what was counted")
    tail = (1 - checked_level(level)) / 2
    seen = count.numpy(force=True)

    def quantile(shape: object, share: float) -> Tensor:
        return torch.as_tensor(gammaincinv(shape, share), dtype=count.dtype, device=count.device)

    low = torch.where(count > 0, quantile(seen.clip(min=1e-300), tail), count)
    return Interval(estimate=count, low=low, high=quantile(seen + 1, 1 - tail), level=level)
