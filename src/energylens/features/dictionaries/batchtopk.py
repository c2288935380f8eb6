"""BatchTopK: n · k entries of a batch of n rows are kept (Bussmann et al. 2024, arXiv 2412.06410).

Rows compete, so that a row with much to say may use more features. At inference there is no batch:
a feature is active above one threshold, which is what the last batches kept at the least. A trained
dictionary is therefore a JumpReLU with the same threshold for every feature.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.sparse import row_of
from energylens.features.architecture import (
    Architecture,
    Kept,
    Settled,
    architecture,
    of_columns,
    of_mask,
)
from energylens.features.dictionary import Dictionary
from energylens.features.entries import Chosen
from energylens.features.kernels import top_k
from energylens.features.mesh import Mesh
from energylens.features.proposals import Proposals
from energylens.features.selection import nth_largest

SPREAD = 2
"""Candidates a row, in multiples of k; rows that would keep more are looked at again."""
AVERAGE = 0.99
"""Weight of the past in the average of thresholds."""


@architecture("batchtopk")
class BatchTopK(Architecture):
    """a = BatchTopK_{nk}(W_enc (x − b_dec) + b_enc)₊, over a batch of n rows."""

    each_alone = False
    common = frozenset({"threshold_sum", "threshold_weight"})

    def own(self, width: int, like: Float[Tensor, "..."]) -> dict[str, Tensor]:
        # Sum and weight of the average: their ratio is not pulled to 0 by the first steps.
        return {"threshold_sum": like.new_zeros(1), "threshold_weight": like.new_zeros(1)}

    def keep(self, pre: Tensor, dictionary: Dictionary) -> Kept:
        return of_mask((pre > threshold(dictionary)) & (pre > 0), pre)

    def candidates(self, pre: Tensor, dictionary: Dictionary, wide: int) -> Kept:
        return of_columns(*top_k(pre, min(wide * SPREAD * dictionary.k, dictionary.width)))

    def propose(self, rough: Proposals, dictionary: Dictionary) -> Kept:
        return of_columns(*rough.likely(min(SPREAD * dictionary.k, dictionary.width)))

    def settle(self, chosen: Chosen, dictionary: Dictionary, mesh: Mesh) -> Settled:
        """The n · k largest positive candidates of all rows, on whichever process they are.

        A row that keeps all its candidates might keep more, as one might that left out what may be
        as large as the least that is kept; it is asked for again.
        """
        rows, z = len(chosen.start), chosen.z
        positive = z[z > 0]
        batch = int(mesh.rows.all_reduce(torch.tensor(rows)))
        wanted = min(batch * dictionary.k, mesh.total(len(positive)))
        least = nth_largest(positive, wanted, mesh) if wanted else z.new_tensor(torch.inf)
        best = ((z >= least) & (z > 0)).nonzero()[:, 0]
        row = row_of(chosen.start, len(z))
        count, before = (torch.bincount(r, minlength=rows) for r in (row[best], row))
        full = (count == before) & (before < dictionary.width)
        if chosen.left is not None:
            full |= ~(chosen.left < (least if wanted == batch * dictionary.k else 0))
        stay = Chosen(chosen.feature[best], count.cumsum(0) - count, z[best])
        return Settled(stay, full.nonzero()[:, 0])

    def watch(self, dictionary: Dictionary, values: Tensor | None, mesh: Mesh) -> None:
        if values is None:
            return
        least = mesh.least(values.amin() if len(values) else values.new_tensor(torch.inf))
        if bool(least < torch.inf):
            dictionary.own["threshold_sum"].mul_(AVERAGE).add_((1 - AVERAGE) * least)
            dictionary.own["threshold_weight"].mul_(AVERAGE).add_(1 - AVERAGE)

    def finish(self, dictionary: Dictionary) -> Dictionary:
        everywhere = threshold(dictionary).expand(dictionary.width).clone()
        return replace(dictionary, architecture="jumprelu", own={"threshold": everywhere})


def threshold(dictionary: Dictionary) -> Float[Tensor, " 1"]:
    """The average of the least value that a batch kept; 0 before the first."""
    weight = dictionary.own["threshold_weight"]
    return dictionary.own["threshold_sum"] / torch.where(weight > 0, weight, 1)
