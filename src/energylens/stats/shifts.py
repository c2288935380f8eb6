"""Likelihood of a shift at any place of a series, beside a smooth course and correlated noise.

The series is x = X β + a h + e: columns X, a template h with an amplitude, and noise e whose
standard deviation may change and whose value is φ times the one before plus something new. Every
quantity is over all templates and all series at once.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.stats.templates import Templates

# Correlations of neighbours at which the likelihood is looked at.
CORRELATIONS = (0.0, 0.3, 0.55, 0.75, 0.88, 0.95, 0.985)
# A template of which the columns leave less than this share is no other course than theirs.
OWN_SHARE = 0.001


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
        templates: The shapes that are tried.
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
            for along, size in zip(self.templates.onto(pulled), sizes, strict=True)
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
        best = values.new_full((len(values), len(self.templates.shapes)), -torch.inf)
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
    shapes = templates.shapes.to(scale)
    before = torch.nn.functional.pad(shapes, (1, 0))[:, :-1]
    u = scale.square().reciprocal().T
    squared, crossed, lagged = shapes.square() @ u, (shapes * before) @ u, before.square() @ u
    bases, own = [], []
    for phi in CORRELATIONS:
        x = whitened(columns.mT, scale.new_tensor(phi).expand(1, 1), scale[:, None]).mT
        q = orthonormal(x)
        size = (squared - 2 * phi * crossed + phi**2 * lagged).T
        pulled = _transposed(q.mT, phi, scale[:, None]).float()  # precise enough, and the most work
        left = size - torch.cat(templates.onto(pulled), -1).square_().sum(1)
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
        # Shifts of which one is nearly the sum of others: as little as rounding would move it.
        gram = gram + 1e-13 * torch.diag_embed(gram.diagonal(dim1=1, dim2=2))
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
