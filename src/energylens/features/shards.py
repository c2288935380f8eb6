"""A dictionary in parts, each with an equal share of the features; and whole again."""

from dataclasses import replace
from typing import TypeVar

import torch
from jaxtyping import Shaped
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.core.ports import Collective
from energylens.features.architecture import ARCHITECTURES
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.dictionary import COMMON, Dictionary
from energylens.features.mesh import Mesh

D = TypeVar("D", Dictionary, CrossLayerTranscoder)


def is_dealt(name: str, architecture: str) -> bool:
    """Whether a weight has an entry a feature, so that every process holds its own share.

    Example:
        >>> is_dealt("W_enc", "topk"), is_dealt("W_dec.3", "topk"), is_dealt("b_dec", "topk")
        (True, True, False)
    """
    of_any_layer = name.partition(".")[0]
    return of_any_layer not in COMMON | ARCHITECTURES[architecture].common


def share(whole: Shaped[Tensor, "feature ..."], features: Collective) -> Shaped[Tensor, "own ..."]:
    """This process's entries, which lie together."""
    size = len(whole) // features.world
    return whole[features.rank * size : (features.rank + 1) * size]


def joined(own: Shaped[Tensor, "own ..."], features: Collective) -> Shaped[Tensor, "feature ..."]:
    """The entries of all processes."""
    return features.all_gather(own).flatten(0, 1)


@torch.no_grad()
def part_of(dictionary: D, mesh: Mesh) -> D:
    """A copy of the part that this process holds, as the first of those that hold it has it.

    Raises:
        BadInput: If the features cannot be dealt to so many processes.
    """
    parts = mesh.features.world
    dealt = (w for name, w in dictionary.weights.items() if is_dealt(name, dictionary.architecture))
    for width in map(len, dealt):
        if width % parts:
            raise BadInput(
                f"a dictionary of {width} features was asked of {parts} processes: choose a width"
                f" that {parts} divides"
            )
    weights = {
        name: mesh.rows.broadcast(share(weight, mesh.features)).clone()
        if is_dealt(name, dictionary.architecture) else mesh.broadcast(weight).clone()
        for name, weight in dictionary.weights.items()
    }  # fmt: skip
    k = ARCHITECTURES[dictionary.architecture].k_of_part(dictionary.k, parts)
    return replace(dictionary.with_weights(weights), k=k)


def whole_of(part: D, features: Collective, *, k: int) -> D:
    """The dictionary of this k that the parts of several processes make."""
    weights = {
        name: joined(weight, features) if is_dealt(name, part.architecture) else weight
        for name, weight in part.weights.items()
    }
    return replace(part.with_weights(weights), k=k)
