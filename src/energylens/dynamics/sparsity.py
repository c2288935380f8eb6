"""How few carry most: of a neuron over inputs (lifetime), or of an input over neurons (population).

The last axis is what is summed over: give activations as [neuron, sample] for lifetime sparsity and
as [sample, neuron] for population sparsity. None depends on the scale of the activations, as a
share above some threshold does.
"""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.core.registry import measure


@measure(
    units="share",
    axes=(),
    source="definition: exact zeros, as a rectifier leaves them",
    null="½: a rectifier behind inputs that are symmetric about 0",
    unchanged_by=("order", "positive scale"),
    formula="#{x = 0} / n",
)
def zero_share(values: Float[Tensor, "*shape n"]) -> Float64[Tensor, "*shape"]:
    """Share of exact zeros; a threshold would make it depend on the scale.

    Example:
        >>> zero_share(torch.tensor([0.0, 1.0, 0.0, -2.0])).item()
        0.5
    """
    return _undefined_where((values == 0).double().mean(-1), ~values.isfinite().all(-1))


@measure(
    units="0 where all are equal, 1 where one is not 0",
    axes=(),
    source="Hoyer 2004, Journal of Machine Learning Research 5",
    null="normal values: (√n − √(2n/π)) / (√n − 1) → 1 − √(2/π) ≈ .202",
    unchanged_by=("order", "scale and signs"),
    formula="(√n − Σ|x| / √Σx²) / (√n − 1)",
)
def hoyer_sparsity(values: Float[Tensor, "*shape n"]) -> Float64[Tensor, "*shape"]:
    """How few entries carry the length; nan where all are 0.

    Example:
        >>> hoyer_sparsity(torch.tensor([[2.0, 2.0, 2.0, 2.0], [0.0, 3.0, 0.0, 0.0]])).tolist()
        [0.0, 1.0]

    Raises:
        InsufficientData: If there is one entry alone.
    """
    x, n = _scaled(values)
    flatness = x.sum(-1) / x.square().sum(-1).sqrt()
    return ((math.sqrt(n) - flatness) / (math.sqrt(n) - 1)).clamp(0, 1)


@measure(
    units="0 where all are equal, 1 where one is not 0",
    axes=(),
    source="Rolls & Tovee 1995, scaled as in Vinje & Gallant 2000",
    null="sizes of normal values: 1 − 2/π ≈ .363; rectified ones: 1 − 1/π ≈ .682",
    unchanged_by=("order", "scale and signs"),
    formula="(1 − (Σ|x|/n)² / (Σx²/n)) / (1 − 1/n)",
)
def treves_rolls_sparsity(values: Float[Tensor, "*shape n"]) -> Float64[Tensor, "*shape"]:
    """How few entries carry the activity; nan where all are 0.

    Example:
        >>> treves_rolls_sparsity(torch.tensor([[1.0, 1.0], [0.0, 5.0]])).tolist()
        [0.0, 1.0]

    Raises:
        InsufficientData: If there is one entry alone.
    """
    x, n = _scaled(values)
    activity = x.mean(-1).square() / x.square().mean(-1)
    return ((1 - activity) / (1 - 1 / n)).clamp(0, 1)


def _scaled(values: Tensor) -> tuple[Float64[Tensor, "*shape n"], int]:
    """Sizes over the largest of them, so that squares neither vanish nor overflow."""
    n = values.shape[-1]
    if n < 2:
        raise InsufficientData(f"sparsity needs 2 entries, got {n}: give more samples or neurons")
    sizes = values.double().abs()
    largest = sizes.amax(-1, keepdim=True)
    return sizes / torch.where(largest > 0, largest, torch.nan), n


def _undefined_where(found: Tensor, undefined: Tensor) -> Float64[Tensor, "*shape"]:
    return torch.where(undefined, torch.nan, found)
