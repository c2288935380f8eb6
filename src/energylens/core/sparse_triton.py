"""The products of `core.sparse` as Triton kernels, which it calls for tensors on a CUDA device.

One program sums one row of the result in the order of its entries, without atomics: the same call
gives the same bits. Sums are taken in float32, of float64 tensors in float64. Under
`TRITON_INTERPRET=1` the kernels run on a CPU, slowly, which is how tests see them without a GPU.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# The kernels' arguments are pointers, which Triton types itself.

import torch
import triton
import triton.language as tl
from torch import Tensor

ENTRIES, COLUMNS = 32, 128
"""Entries and columns that a program reads at one time."""


def weighted_sums(index: Tensor, values: Tensor, bounds: Tensor, table: Tensor) -> Tensor:
    """Σ value · table[index] over the entries of each bag: [bag d].

    Args:
        index: Row of the table of each entry, int64.
        values: Weight of each entry.
        bounds: Where each bag begins, and the end of the last.
        table: [row d].
    """
    bags, d = len(bounds) - 1, table.shape[1]
    out = table.new_empty(bags, d)
    columns = _columns(d)
    if out.numel():
        _weighted_sums[(bags, triton.cdiv(d, columns))](
            out, index.contiguous(), values.contiguous(), bounds, table.contiguous(), d,
            ENTRIES=ENTRIES, COLUMNS=columns, SUM=_sum_type(table), enable_fp_fusion=True,
        )  # fmt: skip
    return out


def products_at(rows: Tensor, index: Tensor, bounds: Tensor, table: Tensor) -> Tensor:
    """rows[bag] · table[index] at the entries of each bag: [entry].

    Args:
        rows: [bag d].
        index: Row of the table of each entry, int64.
        bounds: Where each bag begins, and the end of the last.
        table: [row d].
    """
    out = table.new_empty(len(index))
    if len(index):
        _products_at[(len(bounds) - 1,)](
            out, rows.contiguous(), index.contiguous(), bounds, table.contiguous(),
            table.shape[1], ENTRIES=ENTRIES, COLUMNS=_columns(table.shape[1]),
            SUM=_sum_type(table), enable_fp_fusion=True,
        )  # fmt: skip
    return out


def _columns(d: int) -> int:
    return min(COLUMNS, max(16, triton.next_power_of_2(d)))


def _sum_type(table: Tensor) -> tl.dtype:
    return tl.float64 if table.dtype == torch.float64 else tl.float32


@triton.jit
def _weighted_sums(
    out, index, values, bounds, table, d,
    ENTRIES: tl.constexpr, COLUMNS: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    bag = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < d
    first, last = tl.load(bounds + bag), tl.load(bounds + bag + 1)
    total = tl.zeros([COLUMNS], dtype=SUM)
    for begin in range(first, last, ENTRIES):
        entry = begin + tl.arange(0, ENTRIES)
        there = entry < last
        row = tl.load(index + entry, mask=there, other=0)
        value = tl.load(values + entry, mask=there, other=0).to(SUM)
        read = tl.load(
            table + row[:, None] * d + column[None, :],
            mask=there[:, None] & inside[None, :], other=0,
        )  # fmt: skip
        total += tl.sum(read.to(SUM) * value[:, None], axis=0)
    tl.store(out + bag * d + column, total, mask=inside)


@triton.jit
def _products_at(
    out, rows, index, bounds, table, d,
    ENTRIES: tl.constexpr, COLUMNS: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    bag = tl.program_id(0).to(tl.int64)
    first, last = tl.load(bounds + bag), tl.load(bounds + bag + 1)
    for begin in range(first, last, ENTRIES):
        entry = begin + tl.arange(0, ENTRIES)
        there = entry < last
        row = tl.load(index + entry, mask=there, other=0)
        total = tl.zeros([ENTRIES], dtype=SUM)
        for left in range(0, d, COLUMNS):
            column = left + tl.arange(0, COLUMNS)
            inside = column < d
            x = tl.load(rows + bag * d + column, mask=inside, other=0).to(SUM)
            read = tl.load(
                table + row[:, None] * d + column[None, :],
                mask=there[:, None] & inside[None, :], other=0,
            )  # fmt: skip
            total += tl.sum(read.to(SUM) * x[None, :], axis=1)
        tl.store(out + entry, total, mask=there)
