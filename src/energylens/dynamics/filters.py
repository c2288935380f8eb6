"""How alike the filters of a layer are, beside filters drawn at random."""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn.functional import normalize

from energylens.core.errors import InsufficientData
from energylens.core.registry import measure


@measure(
    units="cosine",
    axes=("filter",),
    source="definition: mean size of the cosines of a filter with all others of its layer",
    null="the same layer at its initialisation; random directions: `isotropic_filter_cosine`",
    unchanged_by=("filter order", "scale and sign of filters", "rotation of the space"),
    formula="mean over g ≠ f of |cos(w_f, w_g)|",
)
def filter_cosine(weights: Float[Tensor, "filter ..."]) -> Float64[Tensor, " filter"]:
    """How much each filter repeats the others, whatever its sign; nan for filters of 0.

    Example:
        >>> filter_cosine(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, -3.0]])).tolist()
        [0.0, 0.5, 0.5]

    Raises:
        InsufficientData: If fewer than two filters are not 0.
    """
    return _over_others(_cosines(weights).abs())


@measure(
    units="1 where all are orthogonal",
    axes=("filter",),
    source="definition: one minus the mean squared cosine with the others, as the soft"
    " orthogonality of Bansal et al. 2018, arXiv:1810.09102",
    null="the same layer at its initialisation; random directions in d dimensions: 1 − 1 / d",
    unchanged_by=("filter order", "scale and sign of filters", "rotation of the space"),
    formula="1 − mean over g ≠ f of cos²(w_f, w_g)",
)
def filter_orthogonality(weights: Float[Tensor, "filter ..."]) -> Float64[Tensor, " filter"]:
    """How free of the others each filter is; nan for filters of 0.

    Example:
        >>> filter_orthogonality(torch.eye(3)).tolist()
        [1.0, 1.0, 1.0]

    Raises:
        InsufficientData: If fewer than two filters are not 0.
    """
    return 1 - _over_others(_cosines(weights).square())


def isotropic_filter_cosine(d: int) -> float:
    """Mean |cos| of random directions in d dimensions: Γ(d/2) / (√π Γ((d + 1)/2)).

    Example:
        >>> [round(isotropic_filter_cosine(d), 4) for d in (1, 2)]  # 1 and 2/π
        [1.0, 0.6366]
    """
    return math.exp(math.lgamma(d / 2) - math.lgamma((d + 1) / 2)) / math.sqrt(math.pi)


def _cosines(weights: Tensor) -> Float64[Tensor, "filter filter"]:
    """Cosines of all pairs, nan where either is 0."""
    rows = weights.double().flatten(1)
    zero = ~(torch.linalg.vector_norm(rows, dim=1) > 0)
    if len(rows) - int(zero.sum()) < 2:
        raise InsufficientData(
            f"filters are compared in pairs, found {len(rows) - int(zero.sum())} that are not 0: "
            "give a layer with 2 or more"
        )
    unit = normalize(rows, dim=1)
    cosines = (unit @ unit.T).clamp(-1, 1)
    return cosines.masked_fill(zero[:, None] | zero[None, :], torch.nan)


def _over_others(pairs: Float64[Tensor, "filter filter"]) -> Float64[Tensor, " filter"]:
    return pairs.fill_diagonal_(torch.nan).nanmean(1)
