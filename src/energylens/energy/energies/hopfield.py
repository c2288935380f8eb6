"""Modern Hopfield networks: an energy whose minima are planted."""

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.core.registry import measure


@measure(
    units="energy of the network, without dimension",
    axes=("sample",),
    source="Ramsauer et al. 2020, arXiv 2008.02217, equation 2, without its constants",
    null="the energy of the mean pattern, where nothing is retrieved",
    formula="E(ξ) = −β⁻¹ logsumexp(β Xᵀξ) + ½ ξᵀξ",
    unchanged_by=("order of the patterns", "a rotation of patterns and states together"),
)
def hopfield(
    states: Float[Tensor, "sample d"],
    patterns: Float[Tensor, "pattern d"],
    beta: float | int,
) -> Float[Tensor, " sample"]:
    """Energy of each state among stored patterns.

    Its negative gradient is the network's own step, `hopfield_update` minus the state.

    Args:
        patterns: The stored patterns, one a row.
        beta: Inverse temperature; large: one minimum near each pattern.

    Raises:
        BadInput: If beta is not positive.

    Example:
        >>> hopfield(torch.zeros(1, 2), torch.eye(2), 1.0).exp().item()  # −log 2
        0.5
    """
    _positive(beta)
    overlap = torch.logsumexp(beta * states @ patterns.T, -1) / beta
    return 0.5 * states.square().sum(-1) - overlap


def hopfield_update(
    states: Float[Tensor, "sample d"],
    patterns: Float[Tensor, "pattern d"],
    beta: float | int,
) -> Float[Tensor, "sample d"]:
    """One step of the network, ξ ← X softmax(β Xᵀξ): never raises the energy."""
    _positive(beta)
    return torch.softmax(beta * states @ patterns.T, -1) @ patterns


def _positive(beta: float | int) -> None:
    if not beta > 0:
        raise BadInput(f"beta = {beta} asked for: an inverse temperature is above 0")
