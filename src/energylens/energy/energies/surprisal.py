"""Surprisal of the next token as the logit lens reads it off a state."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.core.registry import measure

Lens = Callable[[Tensor], Tensor]


@measure(
    units="nats",
    axes=("sample",),
    source="nostalgebraist 2020, logit lens; with the model's final norm",
    null="log of the vocabulary size: what a uniform guess costs",
    formula="E(h) = −log softmax(W_U · norm_f(h))[next token]",
    unchanged_by=("positive scale of the state, where the final norm is a norm",),
)
def surprisal(
    states: Float[Tensor, "sample d_model"], next_ids: Int[Tensor, " sample"], lens: Lens
) -> Float[Tensor, " sample"]:
    """−log p(next token) with p read off each state by final norm and unembedding.

    Without the final norm the lens reads worse than uniform on most models. Even with it, states
    of early layers are read badly: findings rest on the downstream energy.
    """
    logits = lens(states)
    return torch.logsumexp(logits, -1) - logits.gather(-1, next_ids[:, None])[:, 0]
