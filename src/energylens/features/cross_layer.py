"""Cross-layer transcoders: features read at one layer and write to that and all later ones.

Ameisen et al. 2025, "Circuit Tracing: Revealing Computational Graphs in Language Models". A feature
of layer l reads what the MLP of layer l is given, or the residual stream there, and makes part of
what the MLPs of layers l … L − 1 write: computation that is passed on through many layers is one
feature, not one a layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.features.architecture import ARCHITECTURES
from energylens.features.code import SparseCode
from energylens.features.dictionary import Dictionary
from energylens.features.frame import Frame, unfold


@dataclass(frozen=True, kw_only=True, eq=False)
class CrossLayerTranscoder:
    """The features of all layers; every tuple has one entry a layer, in the order of `layers`.

    Training keeps each feature's decoder row at norm 1 over all the layers it writes to, so that
    its activation is the length of all that it writes: features compete by that, across layers
    where a batch is shared out among them, and a threshold means the same for each.

    Args:
        architecture: Name in `ARCHITECTURES`.
        k: Active features a row and layer: the most, or the mean that training was steered to.
        layers: Which layers of the model, first to last.
        W_enc: Encoders.
        b_enc: Their offsets.
        W_dec: Decoders; row f of layer l's is what feature f writes to layers l, l + 1 ….
        b_dec: Added to the reconstruction of each layer.
        own: Trained parameters of the architecture, of each layer.
        metadata: Where it belongs (`model_name`, `feature_input_hook` …), JSON values only.

    Raises:
        BadInput: If the tensors do not fit each other.
    """

    architecture: str
    k: int
    layers: tuple[int, ...]
    W_enc: tuple[Float[Tensor, "_ d_in"], ...]
    b_enc: tuple[Float[Tensor, " _"], ...]
    W_dec: tuple[Float[Tensor, "_ _ d_out"], ...]
    b_dec: Float[Tensor, "layer d_out"]
    own: tuple[Mapping[str, Tensor], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.own:
            object.__setattr__(self, "own", tuple({} for _ in self.layers))
        counts = {len(t) for t in (self.W_enc, self.b_enc, self.W_dec, self.b_dec, self.own)}
        reach = [w.shape[1] for w in self.W_dec]
        if counts != {len(self.layers)} or reach != list(range(len(self.layers), 0, -1)):
            raise BadInput(
                f"{len(self.layers)} layers need an encoder each and decoders that reach from there"
                f" to the last, found {len(self.W_enc)} encoders and decoders to {reach} layers"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of features of each layer."""
        return tuple(len(b) for b in self.b_enc)

    @property
    def width(self) -> int:
        """Number of features of all layers together."""
        return sum(self.widths)

    @property
    def d_in(self) -> int:
        """Width of the rows that a layer reads."""
        return self.W_enc[0].shape[1]

    @property
    def d_out(self) -> int:
        """Width of the rows that a layer writes."""
        return self.b_dec.shape[1]

    @property
    def weights(self) -> dict[str, Tensor]:
        """All its tensors by name: `W_enc.0` is that of the first of the layers."""
        made = {"b_dec": self.b_dec}
        for place in range(len(self.layers)):
            part = {n: getattr(self, n)[place] for n in ("W_enc", "b_enc", "W_dec")}
            made |= {f"{name}.{place}": w for name, w in (part | dict(self.own[place])).items()}
        return made

    @classmethod
    def of_weights(
        cls,
        weights: Mapping[str, Tensor],
        *,
        architecture: str,
        k: int,
        layers: tuple[int, ...],
        metadata: Mapping[str, Any] | None = None,
    ) -> "CrossLayerTranscoder":
        """What has these `weights`."""
        parts = [
            {n.removesuffix(f".{place}"): w for n, w in weights.items() if n.endswith(f".{place}")}
            for place in range(len(layers))
        ]
        W_enc, b_enc, W_dec = (
            tuple(part.pop(name) for part in parts) for name in ("W_enc", "b_enc", "W_dec")
        )
        return cls(
            architecture=architecture, k=k, layers=layers, W_enc=W_enc, b_enc=b_enc, W_dec=W_dec,
            b_dec=weights["b_dec"], own=tuple(parts), metadata=dict(metadata or {}),
        )  # fmt: skip

    def with_weights(self, weights: Mapping[str, Tensor]) -> "CrossLayerTranscoder":
        """The same kind of transcoder with other tensors, all those of `weights`."""
        return self.of_weights(
            weights, architecture=self.architecture, k=self.k, layers=self.layers,
            metadata=self.metadata,
        )  # fmt: skip

    def part(self, place: int) -> Dictionary:
        """One layer's features: a transcoder to the layers it reaches, side by side.

        It shares memory with this, and has no offset: what `part`s write is to be added up.
        """
        W_dec = self.W_dec[place].flatten(1)
        return Dictionary(
            architecture=self.architecture, k=self.k, W_enc=self.W_enc[place],
            b_enc=self.b_enc[place], W_dec=W_dec, b_dec=W_dec.new_zeros(W_dec.shape[1]),
            own=self.own[place], subtracts_b_dec=False,
        )  # fmt: skip

    @property
    def parts(self) -> tuple[Dictionary, ...]:
        """Every layer's features."""
        return tuple(self.part(place) for place in range(len(self.layers)))

    def encode(self, inputs: Mapping[int, Float[Tensor, "sample d_in"]]) -> dict[int, SparseCode]:
        """The code of each layer.

        Raises:
            BadInput: If a layer is missing or there is another, or rows have another width or type.
        """
        if set(inputs) != set(self.layers):
            raise BadInput(
                f"the transcoder reads layers {', '.join(map(str, self.layers))}, found"
                f" {', '.join(map(str, inputs))}: give the rows of each layer"
            )
        return {
            layer: part.encode(inputs[layer])
            for layer, part in zip(self.layers, self.parts, strict=True)
        }

    def decode(self, codes: Mapping[int, SparseCode]) -> dict[int, Float[Tensor, "sample d_out"]]:
        """What the codes of all layers make of each layer's output."""
        written = (part.decode(codes[n]) for n, part in zip(self.layers, self.parts, strict=True))
        made = add_up(*written).unflatten(1, self.b_dec.shape) + self.b_dec
        return dict(zip(self.layers, made.unbind(1), strict=True))

    def reconstruct(
        self, inputs: Mapping[int, Float[Tensor, "sample d_in"]]
    ) -> dict[int, Float[Tensor, "sample d_out"]]:
        """`decode(encode(inputs))`."""
        return self.decode(self.encode(inputs))

    def with_parts(self, parts: tuple[Dictionary, ...]) -> "CrossLayerTranscoder":
        """The same with other features, one transcoder a layer, as `parts` gives them."""
        return replace(
            self, architecture=parts[0].architecture,
            W_enc=tuple(p.W_enc for p in parts), b_enc=tuple(p.b_enc for p in parts),
            W_dec=tuple(p.W_dec.unflatten(1, (-1, self.d_out)) for p in parts),
            own=tuple(p.own for p in parts),
        )  # fmt: skip

    def finish(self) -> "CrossLayerTranscoder":
        """What is used after training: the same, or its equal of another architecture."""
        kind = ARCHITECTURES[self.architecture]
        return self.with_parts(tuple(kind.finish(part) for part in self.parts))

    def unfold(self, frame: Frame, aim: Frame) -> "CrossLayerTranscoder":
        """What makes of rows as they came what this makes of them in two frames.

        Args:
            frame: Of the inputs of all layers side by side.
            aim: Of the outputs.
        """
        parts = tuple(
            unfold(
                part, frame.columns(slice(place * self.d_in, (place + 1) * self.d_in)),
                aim.columns(slice(place * self.d_out, None)),
            )
            for place, part in enumerate(self.parts)
        )  # fmt: skip
        b_dec = aim.center + self.b_dec.flatten() / aim.scale
        return replace(self.with_parts(parts), b_dec=b_dec.view_as(self.b_dec))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "CrossLayerTranscoder":
        """The same on another device or in another floating type."""
        moved = self.with_parts(tuple(part.to(device, dtype) for part in self.parts))
        return replace(moved, b_dec=self.b_dec.to(device=device, dtype=dtype))


def add_up(*written: Float[Tensor, "sample _"]) -> Float[Tensor, "sample d_out"]:
    """What several layers write: each to the last columns, as many as it has; the first to all.

    Example:
        >>> add_up(torch.ones(1, 3), torch.ones(1, 2), torch.ones(1, 1)).tolist()
        [[1.0, 2.0, 3.0]]
    """
    return _AddUp.apply(*written)  # type: ignore[no-any-return, no-untyped-call]


class _AddUp(torch.autograd.Function):
    """One tensor of the whole size, where autograd's slices would make one a layer."""

    @staticmethod
    def forward(ctx: Any, *written: Tensor) -> Tensor:  # type: ignore[override]
        ctx.widths = [part.shape[1] for part in written]
        total = written[0].clone()
        for part in written[1:]:
            total[:, -part.shape[1] :] += part
        return total

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        return tuple(g[:, -width:] for width in ctx.widths)
