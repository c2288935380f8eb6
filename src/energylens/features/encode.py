"""Rows → code, for any architecture: in blocks of rows, and differentiable by the rows."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.sparse import row_of
from energylens.features.architecture import ARCHITECTURES
from energylens.features.code import SparseCode
from energylens.features.entries import SparseEntries
from energylens.features.kernels import BLOCK

if TYPE_CHECKING:
    from energylens.features.dictionary import Dictionary


def encode_rows(dictionary: "Dictionary", centered: Float[Tensor, "sample d_in"]) -> SparseCode:
    """The code of each row by itself.

    All rows have as many entries as the fullest; where a row has fewer, entries of value 0 follow.

    Args:
        centered: Rows, less b_dec where the dictionary subtracts it.
    """
    kind = ARCHITECTURES[dictionary.architecture]
    counts, features, values = [], [], []
    for block in centered.split(BLOCK):
        pre = torch.addmm(dictionary.b_enc, block, dictionary.W_enc.T)
        kept = kind.keep(pre, dictionary)
        start = kept.count.cumsum(0) - kept.count
        entries = SparseEntries(kept.z, kept.feature, start, None)
        values.append(kind.activate(entries, dictionary.weights))
        counts.append(kept.count)
        features.append(kept.feature)
    return _rectangular(*map(torch.cat, (counts, features, values)), width=dictionary.width)


def _rectangular(count: Tensor, feature: Tensor, value: Tensor, *, width: int) -> SparseCode:
    rows, most = len(count), int(count.max()) if len(count) else 0
    if len(feature) == rows * most:
        shape = (rows, most)
        return SparseCode(indices=feature.view(shape), values=value.view(shape), width=width)
    start = count.cumsum(0) - count
    row = row_of(start, len(feature))
    where = (row, torch.arange(len(feature), device=row.device) - start[row])
    return SparseCode(
        indices=feature.new_zeros(rows, most).index_put(where, feature),
        values=value.new_zeros(rows, most).index_put(where, value), width=width,
    )  # fmt: skip
