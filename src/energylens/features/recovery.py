"""How much of a known dictionary was found: for rows whose features were planted."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

from energylens.core.errors import BadInput
from energylens.core.registry import measure
from energylens.features.code import SparseCode


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What stands for each planted feature.

    Attributes:
        partner: Feature of the dictionary, none twice; the pairing with the largest sum of cosines.
        cosine: Of its decoder row with the planted direction.
        precision: Share of the rows it is active on where the planted feature is.
        recall: Share of the planted feature's rows on which it is active.
        f1: Their harmonic mean; nan where the planted feature is never active.
    """

    partner: Int64[Tensor, " planted"]
    cosine: Float64[Tensor, " planted"]
    precision: Float64[Tensor, " planted"]
    recall: Float64[Tensor, " planted"]
    f1: Float64[Tensor, " planted"]


def recovery(
    planted: Float[Tensor, "planted d"],
    found: Float[Tensor, "feature d"],
    active: Bool[Tensor, "sample planted"],
    code: SparseCode,
) -> Recovery:
    """Pair planted features with found ones, and judge each pair by direction and by firing.

    Args:
        planted: True directions, of any norm but 0.
        found: Decoder rows; at least as many.
        active: Which planted features each row was made of.
        code: What the dictionary makes of the same rows.

    Raises:
        BadInput: If there are fewer found features than planted ones, or other rows in the code.
    """
    if len(found) < len(planted) or len(active) != len(code.indices):
        raise BadInput(
            f"{len(planted)} planted features of {len(active)} rows and {len(found)} found ones of"
            f" {len(code.indices)} rows were given: every planted one needs a partner of its own,"
            " on the same rows"
        )
    cosine = matched_cosines(planted, found)
    partner = _partners(planted, found)
    fired = code.columns(partner) != 0
    both = (fired & active).sum(0).double()
    precision, recall = both / _known(fired), both / _known(active)
    return Recovery(
        partner=partner, cosine=cosine, precision=precision.nan_to_num(0.0), recall=recall,
        f1=2 * both / (fired.sum(0) + _known(active)),
    )  # fmt: skip


@measure(
    units="cosine, 1 where a planted direction was found exactly",
    axes=(),
    source="mean correlation coefficient after optimal pairing (Hyvärinen & Morioka 2016; for"
    " dictionaries Sharkey et al. 2022)",
    null="random unit directions of the same width, paired in the same way",
    unchanged_by=("feature order", "positive scale of directions", "rotation of the space"),
    formula="MCC = max over pairings π of mean_i cos(d_i, w_π(i))",
)
def mean_matched_cosine(
    planted: Float[Tensor, "planted d"], found: Float[Tensor, "feature d"]
) -> Float64[Tensor, ""]:
    """Mean cosine of planted directions with the found ones they are paired with, one to one.

    Example:
        >>> axes = torch.eye(3)
        >>> float(mean_matched_cosine(axes[:2], axes.flip(0)))
        1.0
    """
    return matched_cosines(planted, found).mean()


def matched_cosines(
    planted: Float[Tensor, "planted d"], found: Float[Tensor, "feature d"]
) -> Float64[Tensor, " planted"]:
    """Cosine of each planted direction with its partner; see `mean_matched_cosine`."""
    mine, theirs = (normalize(w.double(), dim=1) for w in (planted, found))
    return (mine * theirs[_partners(planted, found)]).sum(1)


def _partners(planted: Tensor, found: Tensor) -> Tensor:
    """The pairing with the largest sum of cosines (Kuhn 1955)."""
    cosine = normalize(planted.double(), dim=1) @ normalize(found.double(), dim=1).T
    _, partner = linear_sum_assignment(cosine.cpu().numpy(), maximize=True)
    return torch.as_tensor(partner, device=planted.device)


def _known(active: Tensor) -> Tensor:
    """How often, as a divisor: nan for never."""
    count = active.sum(0).double()
    return torch.where(count > 0, count, torch.nan)
