"""Latents that no longer fire: told by tokens, brought back by an auxiliary loss (AuxK).

Gao et al. 2024 (arXiv 2406.04093, A.2): the dead latents with the largest pre-activations
reconstruct what the live ones left over, so that they move to where something is missing.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from energylens.features.dictionary import Dictionary
from energylens.features.mesh import ALONE, Mesh
from energylens.features.selection import least_of_best
from energylens.features.step import Step

SHARE_OF_ROWS = 4
"""One row in four carries the auxiliary loss: a quarter the cost, and unbiased even where the rows
of a batch are in the order of a text."""
ROWS_AT_ONCE, FEATURES_AT_ONCE = 512, 1024
"""What there is at once of the dead, their pre-activations on some rows and the weights of some of
them, is then small beside the weights."""


@torch.no_grad()
def revive(
    dictionary: Dictionary,
    rows: Float[Tensor, "sample d_in"],
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
        rows: What this process sees of the batch.
        step: Of the same rows; its gradients are added to.
        dead: Latents to revive.
        aux_k: How many of the dead may fire on a row.
        weight: Weight of the loss (1/32 in the paper).
        mesh: The processes that share the step.

    Returns:
        The auxiliary loss, weighted; 0 where nothing is dead or nothing was left over.
    """
    which = dead.nonzero().flatten()
    chosen = mesh.every(SHARE_OF_ROWS, len(rows), like=which)
    total = mesh.rows.all_reduce(step.residual[chosen].square().sum())
    if not int(mesh.features.all_reduce(dead.sum())) or not total > 0:
        return torch.zeros_like(total)
    squares = torch.zeros_like(total)
    for some in chosen.split(ROWS_AT_ONCE):
        read, left_over = rows[some], step.residual[some]
        if dictionary.subtracts_b_dec:
            read -= dictionary.b_dec
        activation = _fired(dictionary, read, which, aux_k, mesh)
        made = torch.zeros_like(left_over)
        for tile, own in _tiles(which):
            made.addmm_(activation[:, tile], dictionary.W_dec[own])
        error = mesh.features.all_reduce(made).sub_(left_over)
        squares += error.square().sum()
        g = error.mul_(2 * weight / total)
        for tile, own in _tiles(which):
            a = activation[:, tile]
            by_a = (g @ dictionary.W_dec[own].T).mul_(a > 0)
            step.gradients["W_dec"].index_add_(0, own, a.T @ g)
            step.gradients["W_enc"].index_add_(0, own, by_a.T @ read)
            step.gradients["b_enc"].index_add_(0, own, by_a.sum(0))
    return weight * mesh.rows.all_reduce(squares) / total


def _tiles(which: Int64[Tensor, " dead"]) -> Iterator[tuple[slice, Int64[Tensor, " some"]]]:
    """Some of the dead at a time: where they stand among them, and their numbers."""
    for first in range(0, len(which), FEATURES_AT_ONCE):
        tile = slice(first, first + FEATURES_AT_ONCE)
        yield tile, which[tile]


def _fired(
    dictionary: Dictionary, read: Tensor, which: Tensor, aux_k: int, mesh: Mesh
) -> Float[Tensor, "sample dead"]:
    """The largest pre-activations of each row among the dead, where above 0; else 0."""
    pre = read.new_empty(len(read), len(which))
    for tile, own in _tiles(which):
        pre[:, tile] = torch.addmm(dictionary.b_enc[own], read, dictionary.W_enc[own].T)
    least = least_of_best(pre, aux_k, mesh.features)
    return pre.masked_fill_((pre < least) | (pre <= 0), 0)
