"""Entropy of the next token as the logit lens reads it off a state: needs no label."""

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.registry import measure
from energylens.energy.energies.surprisal import Lens


@measure(
    units="nats",
    axes=("sample",),
    source="Shannon 1948; of the lens distribution, nostalgebraist 2020",
    null="log of the vocabulary size: the entropy of a uniform guess",
    formula="E(h) = −Σ_v p_v log p_v, p = softmax(W_U · norm_f(h))",
    unchanged_by=("positive scale of the state, where the final norm is a norm",),
)
def entropy(states: Float[Tensor, "sample d_model"], lens: Lens) -> Float[Tensor, " sample"]:
    """How undecided the distribution is that final norm and unembedding read off each state.

    Low where the state points at one token, right or wrong.
    """
    log_p = torch.log_softmax(lens(states), -1)
    return -(log_p.exp() * log_p).sum(-1)
