"""EFAS by other correlations: within documents, where active alone, of ranks.

These need activation and force side by side on every sample, so they are computed for some
features at a time from samples that are held in memory, where EFAS itself streams.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from energylens.core.errors import UnknownName
from energylens.stats.ranking import average_ranks


@dataclass(frozen=True, kw_only=True)
class VariantAlignment:
    """A correlation of activation and force, with what its inference needs.

    Attributes:
        value: −1 to 1; nan where activation or force never varies.
        scores: Sums over each unit of centred activation × centred force, in the units of the
            variant; their expectation is zero under the null.
    """

    value: Float64[Tensor, " feature"]
    scores: Float64[Tensor, "unit feature"]


# Activations, forces and units to both with what the variant is blind to taken out.
Centring = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def variant_alignment(
    activation: Float[Tensor, "sample feature"],
    force: Float[Tensor, "sample feature"],
    unit: Int[Tensor, " sample"],
    variant: str,
) -> VariantAlignment:
    """Correlate each column of activations with the same column of forces.

    Args:
        unit: Which document each sample is from, counted from 0.
        variant: `all` is Pearson's over all samples, which is EFAS; `within` takes each unit's
            means out first; `active` looks at samples where the feature is active alone; `ranks`
            is Spearman's, ties sharing their mean rank.

    Raises:
        UnknownName: If there is no such variant.

    Example:
        >>> a = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
        >>> found = variant_alignment(a, a**3, torch.tensor([0, 0, 1, 1]), "ranks")
        >>> found.value.item()
        1.0
    """
    if variant not in VARIANTS:
        raise UnknownName("variant of EFAS", variant, VARIANTS)
    a, f = VARIANTS[variant](activation.double(), force.double(), unit)
    product = a * f
    scores = product.new_zeros(int(unit.max()) + 1, product.shape[1]).index_add_(0, unit, product)
    scale = (a.square().sum(0) * f.square().sum(0)).sqrt()
    return VariantAlignment(
        value=scores.sum(0) / torch.where(scale > 0, scale, torch.nan), scores=scores
    )


def _all(a: Tensor, f: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    return a - a.mean(0), f - f.mean(0)


def _within(a: Tensor, f: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    count = torch.bincount(unit).clamp_min(1)[:, None]
    means = (x.new_zeros(len(count), x.shape[1]).index_add_(0, unit, x) / count for x in (a, f))
    first, second = means
    return a - first[unit], f - second[unit]


def _active(a: Tensor, f: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    on = a > 0
    count = on.sum(0).clamp_min(1)
    centred = (torch.where(on, x - torch.where(on, x, 0.0).sum(0) / count, 0.0) for x in (a, f))
    first, second = centred
    return first, second


def _ranks(a: Tensor, f: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    return _all(average_ranks(a.T).T, average_ranks(f.T).T, unit)


VARIANTS: dict[str, Centring] = {
    "all": _all, "within": _within, "active": _active, "ranks": _ranks,
}  # fmt: skip
