"""The entries of a batch's code with their gradients: a few a row, or all of them.

An architecture says what becomes of a pre-activation; these two say how the pre-activations are
read from the encoder and how activations are written through the decoder. `SparseEntries` touches
what was chosen alone (n · L0 · d operations a product); `DenseEntries` is for codes so full that
whole products are cheaper. Both give the same numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from energylens.core.ports import Collective, solo
from energylens.core.sparse import (
    ByFeature,
    by_feature,
    combine,
    sampled_products,
    sums_by_feature,
    transposed_product,
)

ROWS_AT_ONCE = 512


class Chosen(NamedTuple):
    """What a code keeps, row after row.

    `start` is where the entries of each row begin; `z` their pre-activations; `left` what no entry
    that was left out of a row can exceed, where that is not plain.
    """

    feature: Int64[Tensor, " entry"]
    start: Int64[Tensor, " sample"]
    z: Float[Tensor, " entry"]
    left: Float[Tensor, " sample"] | None = None


@runtime_checkable
class Entries(Protocol):
    """Pre-activations of a batch, and the products that training needs of them."""

    @property
    def z(self) -> Tensor:
        """Pre-activations W_enc (x − b_pre) + b_enc, of the entries or of all features."""
        ...

    @property
    def across(self) -> Collective:
        """The processes that hold the other features of the same rows."""
        ...

    def of(self, parameter: Float[Tensor, " feature"]) -> Tensor:
        """A parameter of each feature, in the shape of `z` or one that broadcasts to it."""
        ...

    def write(
        self, values: Tensor, W_dec: Float[Tensor, "feature d_out"]
    ) -> Float[Tensor, "sample d_out"]:
        """Σ_f a_f · W_dec[f] on every row, over the features of all processes.

        `W_dec` are the process's own rows.
        """
        ...

    def squared_error(
        self,
        target: Float[Tensor, "sample d_out"],
        values: Tensor,
        W_dec: Float[Tensor, "feature d_out"],
        b_dec: Float[Tensor, " d_out"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "sample d_out"]]:
        """Σ‖target − Σ_f a_f · W_dec[f] − b_dec‖², and what stands between the bars.

        That has no gradient.
        """
        ...

    def nested_errors(
        self,
        target: Float[Tensor, "sample d_out"],
        values: Tensor,
        W_dec: Float[Tensor, "feature d_out"],
        b_dec: Float[Tensor, " d_out"],
        ends: Sequence[int],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "sample d_out"]]:
        """Σ over `ends` of ‖target − Σ_{f < end} a_f W_dec[f] − b_dec‖², and what the last leaves.

        Features are numbered over all processes, and ends ascend. What is left has no gradient.
        """
        ...


@dataclass(frozen=True, eq=False)
class DenseEntries:
    """All pre-activations of a few rows: [sample feature]."""

    z: Tensor
    across: Collective = solo

    def of(self, parameter: Float[Tensor, " feature"]) -> Tensor:
        return parameter

    def write(
        self, values: Tensor, W_dec: Float[Tensor, "feature d_out"]
    ) -> Float[Tensor, "sample d_out"]:
        return summed(values @ W_dec, self.across)

    def squared_error(
        self,
        target: Float[Tensor, "sample d_out"],
        values: Tensor,
        W_dec: Float[Tensor, "feature d_out"],
        b_dec: Float[Tensor, " d_out"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "sample d_out"]]:
        return squared_error(target, self.write(values, W_dec), b_dec)

    def nested_errors(
        self,
        target: Float[Tensor, "sample d_out"],
        values: Tensor,
        W_dec: Float[Tensor, "feature d_out"],
        b_dec: Float[Tensor, " d_out"],
        ends: Sequence[int],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "sample d_out"]]:
        residual, loss = target - b_dec, target.new_zeros(())
        for own in _parts(ends, len(W_dec), self.across):
            residual = residual - summed(values[:, own] @ W_dec[own], self.across)
            loss = loss + residual.square().sum()
        return loss, residual.detach()


@dataclass(frozen=True, eq=False)
class SparseEntries:
    """The pre-activations of what was chosen: [entry]."""

    z: Tensor
    feature: Int64[Tensor, " entry"]
    start: Int64[Tensor, " sample"]
    sorted: ByFeature | None
    """Needed for gradients alone."""
    across: Collective = solo

    def of(self, parameter: Float[Tensor, " feature"]) -> Tensor:
        return parameter.index_select(0, self.feature)

    def write(
        self, values: Tensor, W_dec: Float[Tensor, "feature d_out"]
    ) -> Float[Tensor, "sample d_out"]:
        return summed(_Write.apply(values, W_dec, self), self.across)  # type: ignore[no-untyped-call]

    def squared_error(
        self,
        target: Float[Tensor, "sample d_out"],
        values: Tensor,
        W_dec: Float[Tensor, "feature d_out"],
        b_dec: Float[Tensor, " d_out"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "sample d_out"]]:
        return _WrittenError.apply(target, values, W_dec, b_dec, self)  # type: ignore[no-any-return, no-untyped-call]

    def nested_errors(
        self,
        target: Float[Tensor, "sample d_out"],
        values: Tensor,
        W_dec: Float[Tensor, "feature d_out"],
        b_dec: Float[Tensor, " d_out"],
        ends: Sequence[int],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "sample d_out"]]:
        return _NestedErrors.apply(target, values, W_dec, b_dec, ends, self)  # type: ignore[no-any-return, no-untyped-call]


def summed(own: Float[Tensor, "*shape"], across: Collective) -> Float[Tensor, "*shape"]:
    """The sum over processes, each of which differentiates what is made of it by its own part."""
    return _Summed.apply(own, across)  # type: ignore[no-any-return, no-untyped-call]


def _parts(ends: Sequence[int], width: int, across: Collective) -> list[slice]:
    """Where the parts between ends lie among a process's own features."""
    first = width * across.rank
    own = [min(max(end - first, 0), width) for end in (0, *ends)]
    return [slice(low, high) for low, high in pairwise(own)]


def squared_error(
    target: Float[Tensor, "sample d_out"],
    made: Float[Tensor, "sample d_out"],
    b_dec: Float[Tensor, " d_out"],
) -> tuple[Float[Tensor, ""], Float[Tensor, "sample d_out"]]:
    """Σ‖target − made − b_dec‖², and what stands between the bars (without gradient).

    One tensor of the rows' size forward and one backward, where autograd would keep six.
    """
    return _SquaredError.apply(target, made, b_dec)  # type: ignore[no-any-return, no-untyped-call]


def read_entries(
    chosen: Chosen,
    centered: Float[Tensor, "sample d_in"],
    weights: Mapping[str, Tensor],
    across: Collective = solo,
) -> SparseEntries:
    """The chosen pre-activations as functions of the encoder's weights and of the offset.

    Args:
        chosen: What was selected without gradients; the selection is piecewise constant.
        centered: Rows x − b_pre.
        weights: `W_enc`, `b_enc`, and `b_pre` where an offset is learned.
        across: The processes that hold the other features of the same rows.
    """
    W_enc = weights["W_enc"]
    ordered = by_feature(chosen.feature, len(W_enc), chosen.start)
    z = _Read.apply(  # type: ignore[no-untyped-call]
        W_enc, weights["b_enc"], weights.get("b_pre"), centered, chosen, ordered
    )
    return SparseEntries(z, chosen.feature, chosen.start, ordered, across)


class _Read(torch.autograd.Function):
    """z = W_enc (x − b_pre) + b_enc at the chosen entries, which were computed by choosing."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        W_enc: Tensor,
        b_enc: Tensor,
        b_pre: Tensor | None,
        centered: Tensor,
        chosen: Chosen,
        ordered: ByFeature,
    ) -> Tensor:
        ctx.save_for_backward(W_enc, centered)
        ctx.ordered, ctx.offset = ordered, b_pre is not None
        return chosen.z.view_as(chosen.z)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        W_enc, centered = ctx.saved_tensors
        by_W = transposed_product(ctx.ordered, g, centered)
        by_b = sums_by_feature(ctx.ordered, g)
        return by_W, by_b, -(by_b @ W_enc) if ctx.offset else None, None, None, None


class _Write(torch.autograd.Function):
    """Σ over the entries of each row of value · decoder row."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, W_dec: Tensor, entries: SparseEntries) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(values, W_dec)
        ctx.entries = entries
        return combine(entries.feature, values, W_dec, entries.start)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        values, W_dec = ctx.saved_tensors
        entries = ctx.entries
        needs_values, needs_W, _ = ctx.needs_input_grad
        g = g.contiguous()
        by_values = sampled_products(g, entries.feature, W_dec, entries.start)
        by_W = transposed_product(entries.sorted, values, g) if needs_W else None
        return by_values if needs_values else None, by_W, None


class _WrittenError(torch.autograd.Function):
    """What entries write, compared: one tensor of the rows' size, forward and backward."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        target: Tensor,
        values: Tensor,
        W_dec: Tensor,
        b_dec: Tensor,
        entries: SparseEntries,
    ) -> Any:
        made = entries.across.all_reduce(combine(entries.feature, values, W_dec, entries.start))
        residual = made.neg_().add_(target).sub_(b_dec)
        ctx.save_for_backward(values, W_dec, residual)
        ctx.entries = entries
        ctx.mark_non_differentiable(residual)
        ctx.set_materialize_grads(False)  # of what has no gradient none is made of zeros
        return residual.flatten().dot(residual.flatten()), residual

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: None) -> Any:  # type: ignore[override]
        values, W_dec, residual = ctx.saved_tensors
        entries, slope = ctx.entries, -2 * g
        needs_target, needs_values, needs_W, needs_b, _ = ctx.needs_input_grad
        by_values = by_W = None
        if needs_values:
            by_values = slope * sampled_products(residual, entries.feature, W_dec, entries.start)
        if needs_W:
            by_W = transposed_product(entries.sorted, slope * values, residual)
        by_b = slope * residual.sum(0) if needs_b else None
        return -slope * residual if needs_target else None, by_values, by_W, by_b, None


class _Part(NamedTuple):
    """The entries of features that lie together.

    `order` is where they stand among all entries, row after row as those do.
    """

    features: slice
    order: Int64[Tensor, " entry"]
    feature: Int64[Tensor, " entry"]
    start: Int64[Tensor, " sample"]

    @classmethod
    def of(cls, entries: SparseEntries, features: slice) -> "_Part":
        inside = (entries.feature >= features.start) & (entries.feature < features.stop)
        order = inside.nonzero().flatten()
        before = torch.cat([inside.new_zeros(1, dtype=torch.int64), inside.cumsum(0)])
        return cls(features, order, entries.feature[order], before[entries.start])

    def add_to(
        self, rows: Tensor, values: Tensor, W_dec: Tensor, across: Collective, sign: int
    ) -> None:
        """Write them onto `rows` or take them away, some rows at a time."""
        ends = [*self.start[::ROWS_AT_ONCE].tolist(), len(self.order)]
        for number, (low, high) in enumerate(pairwise(ends)):
            some = slice(number * ROWS_AT_ONCE, (number + 1) * ROWS_AT_ONCE)
            of_rows, start = values[self.order[low:high]], self.start[some] - low
            made = combine(self.feature[low:high], of_rows, W_dec, start)
            rows[some].add_(across.all_reduce(made), alpha=sign)


class _NestedErrors(torch.autograd.Function):
    """Sums of squares without a tensor of the rows' size for each end, nor a gradient of all of
    W_dec for each part: backward the parts are written again, the last first."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        target: Tensor,
        values: Tensor,
        W_dec: Tensor,
        b_dec: Tensor,
        ends: Sequence[int],
        entries: SparseEntries,
    ) -> Any:
        ctx.set_materialize_grads(False)
        ctx.parts = [_Part.of(entries, own) for own in _parts(ends, len(W_dec), entries.across)]
        ctx.entries = entries
        residual, loss = target - b_dec, target.new_zeros(())
        for part in ctx.parts:
            part.add_to(residual, values, W_dec, entries.across, -1)
            loss += residual.flatten().dot(residual.flatten())
        ctx.save_for_backward(values, W_dec, residual)
        ctx.mark_non_differentiable(residual)
        return loss, residual

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: None) -> Any:  # type: ignore[override]
        values, W_dec, residual = ctx.saved_tensors
        residual, slope = residual.clone(), torch.zeros_like(residual)
        by_values, by_W = torch.zeros_like(values), torch.zeros_like(W_dec)
        for part in reversed(ctx.parts):
            slope.addcmul_(residual, -2 * g)
            by_values[part.order] = sampled_products(slope, part.feature, W_dec, part.start)
            own, inside = part.features, part.feature - part.features.start
            if own.stop > own.start:
                ordered = by_feature(inside, own.stop - own.start, part.start)
                transposed_product(ordered, values[part.order], slope, out=by_W[own])
            part.add_to(residual, values, W_dec, ctx.entries.across, 1)
        by_b = slope.sum(0)
        by_target = slope.neg_() if ctx.needs_input_grad[0] else None
        return by_target, by_values, by_W, by_b, None, None


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, across: Collective) -> Tensor:  # type: ignore[override]
        return across.all_reduce(own)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        return g, None


class _SquaredError(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, target: Tensor, made: Tensor, b_dec: Tensor) -> Any:  # type: ignore[override]
        residual = torch.sub(target, made).sub_(b_dec)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(residual)
        ctx.mark_non_differentiable(residual)
        flat = residual.flatten()
        return flat.dot(flat), residual

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: None) -> Any:  # type: ignore[override]
        (residual,) = ctx.saved_tensors
        slope = residual * (-2 * g)
        by_target = -slope if ctx.needs_input_grad[0] else None
        return by_target, slope, slope.sum(0)
