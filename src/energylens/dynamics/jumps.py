"""Jumps: changes of level or slope that smooth training, drift and noise do not explain."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData
from energylens.dynamics.trend import saturating_basis
from energylens.stats.changepoint import (
    changing_scale,
    date_drop,
    fit_noise,
    null_gains,
    tail_p,
)
from energylens.stats.multiplicity import benjamini_hochberg
from energylens.stats.shifts import fit, prepare
from energylens.stats.templates import Ramps, Templates, ramps, sigmoids

KINDS = ("level", "slope")
# Samples of the rises that the null is scanned for, and from 10 to 90 % of those that are fitted.
COARSE = (1, 4, 9, 19, 39, 79, 119)
FINE = (0.0, *(3.0 * 1.5**k for k in range(9)))
FEWEST = 40
ROUNDING = 1e-6
COURSE_TOLERANCE, SCALE_TOLERANCE = 1e-3, 0.03
SERIES_AT_ONCE = 32
WITHIN = 1.0  # of the width of a shift: it reaches so far to either side


@dataclass(frozen=True, kw_only=True)
class JumpOptions:
    """How jumps are looked for.

    Attributes:
        level: Rate of false discoveries among the series, and level of each jump in its series.
        draws: Draws of the null of each series.
        block: Neighbouring samples that are drawn together.
        most: Jumps looked for in one series at most.
        apart: Samples between two jumps, and between a jump and the end of a series, at least.
        enter: Twice the log likelihood that a candidate must add before it is tested.
        clear: What one must add that is no part of the noise whatever the null says.
        amplitude: Least size of a jump in units of the `noise` given.
        slopes: Whether changes of slope are looked for too.
    """

    level: float = 0.05
    draws: int = 199
    block: int = 8
    most: int = 8
    apart: int = 5
    enter: float = 16.0
    clear: float = 25.0
    amplitude: float = 2.0
    slopes: bool = True


JUMP_OPTIONS = JumpOptions()


@dataclass(frozen=True, kw_only=True)
class Jumps:
    """Jumps of many series, a row each, in the order of series and steps.

    Attributes:
        series: Index of the series.
        step: Training step at which a change of level is half done, or a slope changes.
        low: Start of the 95 % interval of the step.
        high: Its end.
        width: Training steps from 10 to 90 % of a change; 0 is within one sample.
        amplitude: Of a change of level, in units of the series; of slope, per training step.
        kind: Index into `KINDS`: level or slope.
        p: Of the jump among the largest shifts of series without any.
        q: Of its series: p of its largest jump, adjusted over all series.
        series_p: p of the largest shift of each series; nan where it is undefined.
        series_q: The same, adjusted (Benjamini & Hochberg 1995).
        correlation: Of neighbouring samples of the noise, by series; nan where undefined.
    """

    series: Int[Tensor, " jump"]
    step: Int[Tensor, " jump"]
    low: Int[Tensor, " jump"]
    high: Int[Tensor, " jump"]
    width: Int[Tensor, " jump"]
    amplitude: Float64[Tensor, " jump"]
    kind: Int[Tensor, " jump"]
    p: Float64[Tensor, " jump"]
    q: Float64[Tensor, " jump"]
    series_p: Float64[Tensor, " series"]
    series_q: Float64[Tensor, " series"]
    correlation: Float64[Tensor, " series"]

    @property
    def undefined(self) -> int:
        """Series that could not be judged: constant, smooth to a thousandth, or with nan."""
        return int(self.series_p.isnan().sum())


def find_jumps(
    values: Float[Tensor, "series sample"],
    steps: Int[Tensor, " moment"],
    generator: torch.Generator,
    *,
    noise: Float[Tensor, " series"] | None = None,
    families: Int[Tensor, " series"] | None = None,
    options: JumpOptions = JUMP_OPTIONS,
) -> Jumps:
    """Find where series jump, beyond smooth courses and correlated noise that changes its size.

    Every series is a smooth course (`saturating_basis`), shifts, and autoregressive noise whose
    scale changes smoothly. Shifts (steps, ramps of several widths, changes of slope) enter one by
    one by their likelihood ratio, the correlation of the noise fitted with and without each; what
    remains gives the noise, and a block bootstrap of it the largest ratio of series without shifts.
    A shift stays whose ratio, beside the others, is beyond that null. Series that hold nan, are
    constant, or smooth to a thousandth are undefined (`Jumps.undefined` counts them).

    Args:
        values: One measure of one site a row.
        steps: Training steps of the samples, ascending.
        generator: Draws the null.
        noise: Standard deviation of the measurement itself, by series, from two halves of a probe:
            a jump must be `options.amplitude` of it.
        families: By series, which of them are one question: false discoveries are controlled
            within each. All of them by default.
        options: How they are looked for.

    Raises:
        InsufficientData: If there are fewer than 40 samples.
        BadInput: If the steps do not ascend, or a shape does not fit.
    """
    samples = values.shape[1]
    if samples < FEWEST:
        raise InsufficientData(
            f"jumps are looked for in {FEWEST} samples or more, got {samples}: measure more often"
        )
    if len(steps) != samples:
        raise BadInput(f"{samples} samples need as many steps, got {len(steps)}: give one each")
    if families is not None and len(families) != len(values):
        raise BadInput(
            f"{len(values)} series need as many families, got {len(families)}: give one each"
        )
    basis, parts = (
        saturating_basis(steps, tolerance=left).to(values.device)
        for left in (COURSE_TOLERANCE, SCALE_TOLERANCE)
    )
    with torch.device(values.device):
        coarse = ramps(samples, COARSE, margin=options.apart, slopes=options.slopes)
        fine = sigmoids(samples, FINE, margin=options.apart, slopes=options.slopes)
    y, size = _standardised(values.double(), basis, generator)
    places = size.isfinite().nonzero()[:, 0]
    found = [
        _examine(y[some], basis, parts, coarse, fine, generator, options)
        for some in places.split(SERIES_AT_ONCE) if len(some)
    ]  # fmt: skip
    return _gathered(found, places, size, steps, fine, noise, families, options)


def _standardised(
    values: Float64[Tensor, "series sample"],
    basis: Float64[Tensor, "sample column"],
    generator: torch.Generator,
) -> tuple[Float64[Tensor, "series sample"], Float64[Tensor, " series"]]:
    """What the smooth course leaves, at size 1, and the size; nan where there is nothing left.

    A line is taken out exactly, but an exponential only to a thousandth, so noise of a thousandth
    of the range that the line leaves is added: what is smaller is no change, however precise a
    series is.
    """
    level = values.abs().amax(1)
    line = basis[:, :2]
    y = values - values @ line @ line.T
    whole = y.amax(1) - y.amin(1)
    y = y - y @ basis @ basis.T
    size = y.square().mean(1).sqrt()
    known = COURSE_TOLERANCE * whole
    enough = (size > known) & (whole > ROUNDING * level)
    size = torch.where(enough & size.isfinite(), size, torch.nan)
    drawn = torch.randn(y.shape, generator=generator, device=generator.device, dtype=y.dtype)
    return (y + known[:, None] * drawn.to(y.device)) / size[:, None], size


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What some series hold: templates by series and order of entry, −1 for none."""

    chosen: Int[Tensor, "series order"]
    p: Float64[Tensor, "series order"]
    weight: Float64[Tensor, "series order"]
    low: Float64[Tensor, "series order"]
    high: Float64[Tensor, "series order"]
    series_p: Float64[Tensor, " series"]
    correlation: Float64[Tensor, " series"]


def _examine(
    y: Float64[Tensor, "series sample"],
    basis: Float64[Tensor, "sample column"],
    scale_basis: Float64[Tensor, "sample part"],
    coarse: Ramps,
    fine: Templates,
    generator: torch.Generator,
    options: JumpOptions,
) -> _Found:
    """Choose shifts, draw the null of their noise, and keep those that are beyond it."""
    rough = changing_scale(y, scale_basis)
    shapes = fine.shapes
    any_ = prepare(basis.expand(len(y), -1, -1), rough, coarse).gain(y[:, None])[:, 0]
    chosen = _candidates(y, basis, rough, fine, any_ > options.enter / 2, options)
    clear = _losses(y, basis, shapes, chosen, rough) > options.clear
    taken = torch.where(clear, chosen, -1)
    left = fit_noise(y, _columns(basis, shapes, taken), rough, scale_basis)
    scale = left.scale
    alone = prepare(basis.expand(len(y), -1, -1), scale, coarse)
    null = null_gains(alone, left, options.draws, block=options.block, generator=generator)
    first = alone.gain(y[:, None])[:, 0]
    gains = _losses(y, basis, shapes, chosen, scale)
    each = null[:, None].expand(-1, gains.shape[1], -1)
    p = tail_p(gains.T, each).T
    while bool((p > options.level).any()):  # the weakest goes, and the others are judged anew
        worst = p.nan_to_num(-1).argmax(1, keepdim=True)
        weak = p.gather(1, worst) > options.level
        chosen = chosen.scatter(1, worst, torch.where(weak, -1, chosen.gather(1, worst)))
        gains = _losses(y, basis, shapes, chosen, scale)
        p = tail_p(gains.T, each).T
    low, high = _dates(y, basis, chosen, scale, fine)
    return _Found(
        chosen=chosen, p=p, low=low, high=high,
        weight=_weights(y, basis, shapes, chosen, scale),
        series_p=tail_p(torch.maximum(first, gains.nan_to_num(0).amax(1)), null),
        correlation=left.correlation,
    )  # fmt: skip


def _candidates(
    y: Tensor, basis: Tensor, scale: Tensor, templates: Templates, hopeful: Tensor,
    options: JumpOptions,
) -> Int[Tensor, "series order"]:  # fmt: skip
    """Shifts that enter one by one while they add enough; each entry moves the others to fit."""
    chosen = torch.full((len(y), options.most), -1, device=y.device)
    running = hopeful.nonzero()[:, 0]
    for order in range(options.most if len(running) else 0):
        gain, best = _best(y, basis, scale, templates, chosen, running, order, options.apart)
        enter = gain > options.enter
        running, best = running[enter], best[enter]
        if not len(running):
            break
        chosen[running, order] = best
        for earlier in range(order + 1 if order else 0):
            chosen[running, earlier] = _best(
                y, basis, scale, templates, chosen, running, earlier, options.apart
            )[1]
    return chosen


def _best(
    y: Tensor, basis: Tensor, scale: Tensor, templates: Templates, chosen: Tensor,
    rows: Tensor, order: int, apart: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The shift that adds most to all others that some series have, and what it adds."""
    others = chosen[rows].index_fill(1, torch.tensor(order, device=y.device), -1)
    columns = _columns(basis, templates.shapes, others)
    gains = prepare(columns, scale[rows], templates).gains(y[rows])
    return gains.masked_fill(_near(others, templates, apart), -torch.inf).max(1)


def _near(chosen: Tensor, templates: Templates, apart: int) -> Tensor:
    """Templates within a shift that was chosen: what its shape leaves is no shift of its own."""
    middle, width = templates.middle, templates.width
    taken = torch.where(chosen < 0, -torch.inf, middle[chosen.clamp_min(0)])
    reach = (WITHIN * width[chosen.clamp_min(0)]).clamp_min(apart)
    return ((middle[None, None] - taken[..., None]).abs() < reach[..., None]).any(1)


def _columns(basis: Tensor, shapes: Tensor, chosen: Tensor) -> Tensor:
    """The smooth columns and the chosen shifts; zeros where a series has fewer than others."""
    chosen = chosen[:, (chosen >= 0).any(0)]
    shifts = shapes[chosen.clamp_min(0)] * (chosen >= 0)[..., None]
    return torch.cat([basis.expand(len(chosen), -1, -1), shifts.mT], 2)


def _losses(
    y: Tensor, basis: Tensor, shapes: Tensor, chosen: Tensor, scale: Tensor
) -> Float64[Tensor, "series order"]:
    """Twice the log likelihood that each chosen shift adds to the others; nan where none is."""
    whole = fit(y, _columns(basis, shapes, chosen), scale).likelihood
    losses = y.new_full(chosen.shape, torch.nan)
    for order in range(chosen.shape[1]):
        some = (chosen[:, order] >= 0).nonzero()[:, 0]
        if len(some):
            without = chosen[some].index_fill(1, torch.tensor(order, device=y.device), -1)
            rest = fit(y[some], _columns(basis, shapes, without), scale[some]).likelihood
            losses[some, order] = whole[some] - rest
    return losses


def _weights(
    y: Tensor, basis: Tensor, shapes: Tensor, chosen: Tensor, scale: Tensor
) -> Float64[Tensor, "series order"]:
    """How large each chosen shift is; 0 where none is."""
    used = (chosen >= 0).any(0)
    found = fit(y, _columns(basis, shapes, chosen), scale).weights[:, basis.shape[1] :]
    return y.new_zeros(chosen.shape).index_copy(1, used.nonzero()[:, 0], found)


def _dates(
    y: Tensor, basis: Tensor, chosen: Tensor, scale: Tensor, templates: Templates
) -> tuple[Tensor, Tensor]:
    """Between which samples the middle of each chosen shift lies, by profile likelihood."""
    low = y.new_full(chosen.shape, torch.nan)
    high = low.clone()
    middle = templates.middle
    for order in range(chosen.shape[1]):
        some = (chosen[:, order] >= 0).nonzero()[:, 0]
        if not len(some):
            continue
        this = chosen[some, order]
        others = chosen[some].index_fill(1, torch.tensor(order, device=y.device), -1)
        gains = prepare(_columns(basis, templates.shapes, others), scale[some], templates).gains(
            y[some]
        )
        alike = templates.slope[None] == templates.slope[this][:, None]
        inside = alike & (gains >= gains.gather(1, this[:, None]) - date_drop())
        half = (templates.gap - 1) / 2
        low[some, order] = torch.where(inside, middle - half, torch.inf).amin(1)
        high[some, order] = torch.where(inside, middle + half, -torch.inf).amax(1)
    return low, high


def _gathered(
    found: list[_Found], places: Tensor, size: Tensor, steps: Tensor,
    templates: Templates, noise: Tensor | None, families: Tensor | None, options: JumpOptions,
) -> Jumps:  # fmt: skip
    """All series together, false discoveries among them controlled, in steps and their units."""

    def whole(name: str) -> Tensor:
        return torch.cat([getattr(some, name) for some in found])

    undefined = torch.full_like(size, torch.nan)
    series_p = undefined.clone()
    correlation = undefined.clone()
    if found:
        series_p[places], correlation[places] = whole("series_p"), whole("correlation")
    series_q = _adjusted(series_p, families)
    if not found:
        chosen = torch.empty(0, options.most, dtype=torch.long, device=size.device)
    else:
        chosen = whole("chosen")
    row, order = (chosen >= 0).nonzero(as_tuple=True)
    row, order = _in_order(row, order, chosen, templates)
    kept = series_q[places[row]] <= options.level
    row, order = row[kept], order[kept]
    which, series = chosen[row, order], places[row]

    def of(name: str) -> Tensor:
        return whole(name)[row, order] if found else size.new_empty(0)

    amplitude = of("weight") * size[series]
    middle, rise, slope = (
        column[which] for column in (templates.middle, templates.width, templates.slope)
    )
    date, last = middle.ceil().long(), len(steps) - 1
    begin = (middle - rise / 2).ceil().long().clamp(0, last)
    end = torch.where(slope, last, (middle + rise / 2).floor().long().clamp(0, last))
    span = (steps[end] - steps[begin]).clamp_min(0)
    if noise is not None:
        clear = amplitude.abs() >= options.amplitude * noise.to(amplitude)[series]
    else:
        clear = torch.ones_like(slope)
    return Jumps(
        series=series[clear], step=steps[date][clear],
        low=steps[of("low").floor().long().clamp(0, last)][clear],
        high=steps[of("high").ceil().long().clamp(0, last)][clear],
        width=torch.where(slope, 0, span)[clear],
        amplitude=torch.where(slope, amplitude / span, amplitude)[clear],
        kind=slope.long()[clear], p=of("p")[clear], q=series_q[series][clear],
        series_p=series_p, series_q=series_q, correlation=correlation,
    )  # fmt: skip


def _adjusted(p: Tensor, families: Tensor | None) -> Float64[Tensor, " series"]:
    """Benjamini & Hochberg within each family."""
    if families is None:
        return benjamini_hochberg(p)
    q = torch.full_like(p, torch.nan)
    for family in families.unique():
        here = families.to(p.device) == family
        q[here] = benjamini_hochberg(p[here])
    return q


def _in_order(
    row: Tensor, order: Tensor, chosen: Tensor, templates: Templates
) -> tuple[Tensor, Tensor]:
    """By series, and within one by place."""
    middle = templates.middle[chosen[row, order]]
    first = middle.argsort(stable=True)
    then = row[first].argsort(stable=True)
    return row[first][then], order[first][then]
