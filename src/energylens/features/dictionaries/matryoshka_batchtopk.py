"""Matryoshka: the first features must reconstruct by themselves.

Bussmann et al. 2025 (arXiv 2503.17547). As BatchTopK, with one squared error for each of some
nested beginnings of the dictionary; their mean is the loss. Early features have to be general, and
cannot hand their work to later ones.
"""

from collections.abc import Mapping

from torch import Tensor

from energylens.features.architecture import Demand, Terms, architecture
from energylens.features.dictionaries.batchtopk import BatchTopK
from energylens.features.entries import Entries

ENDS = (1 / 32, 1 / 16 + 1 / 32, 1 / 8 + 3 / 32, 1 / 4 + 7 / 32, 1.0)
"""Where the nested beginnings end, as shares of the width: parts of 1/32, 1/16, 1/8, 1/4, rest."""


@architecture("matryoshka_batchtopk")
class Matryoshka(BatchTopK):
    """loss = mean over beginnings of ‖x − Σ_{f in the beginning} a_f d_f − b_dec‖²."""

    def terms(
        self,
        entries: Entries,
        values: Tensor,
        weights: Mapping[str, Tensor],
        target: Tensor,
        demand: Demand,
    ) -> Terms:
        W_dec, ends = weights["W_dec"], [0]
        for share in ENDS:
            ends.append(max(ends[-1] + 1, round(share * len(W_dec) * entries.across.world)))
        loss, residual = entries.nested_errors(target, values, W_dec, weights["b_dec"], ends[1:])
        return Terms(loss / len(ENDS), residual)
