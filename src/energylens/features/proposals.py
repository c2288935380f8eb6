"""Entries that a product in bf16 proposes and that are settled in full precision.

Where tensor cores or AMX multiply bf16 several times as fast as fp32, the encoder's product need
not be exact to tell which features may be active: a few more than are wanted are taken, read again
in the rows' own type (k of m of the product's cost), and the best of them kept. How far a rough
score may be off is bounded (`Proposals.margin`): what the bound cannot tell is read again whole. So
what is chosen is never other than by the exact product, but for rounding of that.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from energylens.core.sparse import sampled_products
from energylens.features.kernels import BLOCK, top_k

ROUGH = torch.bfloat16
Products = Literal["fp32", "bf16"]
"""What entries are chosen by: the encoder's product as it is, or proposals of a rough one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RoughEncoder:
    """An encoder's weights in bf16 beside the exact ones, and what rounding took from them.

    Attributes:
        W_size: Norm of the longest encoder row.
        W_off: Norm of the longest difference between an encoder row and its rounded one.
        b_size: Largest offset.
        b_off: Largest difference of an offset.
    """

    W_enc: Float[Tensor, "feature d_in"]
    b_enc: Float[Tensor, " feature"]
    W_rough: Float[Tensor, "feature d_in"]
    b_rough: Float[Tensor, " feature"]
    W_size: Float[Tensor, ""]
    W_off: Float[Tensor, ""]
    b_size: Float[Tensor, ""]
    b_off: Float[Tensor, ""]

    @classmethod
    def of(
        cls, W_enc: Float[Tensor, "feature d_in"], b_enc: Float[Tensor, " feature"]
    ) -> "RoughEncoder":
        W_rough, b_rough = W_enc.to(ROUGH), b_enc.to(ROUGH)
        off = [
            _norms(part - rough).amax()
            for part, rough in zip(W_enc.split(BLOCK), W_rough.split(BLOCK), strict=True)
        ]
        return cls(
            W_enc=W_enc, b_enc=b_enc, W_rough=W_rough, b_rough=b_rough,
            W_size=_norms(W_enc).amax(), W_off=torch.stack(off).amax(),
            b_size=b_enc.abs().amax(), b_off=(b_enc - b_rough).abs().amax(),
        )  # fmt: skip

    def propose(self, centered: Float[Tensor, "sample d_in"]) -> "Iterator[Proposals]":
        """Of `BLOCK` rows at a time; each takes the place of the one before.

        (As `kernels.pre_activations`, and for the same reason.)
        """
        room = None
        for block in centered.split(BLOCK):
            proposals = Proposals.of(self, block, room)
            if room is None and not centered.is_cuda:
                room = proposals.scores
            yield proposals


@dataclass(frozen=True, kw_only=True, eq=False)
class Proposals:
    """Pre-activations of a block of rows by a product in bf16.

    Attributes:
        centered: The rows, exact.
        scores: W_enc x + b_enc, roughly.
        margin: How much larger than its score an entry of the row may be, besides what
            rounding the score itself took.
    """

    encoder: RoughEncoder
    centered: Float[Tensor, "sample d_in"]
    scores: Float[Tensor, "sample feature"]
    margin: Float[Tensor, " sample"]

    @classmethod
    def of(
        cls,
        encoder: RoughEncoder,
        centered: Float[Tensor, "sample d_in"],
        room: Float[Tensor, "place feature"] | None = None,
    ) -> "Proposals":
        """|w·x − w̃·x̃| ≤ ‖w‖‖x − x̃‖ + ‖w − w̃‖‖x̃‖, and what sums of d terms lose in fp32.

        Args:
            room: Scores of earlier rows, at least as many, to be overwritten.
        """
        rows = centered.to(ROUGH)
        scores = _product(rows, encoder, room if room is None else room[: len(rows)])
        size = _norms(centered)
        sums = 4 * centered.shape[1] * torch.finfo(torch.float32).eps * encoder.W_size * size
        offset = encoder.b_off + torch.finfo(ROUGH).eps * encoder.b_size
        margin = (
            encoder.W_size * _norms(centered - rows) + encoder.W_off * (1 + 2**-7) * size
            + sums + offset
        )  # fmt: skip
        return cls(encoder=encoder, centered=centered, scores=scores, margin=margin)

    def at_most(self, score: Float[Tensor, " sample"]) -> Float[Tensor, " sample"]:
        """What an entry whose score is not above this one's cannot exceed."""
        rounded = score.to(self.margin.dtype)
        return rounded + torch.finfo(score.dtype).eps * rounded.abs() + self.margin

    def exact(
        self, features: Int64[Tensor, "*entries"], start: Int64[Tensor, " sample"] | None = None
    ) -> Float[Tensor, "*entries"]:
        """W_enc x + b_enc at some entries."""
        read = sampled_products(self.centered, features, self.encoder.W_enc, start)
        return read + self.encoder.b_enc[features]

    def likely(
        self, k: int
    ) -> tuple[
        Float[Tensor, "sample active"], Int64[Tensor, "sample active"], Float[Tensor, " sample"]
    ]:
        """The k entries of each row with the largest scores, read exactly; a bound on the others.

        Returns:
            Values, columns, and what no entry left out can exceed.
        """
        scores, columns = top_k(self.scores, k)
        left = self.at_most(scores.amin(1))
        if k == self.scores.shape[1]:
            left = torch.full_like(left, -torch.inf)
        return self.exact(columns), columns, left

    def top_k(
        self, k: int
    ) -> tuple[Float[Tensor, "sample active"], Int64[Tensor, "sample active"]]:
        """As `kernels.top_k` of the exact pre-activations."""
        wide = min(k + slack(k, self.centered.shape[1]), self.scores.shape[1])
        z, columns, left = self.likely(wide)
        values, place = z.topk(k, dim=1, sorted=False)
        columns = columns.gather(1, place)
        doubtful = (~(left <= values.amin(1))).nonzero()[:, 0]  # nan is doubtful
        if len(doubtful):
            values[doubtful], columns[doubtful] = top_k(self._whole(doubtful), k)
        return values, columns

    def largest_of_groups(
        self, groups: int
    ) -> tuple[Float[Tensor, "sample group"], Int64[Tensor, "sample group"]]:
        """The largest entry of each of some groups of neighbours.

        Every entry whose score is within twice the margin of its group's best is read exactly:
        among them is the largest.
        """
        rows, width = self.scores.shape
        size, eps = width // groups, torch.finfo(self.scores.dtype).eps
        scores = self.scores.view(rows, groups, size)
        best = scores.amax(2).to(self.margin.dtype)
        off = (1 + 2 * eps) * (self.margin[:, None] + eps * best.abs())
        near = (scores < (best - 2 * off)[:, :, None]).logical_not_().view(rows, width)
        row, feature = near.nonzero(as_tuple=True)
        count = near.sum(1)
        z = self.exact(feature, count.cumsum(0) - count)
        group = row * groups + feature // size
        values = z.new_full((rows * groups,), -torch.inf).scatter_reduce(0, group, z, "amax")
        here = z == values[group]
        columns = feature.new_full((rows * groups,), width - 1)
        columns.scatter_reduce_(0, group[here], feature[here], "amin")  # of equals the first
        return values.view(rows, groups), columns.view(rows, groups)

    def _whole(self, rows: Int64[Tensor, " row"]) -> Float[Tensor, "row feature"]:
        return torch.addmm(self.encoder.b_enc, self.centered[rows], self.encoder.W_enc.T)


def slack(k: int, d: int) -> int:
    """How many more than k are proposed, that the bound may settle nearly every row.

    The bound is some .003 √d standard deviations of a pre-activation wide, and where the k largest
    of many end, such a step down the tail holds some .01 √d · k of them; twice that, and 8.

    Example:
        >>> slack(32, 768)
        31
    """
    return 8 + math.ceil(k * d**0.5 / 40)


def _product(rows: Tensor, encoder: RoughEncoder, room: Tensor | None) -> Tensor:
    if rows.is_cuda:  # fp32 sums, and no second rounding; its allocator keeps what was freed
        return torch.mm(rows, encoder.W_rough.T, out_dtype=torch.float32).add_(encoder.b_enc)
    return torch.addmm(encoder.b_rough, rows, encoder.W_rough.T, out=room)


def _norms(rows: Float[Tensor, "row d"]) -> Float[Tensor, " row"]:
    return torch.linalg.vector_norm(rows, dim=1)
