"""Cross-layer transcoders the slow and obvious way: a loop over layers, every tensor dense."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def pre_activations(inputs: Sequence[Tensor], w: Weights) -> list[Tensor]:
    """z of each layer, [sample feature]."""
    return [x @ w[f"W_enc.{n}"].T + w[f"b_enc.{n}"] for n, x in enumerate(inputs)]


def outputs(activations: Sequence[Tensor], w: Weights) -> list[Tensor]:
    """What is made of each layer's output: the sum over all features of layers up to it."""
    made = []
    for target in range(len(activations)):
        total = w["b_dec"][target]
        for source in range(target + 1):
            total = total + activations[source] @ w[f"W_dec.{source}"][:, target - source]
        made.append(total)
    return made


def squared_error(made: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Σ over layers, rows and dimensions."""
    return torch.stack([(m - y).square().sum() for m, y in zip(made, targets, strict=True)]).sum()


def kept_over_layers(z: Sequence[Tensor], k: int, kept: Callable[[Tensor, int], Tensor]) -> list:
    """A rule for the rows of one batch, over the rows of all layers."""
    return list(kept(torch.cat(list(z)), k).split([len(part) for part in z]))
