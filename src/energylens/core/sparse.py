"""Products with a sparse code [sample feature] of a few entries a row, never made dense.

What dictionaries are trained with and what energies are aligned with: sparse times dense, its
transpose, and dense times dense where the code has entries. Plain torch operations on any device;
on a CUDA device with Triton, kernels of our own (`sparse_triton`) where no gradient is asked for.

A code with equally many entries in every row is given by `indices` [sample active]; one whose rows
differ by its entries row after row, `indices` [entry], and by where each row starts.
"""

from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag

FEATURES_AT_ONCE = 1024


def combine(
    indices: Int64[Tensor, "*entries"],
    values: Float[Tensor, "*entries"],
    W: Float[Tensor, "feature d"],
    start: Int64[Tensor, " sample"] | None = None,
) -> Float[Tensor, "row d"]:
    """Σ_j values[i, j] · W[indices[i, j]]: the sparse decode."""
    if start is None and not indices.shape[-1]:  # rows without entries
        return W.new_zeros(len(indices), W.shape[1])
    if fused := _fused(values, W):
        bounds = _bounds(indices, start)
        return fused.weighted_sums(indices.flatten(), values.flatten(), bounds, W)
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
    if fused := _fused(rows, W):
        return fused.products_at(rows, flat, _bounds(indices, start), W).view(indices.shape)
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
    out: Float[Tensor, "feature d"] | None = None,
) -> Float[Tensor, "feature d"]:
    """codeᵀ rows: Σ over the entries of each feature of value · row.

    Into `out`, if it is given, some features at a time: beside it stands no other of its size.
    """
    values = values.flatten()
    if out is None:
        return _sums_of_rows(entries, values, rows)
    ends = [*entries.start[::FEATURES_AT_ONCE].tolist(), len(entries.order)]
    for first, (low, high) in zip(
        range(0, len(out), FEATURES_AT_ONCE), pairwise(ends), strict=True
    ):
        some = slice(first, first + FEATURES_AT_ONCE)
        part = ByFeature(entries.row[low:high], entries.order[low:high], entries.start[some] - low)
        out[some] = _sums_of_rows(part, values, rows)
    return out


def _sums_of_rows(entries: ByFeature, values: Tensor, rows: Tensor) -> Tensor:
    values = values[entries.order]
    if fused := _fused(values, rows):
        bounds = _bounds(entries.row, entries.start)
        return fused.weighted_sums(entries.row, values, bounds, rows)
    return embedding_bag(entries.row, rows, entries.start, per_sample_weights=values, mode="sum")


def sums_by_feature(
    entries: ByFeature, values: Float[Tensor, "*entries"]
) -> Float[Tensor, " feature"]:
    """Σ over the entries of each feature of value, in an order that does not change.

    Example:
        >>> entries = by_feature(torch.tensor([[2, 0], [2, 1]]), 4)
        >>> sums_by_feature(entries, torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
        [2.0, 4.0, 4.0, 0.0]
    """
    of_one_row = entries._replace(row=torch.zeros_like(entries.row))
    return transposed_product(of_one_row, values, values.new_ones(1, 1))[:, 0]


def _bounds(
    indices: Int64[Tensor, "*entries"], start: Int64[Tensor, " bag"] | None
) -> Int64[Tensor, " bound"]:
    """Where each row begins among the entries, and where the last one ends."""
    if start is None:
        return indices.shape[1] * torch.arange(len(indices) + 1, device=indices.device)
    return torch.cat([start, start.new_tensor([len(indices)])])


def _fused(*tensors: Tensor) -> ModuleType | None:
    """Kernels for these tensors, where there are some."""
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return None if wanted or not tensors[0].is_cuda else _kernels()


@cache
def _kernels() -> ModuleType | None:
    try:
        from energylens.core import sparse_triton
    except ImportError:
        return None
    return sparse_triton
