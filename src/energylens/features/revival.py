"""Latents that no longer fire: told by tokens, brought back by an auxiliary loss (AuxK).

Gao et al. 2024 (arXiv 2406.04093, A.2): the dead latents with the largest pre-activations
reconstruct what the live ones left over, so that they move to where something is missing.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from energylens.features.dictionary import Dictionary
from energylens.features.mesh import ALONE, Mesh
from energylens.features.selection import least_of_best
from energylens.features.step import Step

SHARE_OF_ROWS = 4
"""One row in four carries the auxiliary loss: a quarter the cost, and unbiased even where the rows
of a batch are in the order of a text."""


@torch.no_grad()
def revive(
    dictionary: Dictionary,
    centered: Float[Tensor, "sample d_in"],
    step: Step,
    dead: Bool[Tensor, " feature"],
    *,
    aux_k: int,
    weight: float,
    mesh: Mesh = ALONE,
) -> Float[Tensor, ""]:
    """Add the auxiliary loss' gradients to the dead latents' rows of a step, in place.

    The loss is weight · Σ‖r − r̂‖² / Σ‖r‖², where r = x − x̂ is held fixed and r̂ is what the
    `aux_k` largest pre-activations among the dead make of it. Only rows of dead latents get a
    gradient, of the encoder as of the decoder; b_dec gets none.

    Args:
        dictionary: The dictionary in training, or this process's part of it.
        centered: Rows x − b_dec that this process sees.
        step: Of the same rows; its gradients are added to.
        dead: Latents to revive.
        aux_k: How many of the dead may fire on a row.
        weight: Weight of the loss (1/32 in the paper).
        mesh: The processes that share the step.

    Returns:
        The auxiliary loss, weighted; 0 where nothing is dead or nothing was left over.
    """
    which = dead.nonzero().flatten()
    rows = mesh.every(SHARE_OF_ROWS, len(centered), like=which)
    centered, left_over = centered[rows], step.residual[rows]
    total = mesh.rows.all_reduce(left_over.square().sum())
    if not int(mesh.features.all_reduce(dead.sum())) or not total > 0:
        return torch.zeros_like(total)
    W_enc, W_dec = dictionary.W_enc[which], dictionary.W_dec[which]
    pre = torch.addmm(dictionary.b_enc[which], centered, W_enc.T)
    activation = pre.relu() * (pre >= least_of_best(pre, aux_k, mesh.features))
    error = mesh.features.all_reduce(activation @ W_dec) - left_over
    g = error * (2 * weight / total)
    by_activation = (g @ W_dec.T) * (activation > 0)
    step.gradients["W_dec"].index_add_(0, which, activation.T @ g)
    step.gradients["W_enc"].index_add_(0, which, by_activation.T @ centered)
    step.gradients["b_enc"].index_add_(0, which, by_activation.sum(0))
    return weight * mesh.rows.all_reduce(error.square().sum()) / total
