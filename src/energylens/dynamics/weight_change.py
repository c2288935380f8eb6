"""How far weights have moved between two moments of a training."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.core.registry import measure


@measure(
    units="length of the weights",
    axes=(),
    source="definition: Frobenius norm of the difference",
    null="as many steps elsewhere in the same training; n steps of length s in random directions:"
    " s √n",
    unchanged_by=("rotation of the space",),
    formula="‖after − before‖",
)
def weight_distance(
    before: Float[Tensor, "*shape"], after: Float[Tensor, "*other"]
) -> Float64[Tensor, ""]:
    """How far the weights have moved.

    Example:
        >>> weight_distance(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])).item()
        5.0

    Raises:
        BadInput: If the shapes differ.
    """
    one, other = _alike(before, after)
    return torch.linalg.vector_norm(other - one)


@measure(
    units="share of the length before",
    axes=(),
    source="definition",
    null="as many steps elsewhere in the same training",
    unchanged_by=("rotation of the space", "a common scale"),
    formula="‖after − before‖ / ‖before‖",
)
def relative_weight_change(
    before: Float[Tensor, "*shape"], after: Float[Tensor, "*other"]
) -> Float64[Tensor, ""]:
    """How far the weights have moved, in parts of their length; nan if they were 0.

    Raises:
        BadInput: If the shapes differ.
    """
    one, other = _alike(before, after)
    length = torch.linalg.vector_norm(one)
    return torch.linalg.vector_norm(other - one) / torch.where(length > 0, length, torch.nan)


@measure(
    units="cosine",
    axes=(),
    source="definition: of the weights before with those after",
    null="as many steps elsewhere in the same training; independent weights: 0 ± 1 / √size",
    unchanged_by=("rotation of the space", "positive scale of either"),
    formula="before · after / (‖before‖ ‖after‖)",
)
def weight_cosine(
    before: Float[Tensor, "*shape"], after: Float[Tensor, "*other"]
) -> Float64[Tensor, ""]:
    """Whether the weights still point the same way, whatever their length; nan where either is 0.

    Example:
        >>> weight_cosine(torch.tensor([1.0, 0.0]), torch.tensor([5.0, 0.0])).item()
        1.0

    Raises:
        BadInput: If the shapes differ.
    """
    one, other = _alike(before, after)
    lengths = torch.linalg.vector_norm(one) * torch.linalg.vector_norm(other)
    return (one * other).sum() / torch.where(lengths > 0, lengths, torch.nan)


def same_parameters(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Names of the parameters of two checkpoints of one network, in their order.

    Raises:
        BadInput: If one has a parameter that the other lacks.
    """
    if strange := sorted(before.keys() ^ after.keys()):
        raise BadInput(
            f"two checkpoints of one network have the same parameters, found {strange[0]!r} in"
            " one of them alone: compare checkpoints of one training"
        )
    return tuple(before)


def _alike(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    if before.shape != after.shape:
        raise BadInput(
            f"weights of shape {list(before.shape)} cannot have become {list(after.shape)}: "
            "compare checkpoints of one training"
        )
    return before.double().flatten(), after.double().flatten()
