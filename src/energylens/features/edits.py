"""Changing a few features of a row so that it becomes another row.

The row itself is moved, x + Σ Δa_f d_f, so that what the dictionary fails to reconstruct stays.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.core.registry import measure
from energylens.core.sparse import combine, sampled_products
from energylens.features.code import SparseCode

ROUNDING = 1e-5  # a smaller share of an activation is no change of it


@dataclass(frozen=True, kw_only=True, eq=False)
class Edit:
    """Features that are changed, a few a row, in the order in which they were chosen.

    Attributes:
        features: Which; any number where nothing is changed.
        changes: By how much, in units of activation; 0 where nothing is changed.
    """

    features: Int64[Tensor, "row most"]
    changes: Float[Tensor, "row most"]

    def first(self, count: int) -> "Edit":
        """The first so many changes of each row."""
        return Edit(features=self.features[:, :count], changes=self.changes[:, :count])

    def move(self, W_dec: Float[Tensor, "feature d"]) -> Float[Tensor, "row d"]:
        """What the changes add to each row."""
        return combine(self.features, self.changes, W_dec)

    def count(self) -> Int64[Tensor, " row"]:
        """Features that are changed in each row."""
        return (self.changes != 0).sum(1)


def differences(before: SparseCode, after: SparseCode) -> Edit:
    """Every change that turns one code into another, row by row.

    Example:
        >>> first, second = torch.tensor([[0, 2]]), torch.tensor([[2, 3]])
        >>> a = SparseCode(indices=first, values=torch.tensor([[1.0, 4.0]]), width=5)
        >>> b = SparseCode(indices=second, values=torch.tensor([[1.0, 2.0]]), width=5)
        >>> change = differences(a, b)
        >>> change.features.tolist(), change.changes.tolist()
        ([[0, 2, 2, 3]], [[-1.0, -3.0, 0.0, 2.0]])

    Raises:
        BadInput: If the codes are of different dictionaries or numbers of rows.
    """
    if before.width != after.width or len(before.indices) != len(after.indices):
        raise BadInput(
            f"codes of {len(before.indices)} rows of {before.width} features and of"
            f" {len(after.indices)} rows of {after.width} were given: encode as many rows with one"
            " dictionary"
        )
    shared = (before.indices[:, :, None] == after.indices[:, None]) & (
        (before.values != 0)[:, :, None] & (after.values != 0)[:, None]
    )
    kept = (shared * after.values[:, None]).sum(2)
    new = torch.where(shared.any(1), 0.0, after.values)
    change = kept - before.values
    change = torch.where(change.abs() > ROUNDING * kept.abs(), change, 0.0)
    return Edit(
        features=torch.cat([before.indices, after.indices], dim=1),
        changes=torch.cat([change, new], dim=1),
    )


def greedy_edit(
    changes: Edit,
    wanted: Float[Tensor, "row d"],
    W_dec: Float[Tensor, "feature d"],
    most: int,
) -> Edit:
    """Of all changes the one that leaves least to do, then the next, until none helps.

    Args:
        changes: What may be chosen of: `differences` of the row's code and of another's.
        wanted: What is to be added to each row.
        most: Changes of a row.
    """
    norms = W_dec.square().sum(1)[changes.features]
    left, open_ = wanted.to(W_dec), changes.changes != 0
    features, chosen = [], []
    for _ in range(most):
        along = sampled_products(left.contiguous(), changes.features, W_dec)
        gain = 2 * changes.changes * along - changes.changes.square() * norms
        best, which = torch.where(open_, gain, -torch.inf).max(1, keepdim=True)
        feature = changes.features.gather(1, which)
        change = changes.changes.gather(1, which) * (best > 0)
        open_ = open_.scatter(1, which, False)
        left = left - change * W_dec[feature[:, 0]]
        features.append(feature)
        chosen.append(change)
    return Edit(features=torch.cat(features, 1), changes=torch.cat(chosen, 1))


def random_edit(changes: Edit, most: int, generator: torch.Generator) -> Edit:
    """Of all changes some at random: they are of features that are active in the same rows."""
    order = torch.rand(changes.changes.shape, generator=generator, device=generator.device)
    order = torch.where(changes.changes != 0, order.to(changes.changes), -1.0)
    which = order.topk(min(most, order.shape[1]), dim=1).indices
    return Edit(
        features=changes.features.gather(1, which), changes=changes.changes.gather(1, which)
    )


def labelled_edit(
    code: SparseCode,
    off: Int64[Tensor, "row m"],
    on: Int64[Tensor, "row m"],
    strength: Float[Tensor, " feature"],
) -> Edit:
    """Take away features that stand for the old value, and add those that stand for the new one.

    In turns, beginning with one to take away. What is not active cannot be taken away, and what is
    active already is brought to its usual strength.

    Args:
        off: Features of the old value, best first; −1 for none.
        on: Features of the new value.
        strength: Mean activation of each feature where it is active.
    """
    pairs = torch.stack([off, on], dim=2).flatten(1)
    adds = torch.arange(pairs.shape[1], device=pairs.device) % 2 == 1
    feature = pairs.clamp(min=0)
    there = code.indices[:, None] == feature[:, :, None]
    now = (there * code.values[:, None]).sum(2)
    target = torch.where(adds, strength[feature], 0.0)
    # One that stands for both values is not to be changed, and one that is changed twice, once.
    both = (off[:, :, None] == on[:, None]) & (off >= 0)[:, :, None]
    shared = torch.stack([both.any(2), both.any(1)], dim=2).flatten(1)
    skipped = (pairs < 0) | shared
    return Edit(features=feature, changes=torch.where(skipped, 0.0, target - now))


@measure(
    units="share of the reconstruction about b_dec, 1 where nothing of it is left",
    axes=("sample",),
    source="weight of features in Makelov, Lange & Nanda 2024, arXiv:2405.08366",
    null="the same number of active features at random",
    unchanged_by=("positive scale of activations", "features that are added"),
    formula="Σ over what is taken away of Δ_f d_f · m / ‖m‖², m = Σ a_f d_f",
)
def edit_weight(
    code: SparseCode, edit: Edit, W_dec: Float[Tensor, "feature d"]
) -> Float64[Tensor, " row"]:
    """How much of what the dictionary says of a row an edit takes away; nan for an empty code.

    Shares of all active features sum to 1. Only what is taken away counts: an edit that needs much
    of it changes the row, not an attribute of it.

    Example:
        >>> one = torch.tensor([[0, 1]])
        >>> code = SparseCode(indices=one, values=torch.tensor([[1.0, 2.0]]), width=2)
        >>> edit = Edit(features=one[:, :1], changes=torch.tensor([[-1.0]]))
        >>> round(edit_weight(code, edit, torch.eye(2)).item(), 4)
        0.2
    """
    made = combine(code.indices, code.values, W_dec)
    there = (edit.features[:, :, None] == code.indices[:, None]) & (code.values != 0)[:, None]
    taken = torch.where(there.any(2), -edit.changes, 0.0).clamp(min=0)
    gone = combine(edit.features, taken, W_dec)
    size = made.double().square().sum(1)
    return torch.where(size > 0, (gone.double() * made.double()).sum(1) / size, torch.nan)
