"""Rows made of known features, of several sites or layers: what crosscoders and cross-layer
transcoders are judged by."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from energylens.stats.nulls import random_unit_directions


@dataclass(frozen=True, kw_only=True, eq=False)
class PlantedSites:
    """Rows of several sites that are sums of the same features.

    Attributes:
        rows: Of each site.
        directions: What each feature is at each site: of norm 1, or 0 where it is absent.
        present: At which sites it is, in their order.
        active: Which features each row was made of.
    """

    rows: Mapping[str, Float[Tensor, "sample _"]]
    directions: Mapping[str, Float[Tensor, "planted _"]]
    present: Bool[Tensor, "planted site"]
    active: Bool[Tensor, "sample planted"]

    @property
    def together(self) -> Float[Tensor, "planted d"]:
        """Directions over all sites."""
        return torch.cat(list(self.directions.values()), dim=1)


def planted_sites(
    widths: Mapping[str, int],
    *,
    shared: int,
    exclusive: int,
    rows: int,
    active: int,
    generator: torch.Generator,
) -> PlantedSites:
    """Rows of `active` features each, with activations uniform in 1 … 2.

    Args:
        widths: Of each site.
        shared: Features that every site has, in a direction of its own.
        exclusive: Features that one site has alone, as many of each site.
    """
    features, sites = shared + exclusive * len(widths), len(widths)
    home = (torch.arange(features) - shared).div(max(1, exclusive), rounding_mode="floor")
    present = (home < 0)[:, None] | (home[:, None] == torch.arange(sites))
    code = _code(rows, features, active, generator)
    directions = {
        name: random_unit_directions(features, width, generator, like=code) * present[:, [place]]
        for place, (name, width) in enumerate(widths.items())
    }
    return PlantedSites(
        rows={name: code @ d for name, d in directions.items()}, directions=directions,
        present=present, active=code > 0,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class PlantedLayers:
    """What layers read and write where each has features of its own, active by themselves.

    Attributes:
        inputs: What each layer reads.
        targets: What is written at each layer, by its own features and those before it.
        reads: The directions in which each layer's features are read.
        writes: What each feature writes to its layer and those above, of norm 1 over all of them.
        active: Which of a layer's features each row was made of.
    """

    inputs: Mapping[int, Float[Tensor, "sample d_in"]]
    targets: Mapping[int, Float[Tensor, "sample d_out"]]
    reads: tuple[Float[Tensor, "planted d_in"], ...]
    writes: tuple[Float[Tensor, "planted _ d_out"], ...]
    active: tuple[Bool[Tensor, "sample planted"], ...]


def planted_layers(
    layers: int,
    *,
    features: int,
    d_in: int,
    d_out: int,
    rows: int,
    active: int,
    generator: torch.Generator,
) -> PlantedLayers:
    """Layers with `features` each, of which `active` make a row, with activations in 1 … 2.

    A feature of layer l writes to each layer from l on with probability ½, and to one at the least.
    No layer can be read from another, so that only one answer is right: in a model the residual
    stream carries early features on, and a late layer might read them too.
    """
    codes = [_code(rows, features, active, generator) for _ in range(layers)]
    reads, writes = [], []
    for layer in range(layers):
        reads.append(random_unit_directions(features, d_in, generator, like=codes[0]))
        reach = layers - layer
        there = torch.rand(features, reach, generator=generator) < 0.5
        there[torch.arange(features), torch.randint(reach, (features,), generator=generator)] = True
        each = random_unit_directions(features * reach, d_out, generator, like=codes[0])
        write = each.view(features, reach, d_out) * there[:, :, None]
        writes.append(normalize(write.flatten(1), dim=1).view_as(write))
    return PlantedLayers(
        inputs={n: code @ read for n, (code, read) in enumerate(zip(codes, reads, strict=True))},
        targets={
            n: torch.stack([codes[low] @ writes[low][:, n - low] for low in range(n + 1)]).sum(0)
            for n in range(layers)
        },
        reads=tuple(reads), writes=tuple(writes), active=tuple(code > 0 for code in codes),
    )  # fmt: skip


def _code(
    rows: int, features: int, active: int, generator: torch.Generator
) -> Float[Tensor, "sample planted"]:
    chosen = torch.rand(rows, features, generator=generator).topk(active, dim=1).indices
    strength = 1 + torch.rand(rows, active, generator=generator)
    return torch.zeros(rows, features).scatter(1, chosen, strength)
