"""Surprisal, free energy and both gradients at once, from two vocabulary products.

Both gradients need Wᵀp, the unembedding's transpose applied to the lens distribution:
∇free_energy = −Jᵀ Wᵀp and ∇surprisal = Jᵀ (Wᵀp − W[next]), J the Jacobian of the final norm. So
one product up and one down serve two energies, where autograd on each would take four.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

# Rows whose logits exist at one time: 49,152 tokens × 256 rows × 4 bytes = 50 MB.
ROW_BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class LensEnergies:
    """Two energies of each state and their gradients."""

    surprisal: Float[Tensor, " sample"]
    free_energy: Float[Tensor, " sample"]
    surprisal_gradient: Float[Tensor, "sample d_model"]
    free_energy_gradient: Float[Tensor, "sample d_model"]


def lens_energies(
    states: Float[Tensor, "sample d_model"],
    next_ids: Int[Tensor, " sample"],
    norm: nn.Module,
    unembed: nn.Module,
) -> LensEnergies:
    """Equal to differentiating `surprisal` and `free_energy`, at half the cost.

    Args:
        norm: The model's final norm.
        unembed: The unembedding, a linear map with `weight` [vocab d_model] and maybe `bias`.
    """
    weight, bias = unembed.weight, getattr(unembed, "bias", None)
    assert isinstance(weight, Tensor)
    surprisal = states.new_empty(len(states))
    free_energy = states.new_empty(len(states))
    by_surprisal, by_free = torch.empty_like(states), torch.empty_like(states)
    for first in range(0, len(states), ROW_BLOCK):
        rows = slice(first, first + ROW_BLOCK)
        targets = next_ids[rows]
        with torch.enable_grad():
            state = states[rows].detach().requires_grad_()
            normed = norm(state)
        with torch.no_grad():
            logits = nn.functional.linear(normed, weight, bias)
            log_z = torch.logsumexp(logits, -1)
            surprisal[rows] = log_z - logits.gather(-1, targets[:, None])[:, 0]
            free_energy[rows] = -log_z
            expected = logits.sub_(log_z[:, None]).exp_() @ weight  # Wᵀp
        # Two vector products with the norm's Jacobian; its graph is kept for the second.
        (pulled,) = torch.autograd.grad(normed, state, expected, retain_graph=True)
        (label,) = torch.autograd.grad(normed, state, weight[targets].detach())
        by_free[rows] = -pulled
        by_surprisal[rows] = pulled - label
    return LensEnergies(
        surprisal=surprisal, free_energy=free_energy,
        surprisal_gradient=by_surprisal, free_energy_gradient=by_free,
    )  # fmt: skip


@torch.no_grad()
def lens_values(
    states: Float[Tensor, "sample d_model"],
    next_ids: Int[Tensor, " sample"],
    norm: nn.Module,
    unembed: nn.Module,
) -> tuple[Float[Tensor, " sample"], Float[Tensor, " sample"]]:
    """Surprisal and free energy of each state from one vocabulary product, without gradients."""
    parts = []
    for state, target in zip(states.split(ROW_BLOCK), next_ids.split(ROW_BLOCK), strict=True):
        logits = unembed(norm(state))
        log_z = torch.logsumexp(logits, -1)
        parts.append((log_z - logits.gather(-1, target[:, None])[:, 0], -log_z))
    if not parts:
        return states.new_empty(0), states.new_empty(0)
    surprisal, free_energy = zip(*parts, strict=True)
    return torch.cat(surprisal), torch.cat(free_energy)
