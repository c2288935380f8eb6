"""EFAS: does a feature rise where it lowers the energy? For all features at once, streaming.

With activations a [sample feature] (sparse), gradients g [sample d_model] and decoder rows d_f the
force on a feature is F_f = −⟨g, d_f⟩ and EFAS_f = corr(a_f, F_f). No [sample feature] matrix of
forces is ever made: ΣF_f = −⟨Σg, d_f⟩, ΣF_f² = d_fᵀ(Σ g gᵀ)d_f, and Σ a_f F_f only where a_f ≠ 0.
Beyond forward, backward and encoder this costs N·d² + N·k·d + m·d², in memory m·(documents) + d².
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.core.ports import Collective, solo
from energylens.core.registry import measure
from energylens.core.sparse import by_feature, sampled_products, transposed_product
from energylens.results.record import Estimate
from energylens.results.show import Shown, ShowsItself
from energylens.stats.multiplicity import benjamini_hochberg
from energylens.stats.nulls import enough_evidence
from energylens.stats.robust import cluster_mean_interval, cluster_robust_t

# Features that are shown, the largest |t| first.
MOST_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class ActivationSums:
    """Sums of a sparse code that every alignment of its features shares, per unit."""

    samples: Float[Tensor, " unit"]
    total: Float[Tensor, "unit feature"]
    active: Float[Tensor, "unit feature"]
    square: Float[Tensor, " feature"]

    @classmethod
    def zeros(
        cls, *, width: int, n_units: int, device: torch.device | str = "cpu"
    ) -> "ActivationSums":
        def wide(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=device)

        return cls(
            samples=wide(n_units),
            total=wide(n_units, width),
            active=wide(n_units, width),
            square=wide(width),
        )

    def add_(
        self,
        indices: Int[Tensor, "sample active"],
        values: Float[Tensor, "sample active"],
        unit: Int[Tensor, " sample"],
    ) -> None:
        """Count samples in: `unit` says which document each is from."""
        wide, features = values.double().flatten(), indices.flatten()
        cell = (unit[:, None] * len(self.square) + indices).flatten()
        self.samples.index_add_(0, unit, torch.ones_like(unit, dtype=torch.float64))
        self.total.view(-1).index_add_(0, cell, wide)
        self.active.view(-1).index_add_(0, cell, (wide > 0).double())
        self.square.index_add_(0, features, wide.square())

    def add_dense_(
        self, values: Float[Tensor, "sample feature"], unit: Int[Tensor, " sample"]
    ) -> None:
        """As `add_` for a code without sparsity: every feature's value on every sample."""
        wide = values.double()
        self.samples.index_add_(0, unit, torch.ones_like(unit, dtype=torch.float64))
        self.total.index_add_(0, unit, wide)
        self.active.index_add_(0, unit, (values > 0).double())
        self.square.add_(wide.square().sum(0))


@dataclass(frozen=True, kw_only=True)
class ForceSums:
    """Sums of gradients, and of activation × force, per unit.

    Attributes:
        cross: Sums of activation × gradient: what any direction's alignment is made of.
    """

    gradient: Float[Tensor, "unit d_model"]
    gram: Float[Tensor, "d_model d_model"]
    product: Float[Tensor, "unit feature"]
    cross: Float[Tensor, "feature d_model"]

    @classmethod
    def zeros(
        cls, *, width: int, d_model: int, n_units: int, device: torch.device | str = "cpu"
    ) -> "ForceSums":
        def wide(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=device)

        return cls(
            gradient=wide(n_units, d_model),
            gram=wide(d_model, d_model),
            product=wide(n_units, width),
            cross=torch.zeros(width, d_model, device=device),
        )

    def add_(
        self,
        indices: Int[Tensor, "sample active"],
        values: Float[Tensor, "sample active"],
        gradient: Float[Tensor, "sample d_model"],
        force: Float[Tensor, "sample active"],
        unit: Int[Tensor, " sample"],
    ) -> None:
        """Count samples in; `force` is `active_forces(indices, gradient, directions)`."""
        cell = (unit[:, None] * self.product.shape[1] + indices).flatten()
        product = (values.double() * force.double()).flatten()
        self.product.view(-1).index_add_(0, cell, product)
        self._add_gradient(gradient, unit)
        entries = by_feature(indices, len(self.cross))
        self.cross.add_(transposed_product(entries, values.to(gradient.dtype), gradient))

    def add_dense_(
        self,
        values: Float[Tensor, "sample feature"],
        gradient: Float[Tensor, "sample d_model"],
        force: Float[Tensor, "sample feature"],
        unit: Int[Tensor, " sample"],
    ) -> None:
        """As `add_` for a code without sparsity; `force` is −gradient · directionsᵀ."""
        self.product.index_add_(0, unit, values.double() * force.double())
        self._add_gradient(gradient, unit)
        self.cross.add_(values.T @ gradient)

    def _add_gradient(
        self, gradient: Float[Tensor, "sample d_model"], unit: Int[Tensor, " sample"]
    ) -> None:
        self.gradient.index_add_(0, unit, gradient.double())
        self.gram.add_(gradient.T @ gradient)


Sums = TypeVar("Sums", ActivationSums, ForceSums)
_BY_UNIT = {"samples", "total", "active", "gradient", "product"}


def join(pieces: Sequence[Sums]) -> Sums:
    """Sums over pieces of a stream that share no unit: rows by unit follow one another."""
    joined = {}
    for name in (field.name for field in fields(pieces[0])):
        parts = [getattr(piece, name) for piece in pieces]
        joined[name] = torch.cat(parts) if name in _BY_UNIT else torch.stack(parts).sum(0)
    return type(pieces[0])(**joined)


@dataclass(frozen=True, kw_only=True, repr=False)
class Alignment(ShowsItself):
    """EFAS of every feature with what its inference needs.

    Attributes:
        efas: Correlation of activation and force; nan where either never varies.
        scores: Sums over each unit of centred activation × centred force: under the null their
            expectation is zero, and units are independent.
        scale: What a total of scores is divided by to give the correlation.
        attribution: Mean of activation × force over all samples, in energy per sample: to first
            order the energy that ablating the feature adds.
        n_active: Samples on which the feature is active.
        n_units: Units in which it is active at least once.
    """

    efas: Float[Tensor, " feature"]
    scores: Float[Tensor, "unit feature"]
    scale: Float[Tensor, " feature"]
    attribution: Float[Tensor, " feature"]
    n_active: Float[Tensor, " feature"]
    n_units: Float[Tensor, " feature"]

    def shown(self) -> Shown:
        scored = enough_evidence(self.n_active, self.n_units) & self.efas.isfinite()
        units, features = self.scores.shape
        if units < 2:  # nothing to tell chance by
            return Shown(caption=f"EFAS of {features:,} features, one unit: no interval, no null")
        masked = torch.where(scored, self.scores, torch.nan)
        test, mean = cluster_robust_t(masked), cluster_mean_interval(masked)
        q, by_chance = benjamini_hochberg(test.p), self.efas / test.t
        most = test.t.abs().nan_to_num(-1).argsort(descending=True)
        shown = most[scored[most]][:MOST_SHOWN].tolist()
        to_efas = units / self.scale
        return Shown(
            caption=f"EFAS of {int(scored.sum()):,} features over {units:,} units"
            f" ({features - int(scored.sum()):,} more with too little evidence)",
            rows=[
                Estimate(
                    float(self.efas[f]), "", low=float(mean.low[f] * to_efas[f]),
                    high=float(mean.high[f] * to_efas[f]), null_mean=0.0,
                    null_sd=float(by_chance[f]), p=float(test.p[f]), q=float(q[f]),
                    label=f"feature {f}",
                ).row()
                for f in shown
            ],
            one_scale=True,
            notes=["Largest |t| first. Null: signs flipped by unit, p of each feature alone;"
                   f" {int((q <= 0.05).sum()):,} have q ≤ .05. That a feature's own direction does"
                   " better than another's is a second question, which matched_max_t answers."],
        )  # fmt: skip


def active_forces(
    indices: Int[Tensor, "sample active"],
    gradient: Float[Tensor, "sample d_model"],
    directions: Float[Tensor, "feature d_model"],
) -> Float[Tensor, "sample active"]:
    """F = −⟨∇E, d_f⟩ for the features active on each sample, in energy per unit of activation."""
    return sampled_products(gradient, indices, directions).neg_()


@measure(
    units="correlation, −1 to 1",
    axes=("feature",),
    source="seed report 000 (EFAS); exact streaming form derived here",
    null="zero covariance within documents: cluster-robust t and multiplier-bootstrap max-T over"
    " documents; beside it permuted decoder rows and matched random directions",
    formula="EFAS_f = corr(a_f, F_f), F_f = −⟨∇_h E, d_f⟩",
    unchanged_by=("sample order", "positive scale of the energy", "positive scale of activations"),
)
def energy_feature_alignment(
    activation: ActivationSums,
    force: ForceSums,
    directions: Float[Tensor, "feature d_model"],
    *,
    collective: Collective = solo,
) -> Alignment:
    """Correlate each feature's activation with the downhill slope along its direction.

    Positive: the feature rises where rising lowers the energy (attractor); negative: repulsor.

    Args:
        activation: Sums of the code over all samples, by unit.
        force: Sums of gradients over the same samples.
        directions: Decoder rows of unit norm.

    Returns:
        One entry a feature; a feature that never varies is nan, none is dropped.
    """
    d = directions.double()
    samples = collective.all_reduce(activation.samples.sum())
    mean_activation = collective.all_reduce(activation.total.sum(0)) / samples
    total_gradient = collective.all_reduce(force.gradient.sum(0))
    gram = collective.all_reduce(force.gram)
    mean_force = -(d @ total_gradient) / samples
    force_by_unit = -(force.gradient @ d.T)
    scores = (
        force.product
        - mean_force * activation.total
        - mean_activation * force_by_unit
        + activation.samples[:, None] * mean_activation * mean_force
    )
    square = collective.all_reduce(activation.square)
    spread = (square - samples * mean_activation.square()).clamp_min(0)
    slope = (torch.einsum("fd,fd->f", d @ gram, d) - samples * mean_force.square()).clamp_min(0)
    scale = (spread * slope).sqrt()
    scale = torch.where(scale > 0, scale, torch.nan)
    return Alignment(
        efas=collective.all_reduce(scores.sum(0)) / scale,
        scores=scores,
        scale=scale,
        attribution=collective.all_reduce(force.product.sum(0)) / samples,
        n_active=collective.all_reduce(activation.active.sum(0)),
        n_units=collective.all_reduce((activation.active > 0).double().sum(0)),
    )


def within_units(
    activation: ActivationSums, force: ForceSums, directions: Float[Tensor, "feature d_model"]
) -> tuple[ActivationSums, ForceSums]:
    """The same sums with every unit's means taken out of activations and gradients.

    Their alignment is the document-demeaned EFAS: that of features and forces moving together
    inside documents, blind to documents that hold more of both. Exact, from the sums alone; the
    attribution of such sums is the covariance within units, not a mean of activation × force.

    Raises:
        BadInput: If a unit holds no sample.
    """
    n = activation.samples[:, None]
    if not bool((n > 0).all()):
        raise BadInput(f"{int((n == 0).sum())} of {len(n)} units hold no sample: leave them out")
    mean = force.gradient / n
    by_unit = -(force.gradient @ directions.double().T)
    square = activation.square - (activation.total.square() / n).sum(0)
    return replace(activation, total=torch.zeros_like(activation.total), square=square), ForceSums(
        gradient=torch.zeros_like(force.gradient),
        gram=force.gram - force.gradient.T @ mean,
        product=force.product - activation.total * by_unit / n,
        cross=force.cross - (activation.total.T @ mean).to(force.cross),
    )


def alignment_with_every_direction(
    activation: ActivationSums,
    force: ForceSums,
    directions: Float[Tensor, "direction d_model"],
    *,
    features: Int[Tensor, " feature"],
    collective: Collective = solo,
) -> Float[Tensor, "feature direction"]:
    """Correlation of each feature's activation with the force along each direction.

    The diagonal, where directions are the features' own decoder rows, is EFAS. Costs one product
    [feature d_model]·[d_model direction]; needs no second look at the data.
    """
    samples = collective.all_reduce(activation.samples.sum())
    mean = collective.all_reduce(activation.total.sum(0))[features] / samples
    total_gradient = collective.all_reduce(force.gradient.sum(0))
    gram = collective.all_reduce(force.gram)
    cross = collective.all_reduce(force.cross)[features].double()
    covariance = cross - mean[:, None] * total_gradient
    square = collective.all_reduce(activation.square)[features]
    spread = (square - samples * mean.square()).clamp_min(0).sqrt()
    d = directions.double()
    mean_force = (d @ total_gradient) / samples
    slope = (torch.einsum("fd,fd->f", d @ gram, d) - samples * mean_force.square()).clamp_min(0)
    left = covariance / torch.where(spread > 0, spread, torch.nan)[:, None]
    right = d / torch.where(slope > 0, slope.sqrt(), torch.nan)[:, None]
    return -(left.float() @ right.float().T)
