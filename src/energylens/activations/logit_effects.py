"""What a direction in the residual stream does to the logits, by direct attribution."""

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.activations.subject import Subject


@torch.no_grad()
def logit_effects(
    subject: Subject,
    state: Float[Tensor, " d_model"],
    directions: Float[Tensor, "direction d_model"],
) -> Float[Tensor, "direction vocab"]:
    """Change of each logit per unit of a direction, by the lens linearised at a state.

    Of the direct path alone: what later blocks make of the direction is not in it. Each row has
    mean 0, since a constant added to all logits changes nothing. In logits per unit of activation.

    Args:
        state: Where the final norm is linearised, such as the mean state.

    Raises:
        SiteNotAvailable: If the model has no lens.
    """
    norm, weight = subject.final_norm, subject.unembed.weight
    assert isinstance(weight, Tensor)
    point = state.repeat(len(directions), 1)  # forward derivatives write to it
    pushed = torch.func.jvp(norm, (point,), (directions,))[1]
    effect = pushed @ weight.T
    return effect.sub_(effect.mean(1, keepdim=True))
