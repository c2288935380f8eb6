"""The fixed samples that a network is looked at with while it trains."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from energylens.core.errors import BadInput, InsufficientData

Forward = Callable[[nn.Module, Any], object]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Samples in one part or two; every part goes through the network by itself.

    Attributes:
        parts: What the network is called with: a tensor, positional arguments or named ones.
        samples: In each part.
    """

    parts: tuple[Any, ...]
    samples: int

    def to(self, device: torch.device) -> "Probe":
        """The same samples on a device."""
        parts = tuple(_apply(part, lambda x: x.to(device)) for part in self.parts)
        return Probe(parts=parts, samples=self.samples)

    def sha256(self) -> str:
        """Of the samples, in hex."""
        digest = hashlib.sha256()
        for tensor in (x for part in self.parts for x in _tensors(part)):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
            digest.update(flat.cpu().numpy().tobytes())
        return digest.hexdigest()


def make_probe(batch: Any, *, again: bool) -> Probe:
    """Samples of a batch; with `again` in two halves, every other sample each.

    Args:
        batch: A tensor, a tuple or list of positional arguments, or a mapping of named ones. The
            first tensor says how many samples there are; other tensors of that length are split
            too, and whatever else there is goes to both halves.
        again: Whether there is a second half, which tells how far values depend on the samples.

    Raises:
        BadInput: If the batch holds no tensor.
        InsufficientData: If a part would have fewer than two samples.
    """
    tensors = _tensors(batch)
    if not tensors or tensors[0].ndim == 0:
        raise BadInput(
            f"the probe is a {type(batch).__name__} without a tensor of samples: give what the"
            " network is called with, as a tensor, a tuple of arguments or a mapping of them"
        )
    given = len(tensors[0])
    samples = given // 2 if again else given
    if samples < 2:
        raise InsufficientData(
            f"the probe has {given} samples: "
            + ("two halves need 2 each, so give 4 or again=False" if again else "give 2 or more")
        )

    def part(first: int) -> Any:
        step = 2 if again else 1
        return _apply(
            batch, lambda x: x[first::step][:samples] if x.ndim and len(x) == given else x
        )

    return Probe(parts=tuple(part(first) for first in range(2 if again else 1)), samples=samples)


def call(module: nn.Module, part: Any) -> object:
    """Call a network with a part of a probe."""
    if isinstance(part, Mapping):
        return module(**part)
    return module(*part) if isinstance(part, tuple | list) else module(part)


def padding_of(part: Any) -> Shaped[Tensor, "sample pos"] | None:
    """Which positions of the samples are real, where the probe says so by `attention_mask`."""
    mask = part.get("attention_mask") if isinstance(part, Mapping) else None
    return mask.bool() if isinstance(mask, Tensor) and mask.ndim == 2 else None


def _tensors(batch: Any) -> list[Tensor]:
    if isinstance(batch, Tensor):
        return [batch]
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    return [x for x in batch if isinstance(x, Tensor)] if isinstance(batch, tuple | list) else []


def _apply(batch: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {key: _apply(value, function) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(_apply(value, function) for value in batch)
    return batch
