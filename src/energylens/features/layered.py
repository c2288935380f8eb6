"""Several dictionaries as one: each reads some columns of a row and writes some of another.

So a cross-layer transcoder is judged by what judges any dictionary, and so are transcoders of one
layer each, beside which it has to stand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.sparse import combine
from energylens.features.code import SparseCode
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.dictionary import Dictionary


@dataclass(frozen=True, kw_only=True, eq=False)
class Layered:
    """What its parts write, added up where they write to the same columns.

    Attributes:
        parts: Their features follow one another.
        reads: Columns of a row that each reads.
        writes: Columns that each writes.
        b_dec: Added to what all of them write.
    """

    parts: tuple[Dictionary, ...]
    reads: tuple[slice, ...]
    writes: tuple[slice, ...]
    b_dec: Float[Tensor, " d_out"]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, transcoder: CrossLayerTranscoder) -> "Layered":
        """The layers' rows side by side, and what is written to each of them."""
        places = range(len(transcoder.layers))
        d_in, d_out = transcoder.d_in, transcoder.d_out
        return cls(
            parts=transcoder.parts, b_dec=transcoder.b_dec.flatten(),
            reads=tuple(slice(at * d_in, (at + 1) * d_in) for at in places),
            writes=tuple(slice(at * d_out, None) for at in places), metadata=transcoder.metadata,
        )  # fmt: skip

    @property
    def architecture(self) -> str:
        return self.parts[0].architecture

    @property
    def k(self) -> int:
        """Active features a row, of all parts together."""
        return sum(part.k for part in self.parts)

    @property
    def width(self) -> int:
        """Number of features of all parts."""
        return sum(part.width for part in self.parts)

    @property
    def d_in(self) -> int:
        return max(part.d_in + own.start for part, own in zip(self.parts, self.reads, strict=True))

    @property
    def d_out(self) -> int:
        return len(self.b_dec)

    @property
    def weights(self) -> dict[str, Tensor]:
        """All its tensors by name: `W_enc.0` is that of the first part."""
        parts = {
            f"{name}.{at}": w for at, part in enumerate(self.parts)
            for name, w in part.weights.items()
        }  # fmt: skip
        return {"b_dec": self.b_dec, **parts}

    @property
    def decoder(self) -> Float[Tensor, "feature d_out"]:
        """Decoder rows of all parts, 0 where a part does not write."""
        whole = self.b_dec.new_zeros(self.width, self.d_out)
        for part, first, own in zip(self.parts, self._first, self.writes, strict=True):
            whole[first : first + part.width, own] = part.W_dec
        return whole

    @property
    def _first(self) -> list[int]:
        """Number of each part's first feature."""
        return list(accumulate((part.width for part in self.parts[:-1]), initial=0))

    def encode(self, rows: Float[Tensor, "sample d_in"]) -> SparseCode:
        """The codes of all parts, each at its own features."""
        codes = [part.encode(rows[:, own])
                 for part, own in zip(self.parts, self.reads, strict=True)]  # fmt: skip
        numbered = zip(codes, self._first, strict=True)
        return SparseCode(
            indices=torch.cat([code.indices + first for code, first in numbered], 1),
            values=torch.cat([code.values for code in codes], 1), width=self.width,
        )  # fmt: skip

    def decode(self, code: SparseCode) -> Float[Tensor, "sample d_out"]:
        """What all parts write."""
        made = self.b_dec.repeat(len(code.values), 1)
        for part, first, own in zip(self.parts, self._first, self.writes, strict=True):
            inside = (code.indices >= first) & (code.indices < first + part.width)
            count = inside.sum(1)
            feature, start = code.indices[inside] - first, count.cumsum(0) - count
            made[:, own] += part.b_dec + combine(feature, code.values[inside], part.W_dec, start)
        return made

    def reconstruct(self, rows: Float[Tensor, "sample d_in"]) -> Float[Tensor, "sample d_out"]:
        """`decode(encode(rows))`."""
        return self.decode(self.encode(rows))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Layered":
        """The same on another device or in another floating type."""
        return replace(
            self, parts=tuple(part.to(device, dtype) for part in self.parts),
            b_dec=self.b_dec.to(device=device, dtype=dtype),
        )  # fmt: skip


def one_a_layer(parts: Sequence[Dictionary]) -> Layered:
    """Transcoders of one layer each, or autoencoders, all as wide."""
    first, places = parts[0], range(len(parts))
    return Layered(
        parts=tuple(parts), b_dec=first.b_dec.new_zeros(len(parts) * first.d_out),
        reads=tuple(slice(at * first.d_in, (at + 1) * first.d_in) for at in places),
        writes=tuple(slice(at * first.d_out, (at + 1) * first.d_out) for at in places),
    )  # fmt: skip
