"""One dictionary: input rows → sparse code → output rows."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.core.sparse import combine
from energylens.features.code import SparseCode
from energylens.features.encode import encode_rows

WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec", "W_skip")
COMMON = frozenset({"b_dec", "W_skip"})
"""Those of the weights that are not of single features."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dictionary:
    """A sparse dictionary: plain tensors and the name of the architecture that reads them.

    Encoder rows are contiguous, one a feature. The decoder rows that training leaves have norm 1,
    so an activation is a length in the units of the rows.

    Args:
        architecture: Name in `ARCHITECTURES`.
        k: Active features a row: the most, or the mean that training was steered to.
        W_enc: Encoder.
        b_enc: Encoder's offset.
        W_dec: Decoder; row f is the direction that feature f writes.
        b_dec: Added to the reconstruction.
        own: Trained parameters of the architecture, one value a feature.
        W_skip: What the output takes straight from the input, of a skip transcoder.
        subtracts_b_dec: Whether b_dec is subtracted from the input too; a transcoder's is not.
        metadata: Where the dictionary belongs (`hook_name`, `model_name` …), JSON values only.
    """

    architecture: str
    k: int
    W_enc: Float[Tensor, "feature d_in"]
    b_enc: Float[Tensor, " feature"]
    W_dec: Float[Tensor, "feature d_out"]
    b_dec: Float[Tensor, " d_out"]
    own: Mapping[str, Tensor] = field(default_factory=dict)
    W_skip: Float[Tensor, "d_out d_in"] | None = None
    subtracts_b_dec: bool = True
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Number of features."""
        return self.W_enc.shape[0]

    @property
    def d_in(self) -> int:
        """Width of the rows it reads."""
        return self.W_enc.shape[1]

    @property
    def d_out(self) -> int:
        """Width of the rows it writes."""
        return self.W_dec.shape[1]

    @property
    def weights(self) -> dict[str, Tensor]:
        """All its tensors by name."""
        four = {name: getattr(self, name) for name in WEIGHTS}
        return {name: w for name, w in four.items() if w is not None} | dict(self.own)

    def encode(self, rows: Float[Tensor, "sample d"]) -> SparseCode:
        """Sparse code of each row; differentiable by the rows where they ask for gradients.

        Raises:
            BadInput: If the rows' width or type is not the dictionary's.
        """
        self._check(rows)
        return encode_rows(self, self._centered(rows))

    def decode(self, code: SparseCode) -> Float[Tensor, "sample d_out"]:
        """Reconstruction W_decᵀ a + b_dec of each row of a code.

        Raises:
            BadInput: If the code is of a dictionary of another width.
        """
        if code.width != self.width:
            raise BadInput(
                f"the code has {code.width} features, the dictionary {self.width}: "
                "decode a code with the dictionary that made it"
            )
        return combine(code.indices, code.values, self.W_dec) + self.b_dec

    def reconstruct(self, rows: Float[Tensor, "sample d"]) -> Float[Tensor, "sample d_out"]:
        """`decode(encode(rows))`, and what is skipped."""
        made = self.decode(self.encode(rows))
        return made if self.W_skip is None else made + rows @ self.W_skip.T

    def pre_activations(
        self, rows: Float[Tensor, "sample d"], features: Int64[Tensor, " chosen"]
    ) -> Float[Tensor, "sample chosen"]:
        """What a few features read, W_enc (x − b_dec) + b_enc, before any selection."""
        self._check(rows)
        return torch.addmm(self.b_enc[features], self._centered(rows), self.W_enc[features].T)

    def reading_from(self, offset: Float[Tensor, " d_in"]) -> "Dictionary":
        """What makes of x the code that this one makes of x − offset."""
        shift, own = self.W_enc @ offset, dict(self.own)
        if "b_mag" in own:  # a gate's size has an offset of its own
            own["b_mag"] = own["b_mag"] - own["r_mag"].exp() * shift
        return replace(self, b_enc=self.b_enc - shift, own=own)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Dictionary":
        """The same dictionary on another device or in another floating type."""
        return self.with_weights({
            name: w.to(device=device, dtype=dtype) for name, w in self.weights.items()
        })  # fmt: skip

    def with_weights(self, weights: Mapping[str, Tensor]) -> "Dictionary":
        """The same kind of dictionary with other tensors, all those of `weights`."""
        own = {name: weights[name] for name in self.own}
        return replace(self, own=own, **{n: w for n, w in weights.items() if n not in own})  # type: ignore[arg-type]

    def _centered(self, rows: Tensor) -> Tensor:
        return rows - self.b_dec if self.subtracts_b_dec else rows

    def _check(self, rows: Tensor) -> None:
        if rows.shape[1] != self.d_in or rows.dtype != self.W_enc.dtype:
            raise BadInput(
                f"the dictionary reads rows of {self.d_in} {self.W_enc.dtype} values, "
                f"found {rows.shape[1]} {rows.dtype}: use the site and type it was trained on"
            )


@runtime_checkable
class Weighted(Protocol):
    """What computes with named tensors: a dictionary, or one across layers."""

    @property
    def architecture(self) -> str: ...

    @property
    def k(self) -> int: ...

    @property
    def weights(self) -> Mapping[str, Tensor]: ...


def weights_sha256(dictionary: Weighted) -> str:
    """Hash of what a dictionary computes with, whatever format it came in."""
    digest = hashlib.sha256(f"{dictionary.architecture} {dictionary.k}".encode())
    for name, weight in sorted(dictionary.weights.items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
