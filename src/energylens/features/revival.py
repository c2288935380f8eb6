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
BLOCK = 128
"""Rows at once: what there is of the dead is then small beside the weights."""


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
    total = mesh.rows.all_reduce(step.residual[rows].square().sum())
    if not int(mesh.features.all_reduce(dead.sum())) or not total > 0:
        return torch.zeros_like(total)
    squares = torch.zeros_like(total)
    for some in rows.split(BLOCK):
        read, left_over = centered[some], step.residual[some]
        activation = _fired(dictionary, read, which, aux_k, mesh)
        W_dec = dictionary.W_dec[which]
        error = mesh.features.all_reduce(activation @ W_dec).sub_(left_over)
        squares += error.square().sum()
        g = error.mul_(2 * weight / total)
        by_activation = (g @ W_dec.T).mul_(activation > 0)
        del W_dec
        step.gradients["W_dec"].index_add_(0, which, activation.T @ g)
        step.gradients["W_enc"].index_add_(0, which, by_activation.T @ read)
        step.gradients["b_enc"].index_add_(0, which, by_activation.sum(0))
    return weight * mesh.rows.all_reduce(squares) / total


def _fired(
    dictionary: Dictionary, read: Tensor, which: Tensor, aux_k: int, mesh: Mesh
) -> Float[Tensor, "sample dead"]:
    """The largest pre-activations of each row among the dead, where above 0; else 0."""
    pre = torch.addmm(dictionary.b_enc[which], read, dictionary.W_enc[which].T)
    least = least_of_best(pre, aux_k, mesh.features)
    return pre.mul_((pre >= least) & (pre > 0))
