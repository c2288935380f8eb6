"""Free energy of the lens distribution: needs no label."""

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.registry import measure
from energylens.energy.energies.surprisal import Lens


@measure(
    units="nats",
    axes=("sample",),
    source="LeCun et al. 2006, energy-based learning; Liu et al. 2020 for classifiers",
    null="minus the log of the vocabulary size: the free energy of all-zero logits",
    formula="E(h) = −logsumexp(W_U · norm_f(h))",
    unchanged_by=("positive scale of the state, where the final norm is a norm",),
)
def free_energy(states: Float[Tensor, "sample d_model"], lens: Lens) -> Float[Tensor, " sample"]:
    """−logsumexp of the logits that final norm and unembedding read off each state."""
    return -torch.logsumexp(lens(states), -1)
