"""How the rows of a decoder lie: how close the nearest are, and which are found again."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn.functional import normalize

from energylens.core.errors import InsufficientData
from energylens.core.registry import measure

_AT_ONCE = 1024


@measure(
    units="cosine",
    axes=("feature",),
    source="definition: as in SAELens' weight statistics",
    null="decoder rows dealt out among the features",
    unchanged_by=("positive scale of rows", "rotation of the space"),
    formula="cos(W_enc[f], W_dec[f])",
)
def encoder_decoder_cosine(
    W_enc: Float[Tensor, "feature d"], W_dec: Float[Tensor, "feature d"]
) -> Float64[Tensor, " feature"]:
    """Whether a feature reads what it writes; nan where either row is 0."""
    return (_unit(W_enc) * _unit(W_dec)).sum(1)


@measure(
    units="cosine",
    axes=("feature",),
    source="definition: of a decoder row with the nearest other one",
    null="as many random unit directions",
    unchanged_by=("feature order", "positive scale of rows", "rotation of the space"),
    formula="max over g ≠ f of cos(W[f], W[g])",
)
def nearest_cosine(rows: Float[Tensor, "feature d"]) -> Float64[Tensor, " feature"]:
    """Cosine of each row with the one nearest to it, in blocks; nan for rows of 0.

    Example:
        >>> nearest_cosine(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 3.0]])).tolist()
        [0.0, 1.0, 1.0]

    Raises:
        InsufficientData: If there is one row alone.
    """
    if len(rows) < 2:
        raise InsufficientData(f"a nearest row needs 2 rows, got {len(rows)}: use a wider matrix")
    unit = _unit(rows)
    found = []
    for first in range(0, len(unit), _AT_ONCE):
        block = unit[first : first + _AT_ONCE]
        cosine = (block @ unit.T).nan_to_num(-torch.inf)
        own = torch.arange(len(block), device=rows.device)
        cosine[own, first + own] = -torch.inf
        found.append(cosine.amax(1))
    nearest = torch.cat(found)
    return torch.where(nearest.isfinite() & unit.isfinite().all(1), nearest, torch.nan)


@measure(
    units="cosine, 1 where every row is found again",
    axes=(),
    source="mean max cosine similarity (Sharkey et al. 2022); many rows may have one partner,"
    " unlike `mean_matched_cosine`",
    null="random unit directions of the same shapes; rows with their coordinates dealt out anew;"
    " random rows with the same covariance and norms",
    unchanged_by=("feature order", "positive scale of rows", "rotation of the space"),
    formula="mean over f of max over g of cos(W[f], V[g])",
)
def mean_max_cosine(
    rows: Float[Tensor, "feature d"], others: Float[Tensor, "other d"]
) -> Float64[Tensor, ""]:
    """How well, on average, a row of one dictionary is found again among those of another.

    Example:
        >>> float(mean_max_cosine(torch.eye(2), torch.tensor([[2.0, 0.0], [1.0, 0.0]])))
        0.5
    """
    return max_cosines(rows, others).nanmean()


def max_cosines(
    rows: Float[Tensor, "feature d"], others: Float[Tensor, "other d"]
) -> Float64[Tensor, " feature"]:
    """Cosine of each row with the nearest of others, in blocks; nan for rows of 0."""
    theirs = _unit(others)
    theirs = theirs[theirs.isfinite().all(1)]
    return torch.cat([(block @ theirs.T).amax(1) for block in _unit(rows).split(_AT_ONCE)])


def _unit(rows: Tensor) -> Tensor:
    zero = ~(torch.linalg.vector_norm(rows, dim=1, keepdim=True) > 0)
    return normalize(rows.double(), dim=1).masked_fill(zero, torch.nan)
