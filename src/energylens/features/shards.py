"""A dictionary in parts, each with an equal share of the features; and whole again."""

from dataclasses import replace

import torch
from jaxtyping import Shaped
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.core.ports import Collective
from energylens.features.architecture import ARCHITECTURES
from energylens.features.dictionary import COMMON, Dictionary
from energylens.features.mesh import Mesh


def is_dealt(name: str, architecture: str) -> bool:
    """Whether a weight has an entry a feature, so that every process holds its own share."""
    return name not in COMMON | ARCHITECTURES[architecture].common


def share(whole: Shaped[Tensor, "feature ..."], features: Collective) -> Shaped[Tensor, "own ..."]:
    """This process's entries, which lie together."""
    size = len(whole) // features.world
    return whole[features.rank * size : (features.rank + 1) * size]


def joined(own: Shaped[Tensor, "own ..."], features: Collective) -> Shaped[Tensor, "feature ..."]:
    """The entries of all processes."""
    return features.all_gather(own).flatten(0, 1)


@torch.no_grad()
def part_of(dictionary: Dictionary, mesh: Mesh) -> Dictionary:
    """A copy of the part that this process holds, as the first of those that hold it has it.

    Raises:
        BadInput: If the features cannot be dealt to so many processes.
    """
    parts = mesh.features.world
    if dictionary.width % parts:
        raise BadInput(
            f"a dictionary of {dictionary.width} features was asked of {parts} processes: choose a"
            f" width that {parts} divides"
        )
    weights = {
        name: mesh.rows.broadcast(share(weight, mesh.features)).clone()
        if is_dealt(name, dictionary.architecture) else mesh.broadcast(weight).clone()
        for name, weight in dictionary.weights.items()
    }  # fmt: skip
    k = ARCHITECTURES[dictionary.architecture].k_of_part(dictionary.k, parts)
    return replace(dictionary.with_weights(weights), k=k)


def whole_of(part: Dictionary, features: Collective, *, k: int) -> Dictionary:
    """The dictionary of this k that the parts of several processes make."""
    weights = {
        name: joined(weight, features) if is_dealt(name, part.architecture) else weight
        for name, weight in part.weights.items()
    }
    return replace(part.with_weights(weights), k=k)
