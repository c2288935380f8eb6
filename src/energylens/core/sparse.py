"""Products with a sparse code [sample feature] of a few entries a row, never made dense.

What dictionaries are trained with and what energies are aligned with: sparse times dense, its
transpose, and dense times dense where the code has entries. Plain torch operations on any device.

A code with equally many entries in every row is given by `indices` [sample active]; one whose rows
differ by its entries row after row, `indices` [entry], and by where each row starts.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag


def combine(
    indices: Int64[Tensor, "*entries"],
    values: Float[Tensor, "*entries"],
    W: Float[Tensor, "feature d"],
    start: Int64[Tensor, " sample"] | None = None,
) -> Float[Tensor, "row d"]:
    """Σ_j values[i, j] · W[indices[i, j]]: the sparse decode."""
    if start is None and not indices.shape[-1]:  # rows without entries
        return W.new_zeros(len(indices), W.shape[1])
    return embedding_bag(indices, W, start, per_sample_weights=values, mode="sum")


def sampled_products(
    rows: Float[Tensor, "sample d"],
    indices: Int64[Tensor, "*entries"],
    W: Float[Tensor, "feature d"],
    start: Int64[Tensor, " sample"] | None = None,
) -> Float[Tensor, "*entries"]:
    """rows[i] · W[indices[i, j]], as the derivative of `combine` by its values.

    The operator is the one that autograd calls for that derivative; called by itself it needs no
    forward product. (`torch.sparse.sampled_addmm` is as fast on a CPU but warns that it is in beta,
    and is absent on some devices; gathering the rows of W costs ten times as much.)
    """
    flat = indices.flatten()
    if start is None:
        start = torch.arange(0, len(flat), max(1, indices.shape[1]), device=flat.device)
    found = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        rows, W, flat, start, row_of(start, len(flat)), 0
    )
    return found.view(indices.shape)  # type: ignore[no-any-return]


class ByFeature(NamedTuple):
    """The entries of a code sorted by feature."""

    row: Int64[Tensor, " entry"]
    order: Int64[Tensor, " entry"]
    start: Int64[Tensor, " feature"]


def by_feature(
    indices: Int64[Tensor, "*entries"], width: int, start: Int64[Tensor, " sample"] | None = None
) -> ByFeature:
    """Sort the entries of a code by feature, once for all its transposed products."""
    flat = indices.flatten().to(torch.int32)  # half the passes of a radix sort on int64
    ordered, order = flat.sort(stable=True)
    features = torch.arange(width, dtype=torch.int32, device=flat.device)
    row = order // indices.shape[1] if start is None else row_of(start, len(flat))[order]
    return ByFeature(row, order, torch.searchsorted(ordered, features))


def row_of(start: Int64[Tensor, " sample"], entries: int) -> Int64[Tensor, " entry"]:
    """The row of every entry.

    Example:
        >>> row_of(torch.tensor([0, 2, 2]), 5).tolist()
        [0, 0, 2, 2, 2]
    """
    end = torch.cat([start[1:], start.new_tensor([entries])])
    return torch.repeat_interleave(end - start, output_size=entries)


def transposed_product(
    entries: ByFeature,
    values: Float[Tensor, "*entries"],
    rows: Float[Tensor, "sample d"],
) -> Float[Tensor, "feature d"]:
    """codeᵀ rows: Σ over the entries of each feature of value · row."""
    return embedding_bag(
        entries.row, rows, entries.start,
        per_sample_weights=values.flatten()[entries.order], mode="sum",
    )  # fmt: skip
