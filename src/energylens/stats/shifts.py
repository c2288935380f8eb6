"""Likelihood of a shift at any place of a series, beside a smooth course and correlated noise.

The series is x = X β + a h + e: columns X, a template h with an amplitude, and noise e whose
standard deviation may change and whose value is φ times the one before plus something new. A
template is a ramp from 0 to 1; one of width 1 is a step, one that lasts to the end a change of
slope. Every quantity is over all templates and all series at once.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

# Correlations of neighbours at which the likelihood is looked at.
CORRELATIONS = (0.0, 0.2, 0.4, 0.6, 0.75, 0.85, 0.92, 0.96, 0.985)
# A template of which the columns leave less than this share is no other course than theirs.
OWN_SHARE = 0.01
# Places of a ramp that are tried within its width.
PLACES = 4


class Ramps(NamedTuple):
    """Ramps of one width (0: they rise to the end), at every `stride`-th place from `start`."""

    start: int
    stop: int
    stride: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Templates:
    """Ramps that are 0 at first, and at their end 1.

    Attributes:
        groups: Those of one width.
        samples: Length of the series.
        start: Of each, the first sample that is above 0.
        width: Samples that the rise takes; 1 is a step.
        slope: Whether it rises to the end: a change of slope, not of level.
    """

    groups: tuple[Ramps, ...]
    samples: int
    start: Int[Tensor, " template"]
    width: Int[Tensor, " template"]
    slope: Bool[Tensor, " template"]

    def shapes(self) -> Float64[Tensor, "template sample"]:
        """The templates themselves."""
        place = torch.arange(self.samples, device=self.start.device)
        rise = (place - self.start[:, None] + 1) / self.width[:, None]
        return rise.clamp(0, 1).double()

    def counts(self) -> list[int]:
        """Templates of each group."""
        return [len(range(some.start, some.stop, some.stride)) for some in self.groups]

    def middle(self) -> Float64[Tensor, " template"]:
        """The place, in samples, at which a shift is half done, or a slope changes."""
        return self.start - 1 + torch.where(self.slope, 0.0, self.width.double() / 2)


def ramps(
    samples: int,
    widths: tuple[int, ...],
    *,
    margin: int,
    slopes: bool = True,
    device: torch.device | None = None,
) -> Templates:
    """Steps and ramps of some widths at every place, the wide ones at every few samples.

    Args:
        samples: Length of the series.
        widths: Samples of a rise; those over a third of the series are left out.
        margin: Samples that must be free of the rise at either end.
        slopes: Whether changes of slope are among them.
        device: Of the templates.
    """
    groups = [
        Ramps(margin, samples - margin - width + 2, max(1, width // PLACES), width)
        for width in widths if width <= samples / 3
    ]  # fmt: skip
    if slopes:
        groups.append(Ramps(2 * margin, samples - 2 * margin, max(1, samples // 100), 0))
    starts = [torch.arange(some.start, some.stop, some.stride, device=device) for some in groups]
    widths_ = [start.new_full(start.shape, some.width) for start, some in zip(starts, groups)]
    start, width = torch.cat(starts), torch.cat(widths_)
    slope = width == 0
    return Templates(groups=tuple(groups), samples=samples, start=start, slope=slope,
                     width=torch.where(slope, samples - start, width))  # fmt: skip


def whitened(
    values: Float[Tensor, "*series sample"],
    correlation: Float[Tensor, "*#series"],
    scale: Float[Tensor, "*#series sample"],
) -> Float[Tensor, "*series sample"]:
    """What is new in each sample of an autoregressive series, in units of the noise."""
    phi = correlation[..., None]
    new = torch.cat(
        [values[..., :1] * (1 - phi.square()).sqrt(), values[..., 1:] - phi * values[..., :-1]], -1
    )
    return new / scale


def coloured(
    new: Float[Tensor, "*series sample"],
    correlation: Float[Tensor, "*#series"],
    scale: Float[Tensor, "*#series sample"],
) -> Float[Tensor, "*series sample"]:
    """The inverse of `whitened`: Σ_k φ^k of what was new k samples ago, by doubling k."""
    phi = correlation[..., None]
    values = new * scale
    values = torch.cat([values[..., :1] / (1 - phi.square()).sqrt(), values[..., 1:]], -1)
    reach = 1
    while reach < values.shape[-1]:
        values = torch.cat(
            [values[..., :reach], values[..., reach:] + phi * values[..., :-reach]], -1
        )
        phi, reach = phi.square(), 2 * reach
    return values


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What a scan needs to know of the columns and the scale of some series.

    Attributes:
        templates: The ramps that are tried.
        scale: Standard deviation of what is new in each sample, up to a factor.
        basis: Orthonormal columns, whitened, by correlation.
        own: 1 / squared size of each whitened template beyond the columns, by correlation; 0 where
            the columns follow it.
    """

    templates: Templates
    scale: Float[Tensor, "series sample"]
    basis: Float[Tensor, "correlation series sample column"]
    own: Float[Tensor, "correlation series template"]

    def residual(self, values: Float[Tensor, "series draw sample"], k: int) -> Tensor:
        """Whitened values beyond the columns, at the k-th correlation."""
        phi = values.new_tensor(CORRELATIONS[k]).expand(1, 1)
        y = whitened(values, phi, self.scale[:, None].to(values))
        q = self.basis[k].to(values)
        return y - (y @ q) @ q.mT

    def explained(
        self, residual: Float[Tensor, "series draw sample"], k: int
    ) -> list[Float[Tensor, "series draw place"]]:
        """By how much each template would lower the squares of a residual, by group."""
        pulled = _transposed(residual, CORRELATIONS[k], self.scale[:, None].to(residual))
        sizes = self.own[k][:, None].to(residual).split(self.templates.counts(), -1)
        return [
            along.square_().mul_(size)
            for along, size in zip(_onto(pulled, self.templates), sizes, strict=True)
        ]

    def gain(self, values: Float[Tensor, "series draw sample"]) -> Float[Tensor, "series draw"]:
        """Twice the log likelihood that the best shift adds to the columns alone."""
        without = values.new_full(values.shape[:2], -torch.inf)
        best = without
        for k, phi in enumerate(CORRELATIONS):
            residual = self.residual(values, k)
            squares = residual.square().sum(-1)
            most = torch.stack([some.amax(-1) for some in self.explained(residual, k)]).amax(0)
            without = torch.maximum(without, _likelihood(squares, phi, values.shape[-1]))
            best = torch.maximum(best, _likelihood(squares - most, phi, values.shape[-1]))
        return best - without

    def gains(self, values: Float[Tensor, "series sample"]) -> Float[Tensor, "series template"]:
        """The same of every template."""
        without = values.new_full((len(values), 1), -torch.inf)
        best = values.new_full((len(values), len(self.templates.start)), -torch.inf)
        for k, phi in enumerate(CORRELATIONS):
            residual = self.residual(values[:, None], k)
            squares = residual.square().sum(-1)
            each = squares - torch.cat(self.explained(residual, k), -1)[:, 0]
            without = torch.maximum(without, _likelihood(squares, phi, values.shape[-1]))
            best = torch.maximum(best, _likelihood(each, phi, values.shape[-1]))
        return best - without


def prepare(
    columns: Float[Tensor, "series sample column"],
    scale: Float[Tensor, "series sample"],
    templates: Templates,
) -> Scan:
    """Whiten the columns at every correlation and size the templates beyond them.

    A column of zeros is no column.
    """
    shapes = templates.shapes().to(scale)
    before = torch.nn.functional.pad(shapes, (1, 0))[:, :-1]
    u = scale.square().reciprocal().T
    squared, crossed, lagged = shapes.square() @ u, (shapes * before) @ u, before.square() @ u
    bases, own = [], []
    for phi in CORRELATIONS:
        x = whitened(columns.mT, scale.new_tensor(phi).expand(1, 1), scale[:, None]).mT
        q = orthonormal(x)
        size = (squared - 2 * phi * crossed + phi**2 * lagged).T
        pulled = _transposed(q.mT, phi, scale[:, None])
        left = size - torch.cat(_onto(pulled, templates), -1).square().sum(1)
        bases.append(q)
        own.append(torch.where(left > OWN_SHARE * size, left.reciprocal(), 0.0))
    return Scan(templates=templates, scale=scale, basis=torch.stack(bases), own=torch.stack(own))


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Columns fitted by maximum likelihood, at the best of the correlations.

    Attributes:
        likelihood: Twice the log likelihood, up to a constant of the series.
        weights: Of the columns.
    """

    likelihood: Float[Tensor, " series"]
    weights: Float[Tensor, "series column"]


def fit(
    values: Float[Tensor, "series sample"],
    columns: Float[Tensor, "series sample column"],
    scale: Float[Tensor, "series sample"],
) -> Fit:
    """Likelihood and weights of some columns; a column of zeros has the weight 0."""
    empty = (columns == 0).all(1)
    best = values.new_full((len(values),), -torch.inf)
    weights = values.new_zeros(len(values), columns.shape[2])
    for phi in CORRELATIONS:
        at = values.new_tensor(phi)[None]
        x, y = whitened(columns.mT, at[None], scale[:, None]).mT, whitened(values, at, scale)
        gram = x.mT @ x + torch.diag_embed(empty.to(values))
        some = torch.cholesky_solve(x.mT @ y[..., None], torch.linalg.cholesky(gram))
        squares = (y - (x @ some)[..., 0]).square().sum(1)
        here = _likelihood(squares, phi, values.shape[1])
        weights = torch.where((here > best)[:, None], some[..., 0], weights)
        best = torch.maximum(best, here)
    return Fit(likelihood=best, weights=weights)


def orthonormal(columns: Float[Tensor, "series sample column"]) -> Tensor:
    """The same span with columns of length 1 at right angles; columns of zeros stay."""
    size = torch.linalg.vector_norm(columns, dim=1, keepdim=True)
    unit = columns / size.clamp_min(1e-300)
    empty = (size == 0).squeeze(1)
    for _ in range(2):  # once more, since columns may be nearly alike
        gram = unit.mT @ unit + torch.diag_embed(empty.to(unit))
        root = torch.linalg.cholesky(gram + 1e-13 * torch.eye(gram.shape[-1], dtype=gram.dtype,
                                                              device=gram.device))  # fmt: skip
        unit = torch.linalg.solve_triangular(root, unit.mT, upper=False).mT
    return unit


def _likelihood(squares: Tensor, phi: float, samples: int) -> Tensor:
    """Twice the log likelihood, the scale at its best, up to a constant."""
    return -samples * squares.clamp_min(torch.finfo(squares.dtype).tiny).log() + float(
        torch.log1p(torch.tensor(-(phi**2), dtype=torch.float64))
    )


def _transposed(new: Tensor, phi: float, scale: Tensor) -> Tensor:
    """The transpose of `whitened` on values."""
    weighed = new / scale
    first = weighed[..., :1] * (1 - phi**2) ** 0.5
    here = torch.cat([first, weighed[..., 1:]], -1)
    return torch.cat([here[..., :-1] - phi * weighed[..., 1:], here[..., -1:]], -1)


def _onto(values: Tensor, templates: Templates) -> list[Tensor]:
    """Inner products with every template, by group: means of sums to the end."""
    after = values.flip(-1).cumsum(-1).flip(-1)
    summed = torch.nn.functional.pad(after.cumsum(-1), (1, 0))
    products = []
    for start, stop, stride, width in templates.groups:
        if width == 1:
            products.append(after[..., start:stop:stride].clone())
        elif width:
            end = summed[..., start + width : stop + width : stride]
            products.append((end - summed[..., start:stop:stride]) / width)
        else:
            length = templates.samples - torch.arange(start, stop, stride, device=values.device)
            products.append((summed[..., -1:] - summed[..., start:stop:stride]) / length)
    return products
