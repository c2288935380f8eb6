"""TopK dictionaries the slow and obvious way: every tensor dense, gradients by autograd."""

import torch
from torch import Tensor

WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")


def dense_code(x: Tensor, W_enc: Tensor, b_enc: Tensor, b_dec: Tensor, k: int) -> Tensor:
    """Pre-activations with all but the k largest of each row set to 0, then negative ones."""
    pre = (x - b_dec) @ W_enc.T + b_enc
    order = pre.argsort(dim=1, descending=True)
    keep = torch.zeros_like(pre)
    for row in range(len(x)):
        keep[row, order[row, :k]] = 1
    return torch.clamp(pre * keep, min=0)


def loss_and_gradients(
    x: Tensor, weights: dict[str, Tensor], k: int, variance: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean squared error a row over `variance`, and its gradient by every weight."""
    w = {name: weights[name].clone().requires_grad_() for name in WEIGHTS}
    code = dense_code(x, w["W_enc"], w["b_enc"], w["b_dec"], k)
    error = code @ w["W_dec"] + w["b_dec"] - x
    loss = (error**2).sum(dim=1).mean() / variance
    gradients = torch.autograd.grad(loss, list(w.values()))
    return loss.detach(), dict(zip(WEIGHTS, gradients, strict=True))


def auxiliary_loss_and_gradients(
    x: Tensor, weights: dict[str, Tensor], k: int, dead: Tensor, aux_k: int, weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The dead latents' loss on what the code leaves over; target and b_dec are constants."""
    w = {name: weights[name].clone().requires_grad_() for name in WEIGHTS[:3]}
    b_dec = weights["b_dec"]
    code = dense_code(x, weights["W_enc"], weights["b_enc"], b_dec, k)
    left_over = x - (code @ weights["W_dec"] + b_dec)
    pre = ((x - b_dec) @ w["W_enc"].T + w["b_enc"]).masked_fill(~dead, -torch.inf)
    allowed = torch.zeros_like(pre, dtype=torch.bool)
    for row, column in enumerate(pre.argsort(dim=1, descending=True)[:, :aux_k]):
        allowed[row, column] = True
    activation = torch.where(allowed & dead, pre, 0.0).clamp(min=0)
    error = activation @ w["W_dec"] - left_over
    loss = weight * (error**2).sum() / (left_over**2).sum()
    gradients = torch.autograd.grad(loss, list(w.values()))
    return loss.detach(), dict(zip(WEIGHTS[:3], gradients, strict=True))
