"""Saliency by its definitions: loops over windows, places and features, float64."""

import numpy as np
import torch


def integrated_gradients(energy, off, activation, directions, *, steps: int) -> np.ndarray:
    """∫ dα of −a_f ∂E/∂a_f with every activation scaled by α, by midpoints → [window feature].

    `energy` takes states; only the activations given make up the way from `off` to the states.
    """
    total = np.zeros((activation.shape[0], activation.shape[2]))
    for step in range(steps):
        code = ((step + 0.5) / steps * activation).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(off + code @ directions).sum(), code)
        total -= (activation * gradient).sum(1).numpy() / steps
    return total


def direct_logit(
    state: np.ndarray, scale: np.ndarray, centred: bool, gain: np.ndarray, unembed: np.ndarray,
    next_id: int, direction: np.ndarray,
) -> float:  # fmt: skip
    """Rise of the next token's logit above the mean logit by one unit of a direction at a state."""
    moved = direction - direction.mean() if centred else direction
    logits = unembed @ (gain * moved / scale)
    return float(logits[next_id] - logits.mean())


def rollout(patterns: list[np.ndarray], outputs: np.ndarray) -> np.ndarray:
    """Rows of the product of (mean head + I) / 2 over blocks, summed over the outputs."""
    found = np.zeros(outputs.shape)
    for row in range(len(outputs)):
        product = np.eye(outputs.shape[1])
        for pattern in patterns:  # lowest block first
            mixed = pattern[row].mean(0) + np.eye(outputs.shape[1])
            product = (mixed / mixed.sum(1, keepdims=True)) @ product
        found[row] = product[outputs[row]].sum(0)
    return found
