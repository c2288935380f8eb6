"""Which feature of one dictionary is which of another: by what they do on the same text.

Dictionaries of two models have no common space, but they can read the same documents. A feature's
partner is the one whose activations, averaged over the same stretches of text, correlate with its
own the most (Bricken et al. 2023; Lan et al. 2024, arXiv:2410.06981).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Matches:
    """The best partner of each feature.

    Attributes:
        partner: Its index in the other dictionary.
        correlation: With that partner, where it was chosen: biased upwards, since it is a maximum.
        mutual: Whether the feature is its partner's best partner too.
    """

    partner: Int64[Tensor, " feature"]
    correlation: Float[Tensor, " feature"]
    mutual: Bool[Tensor, " feature"]


def standard_scores(activation: Float[Tensor, "stretch feature"]) -> Float[Tensor, "..."]:
    """Columns with mean 0 and sum of squares 1, [stretch feature]; one that never varies is nan."""
    centred = activation - activation.mean(0)
    size = torch.linalg.vector_norm(centred, dim=0)
    return centred / torch.where(size > 0, size, torch.nan)


def correlations(
    scores: Float[Tensor, "stretch feature"], others: Float[Tensor, "stretch other"]
) -> Float[Tensor, "feature other"]:
    """Correlation of every feature with every other; both as `standard_scores`.

    Example:
        >>> a = standard_scores(torch.tensor([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0]]))
        >>> correlations(a, a).round(decimals=3).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    return scores.T @ others


def best_partners(correlation: Float[Tensor, "feature other"]) -> Matches:
    """The partner with the largest correlation; features without any defined one get nan.

    Example:
        >>> found = best_partners(torch.tensor([[0.9, 0.1], [0.8, 0.2]]))
        >>> found.partner.tolist(), found.mutual.tolist()
        ([0, 0], [True, False])
    """
    known = correlation.nan_to_num(-torch.inf)
    largest, partner = known.max(1)
    back = known.argmax(0)
    own = torch.arange(len(partner), device=partner.device)
    defined = largest.isfinite()
    return Matches(
        partner=partner, correlation=torch.where(defined, largest, torch.nan),
        mutual=defined & (back[partner] == own),
    )  # fmt: skip


def with_partner(
    scores: Float[Tensor, "stretch feature"],
    others: Float[Tensor, "stretch other"],
    partner: Int64[Tensor, " feature"],
) -> Float[Tensor, " feature"]:
    """Correlation of each feature with one other, on stretches that did not choose it."""
    return (scores * others[:, partner]).sum(0)
