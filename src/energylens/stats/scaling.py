"""Power laws with a floor: how a loss falls with size, and how well its exponents are known."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.stats.interval import Interval, checked_level

if TYPE_CHECKING:
    import numpy as np

STEEPEST = 4.0  # exponents are sought from 0 to here
_STARTS = (0.2, 0.7, 1.5)
_CALLS = 200  # of the law, in one search


@dataclass(frozen=True, kw_only=True)
class ScalingLaw:
    """loss = floor + Σ_a amplitude_a (size_a / unit_a)^−exponent_a, fitted.

    Attributes:
        floor: What no size removes, in the unit of the loss.
        amplitude: What each size removes, where it is at its unit.
        exponent: Of each size; undefined (nan) intervals where nothing could be fitted.
        unit: Geometric mean of each size over the points.
        error: Standard deviation of ln loss about the law.
        explained: Share of the variance of ln loss that the law explains.
        misfit_p: Of the law being right, where points repeat (F test of lack of fit); else nan.
        points: Points fitted.
        why: Why nothing could be fitted, in one sentence; empty if it could.
    """

    floor: Interval
    amplitude: Float64[Tensor, " axis"]
    exponent: Interval
    unit: Float64[Tensor, " axis"]
    error: float
    explained: float
    misfit_p: float
    points: int
    why: str = ""

    def at(self, sizes: Float[Tensor, "point axis"]) -> Float64[Tensor, " point"]:
        """The loss that the law gives at these sizes."""
        power = (sizes.double() / self.unit).pow(-self.exponent.estimate)
        return self.floor.estimate + power @ self.amplitude


def scaling_law(
    loss: Float[Tensor, " point"],
    sizes: Float[Tensor, "point axis"],
    *,
    block: Int[Tensor, " point"] | None = None,
    level: float = 0.95,
) -> ScalingLaw:
    """Fit a power law with a floor by least squares on ln loss, all parameters ≥ 0.

    The form is that of Kaplan et al. (2020, arXiv 2001.08361) and Hoffmann et al. (2022,
    2203.15556); of dictionaries, Gao et al. (2024, 2406.04093).

    Intervals are profiles: a value belongs to one if holding the parameter there, and fitting all
    others anew, raises the sum of squares by no more than Student's t² allows, with as many degrees
    of freedom as points exceed parameters. They hold for independent errors of one size in ln loss;
    where points with the same sizes are repeats, `misfit_p` tells whether the law itself is wrong.
    An exponent that data without any trend could have has 0 in its interval.

    Args:
        loss: Of each point, above 0.
        sizes: Of each point along each axis, above 0.
        block: What is common to some points, such as the documents that all of one seed are judged
            on: each block's mean of ln loss is taken to that of all, and costs a degree of freedom.

    Too few points are refused with nan and a sentence: along one size alone four different values
    are needed, along each of several three, and more points at different places than parameters.

    Example:
        >>> width = torch.tensor([1.0, 2, 4, 8, 16])[:, None]
        >>> law = scaling_law(0.1 + 0.4 * width[:, 0] ** -0.5, width)
        >>> round(law.exponent.estimate.item(), 3), round(law.floor.estimate.item(), 3)
        (0.5, 0.1)
        >>> scaling_law(torch.ones(2), torch.tensor([[1.0], [2.0]])).why
        'a law needs 4 different sizes, and there are 2'

    Raises:
        BadInput: If a loss or a size is not above 0 and finite, blocks are not all at the same
            places, or the level is not between 0 and 1.
    """
    loss, sizes = loss.double().cpu(), sizes.double().cpu()
    checked_level(level)
    for what, values in (("loss", loss), ("size", sizes)):
        if not bool((values.isfinite() & (values > 0)).all()):
            raise BadInput(f"a {what} of a law is not above 0 and finite: leave that point out")
    unit = sizes.log().mean(0).exp() if len(sizes) else sizes.new_full(sizes.shape[1:], math.nan)
    if why := _too_few(sizes):
        return _undefined(unit, len(loss), level, why)
    levelled, spent = _levelled(loss.log(), sizes, block)
    loss = levelled.exp()
    fit = _Fit(loss, sizes / unit)
    best, least = fit.best()
    freedom = len(loss) - fit.parameters - spent
    intervals = [_profile(fit, k, best, least, freedom, level) for k in range(fit.parameters)]
    axes = sizes.shape[1]
    estimate = torch.as_tensor(best, dtype=torch.float64)
    ends = torch.tensor(intervals, dtype=torch.float64)
    return ScalingLaw(
        floor=Interval(estimate=estimate[0], low=ends[0, 0], high=ends[0, 1], level=level),
        amplitude=estimate[1 : 1 + axes],
        exponent=Interval(
            estimate=estimate[1 + axes :], low=ends[1 + axes :, 0], high=ends[1 + axes :, 1],
            level=level,
        ),
        unit=unit,
        error=math.sqrt(least / freedom),
        explained=1 - least / max(float(loss.log().var(correction=0)) * len(loss), 1e-300),
        misfit_p=_misfit(levelled, sizes, least, fit.parameters, spent),
        points=len(loss),
    )  # fmt: skip


def log_slope(
    loss: Float[Tensor, " point"],
    size: Float[Tensor, " point"],
    *,
    block: Int[Tensor, " point"] | None = None,
    level: float = 0.95,
) -> Interval:
    """Slope of ln loss on ln size, by least squares; Student's t interval over the points.

    nan where fewer than three sizes differ. A law with a floor is flatter than its exponent.
    `block` as in `scaling_law`.

    Example:
        >>> size = torch.tensor([1.0, 2, 4, 8])
        >>> round(log_slope(3 * size**-0.5, size).estimate.item(), 6)
        -0.5

    Raises:
        BadInput: If blocks are not all at the same sizes.
    """
    from scipy.special import stdtrit

    x, y = size.double().log(), loss.double().log()
    if len(x.unique()) < 3 or not bool(y.isfinite().all()):
        nan = torch.tensor(math.nan, dtype=torch.float64, device=y.device)
        return Interval(estimate=nan, low=nan, high=nan, level=checked_level(level))
    y, spent = _levelled(y, size[:, None], block)
    x = x - x.mean()
    slope = (x * y).sum() / x.square().sum()
    off = y - y.mean() - slope * x
    freedom = len(x) - 2 - spent
    error = (off.square().sum() / freedom / x.square().sum()).sqrt()
    half = float(stdtrit(freedom, (1 + checked_level(level)) / 2)) * error
    return Interval(estimate=slope, low=slope - half, high=slope + half, level=level)


class _Fit:
    """Least squares on ln loss; the parameters are floor, amplitudes, exponents, in that order.

    Sizes are in their units and the loss in its own geometric mean, so that all parameters are
    near 1 and no start is far. What is searched is an angle or a root of each parameter, which
    keeps it in its bounds.
    """

    def __init__(self, loss: Tensor, sizes: Tensor) -> None:
        self._scale = float(loss.log().mean().exp())
        self._y, self._x = (loss.log() - math.log(self._scale)).numpy(), sizes.log().numpy()
        self._axes = sizes.shape[1]
        self.parameters = 1 + 2 * self._axes

    def best(
        self, held: int | None = None, value: float = 0.0, near: "np.ndarray | None" = None
    ) -> tuple["np.ndarray", float]:
        """Parameters and their sum of squares; one may be held at a value.

        Args:
            near: Where to begin; else at several places, of which the best end is taken.
        """
        import numpy as np
        from scipy.optimize import leastsq

        unit = np.array([self._scale] * (1 + self._axes) + [1.0] * self._axes)
        free = np.array([k for k in range(self.parameters) if k != held])
        full = np.empty(self.parameters)
        if held is not None:
            full[held] = self._searched(np.full(self.parameters, value) / unit)[held]

        def off(part: "np.ndarray") -> "np.ndarray":
            full[free] = part
            return np.log(self._law(self._meant(full))) - self._y

        def slopes(part: "np.ndarray") -> "np.ndarray":
            full[free] = part
            return self._slopes(full)[:, free]

        found, least = None, math.inf
        for start in self._starts() if near is None else [near / unit]:
            end, *_ = leastsq(off, self._searched(start)[free], Dfun=slopes, full_output=True,
                              xtol=1e-9, ftol=1e-11, maxfev=_CALLS)  # fmt: skip
            squares = float(np.square(off(end)).sum())
            if squares < least:
                found, least = self._meant(full.copy()) * unit, squares
        assert found is not None
        return found, least

    def _starts(self) -> "list[np.ndarray]":
        import numpy as np

        return [
            np.array([floor, *[(1 - floor) / self._axes] * self._axes, *exponents])
            for floor in (0.05, 0.6)
            for exponents in product(_STARTS, repeat=self._axes)
        ]

    def _searched(self, meant: "np.ndarray") -> "np.ndarray":
        """Where the search is for these parameters; a hair inside, where it has a slope."""
        import numpy as np

        linear, exponent = meant[: 1 + self._axes], meant[1 + self._axes :] / STEEPEST
        inside = np.clip(exponent, 1e-9, 1 - 1e-9)
        return np.concatenate([np.sqrt(np.maximum(linear, 1e-9)), np.arcsin(np.sqrt(inside))])

    def _meant(self, searched: "np.ndarray") -> "np.ndarray":
        import numpy as np

        linear, angle = searched[: 1 + self._axes], searched[1 + self._axes :]
        return np.concatenate([np.square(linear), STEEPEST * np.square(np.sin(angle))])

    def _law(self, meant: "np.ndarray") -> "np.ndarray":
        import numpy as np

        amplitude, exponent = np.split(meant[1:], 2)
        return meant[0] + np.exp(-self._x * exponent) @ amplitude + 1e-12

    def _slopes(self, searched: "np.ndarray") -> "np.ndarray":
        import numpy as np

        meant = self._meant(searched)
        amplitude, exponent = np.split(meant[1:], 2)
        power = np.exp(-self._x * exponent)
        of_meant = np.column_stack([np.ones(len(self._y)), power, -power * self._x * amplitude])
        inner = np.concatenate([
            2 * searched[: 1 + self._axes], STEEPEST * np.sin(2 * searched[1 + self._axes :])
        ])  # fmt: skip
        return of_meant * inner / self._law(meant)[:, None]


def _profile(
    fit: _Fit, number: int, best: "np.ndarray", least: float, freedom: int, level: float
) -> tuple[float, float]:
    """Both ends of one parameter's interval."""
    from scipy.special import stdtrit

    allowed = float(stdtrit(freedom, (1 + level) / 2)) ** 2 * max(least, 1e-24) / freedom
    amplitude = 0 < number <= (fit.parameters - 1) // 2
    if amplitude:  # no interval is told of it: its unit is a convention
        return math.nan, math.nan

    near = best

    def beyond(value: float) -> float:
        nonlocal near
        near, squares = min(
            fit.best(number, value, near), fit.best(number, value, best), key=lambda end: end[1]
        )
        return squares - least - allowed

    highest = STEEPEST if number else math.inf
    return _end(beyond, best[number], 0.0), _end(beyond, best[number], highest)


def _end(beyond: Callable[[float], float], inside: float, limit: float) -> float:
    """Where a parameter leaves its interval on the way to a limit; the limit if it does not."""
    from scipy.optimize import brentq

    if math.isinf(limit):
        limit = max(2 * inside, 1e-3)
        while beyond(limit) <= 0:
            inside, limit = limit, 2 * limit
    elif inside == limit or beyond(limit) <= 0:
        return limit
    low, high = sorted((inside, limit))
    return float(brentq(beyond, low, high, xtol=1e-4 * abs(high - low)))


def _levelled(log_loss: Tensor, sizes: Tensor, block: Tensor | None) -> tuple[Tensor, int]:
    """Without what blocks differ by, and how many degrees of freedom that took."""
    if block is None:
        return log_loss, 0
    blocks = block.cpu().unique()
    rows = [sizes[block.cpu() == one].tolist() for one in blocks]
    if any(sorted(row) != sorted(rows[0]) for row in rows):
        raise BadInput("blocks of a law are not all at the same sizes: leave out what is not whole")
    means = torch.stack([log_loss[block.cpu() == one].mean() for one in blocks])
    which = torch.searchsorted(blocks, block.cpu())
    return log_loss - means[which] + log_loss.mean(), len(blocks) - 1


def _misfit(log_loss: Tensor, sizes: Tensor, least: float, parameters: int, spent: int) -> float:
    """F test of what the law leaves over, against what repeats differ by."""
    from scipy.special import fdtrc

    places, which = sizes.unique(dim=0, return_inverse=True)
    repeats, lacking = len(log_loss) - len(places) - spent, len(places) - parameters
    if repeats < 1 or lacking < 1:
        return math.nan
    count = torch.bincount(which, minlength=len(places)).double()
    mean = torch.zeros(len(places), dtype=torch.float64).index_add_(0, which, log_loss) / count
    pure = float((log_loss - mean[which]).square().sum())
    if pure <= 0:
        return math.nan
    return float(fdtrc(lacking, repeats, max(0.0, least - pure) / lacking / (pure / repeats)))


def _too_few(sizes: Tensor) -> str:
    axes = sizes.shape[1]
    needed = 4 if axes == 1 else 3
    different = min((len(column.unique()) for column in sizes.T), default=0)
    if different < needed:
        each = "" if axes == 1 else " along each axis"
        return f"a law needs {needed} different sizes{each}, and there are {different}"
    places, parameters = len(sizes.unique(dim=0)), 1 + 2 * axes
    if places <= parameters:
        return (
            f"a law of {parameters} parameters needs {parameters + 1} points at different places,"
            f" and there are {places}"
        )
    return ""


def _undefined(unit: Tensor, points: int, level: float, why: str) -> ScalingLaw:
    def nan(*shape: int) -> Tensor:
        return torch.full(shape, math.nan, dtype=torch.float64)

    axes = len(unit)
    return ScalingLaw(
        floor=Interval(estimate=nan(), low=nan(), high=nan(), level=level),
        amplitude=nan(axes), unit=unit, error=math.nan, explained=math.nan, misfit_p=math.nan,
        exponent=Interval(estimate=nan(axes), low=nan(axes), high=nan(axes), level=level),
        points=points, why=why,
    )  # fmt: skip
