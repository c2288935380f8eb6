"""Dictionaries of every architecture the slow and obvious way: dense tensors, plain formulas.

Each function takes pre-activations z [sample feature] and returns activations; gradients come from
autograd, with the selection written as a constant mask.
"""

import torch
from torch import Tensor


def kept_per_row(z: Tensor, k: int) -> Tensor:
    """The k largest of each row, those below 0 set to 0."""
    keep = torch.zeros_like(z)
    for row in range(len(z)):
        keep[row, z[row].argsort(descending=True)[:k]] = 1
    return (z * keep.detach()).clamp(min=0)


def kept_per_batch(z: Tensor, k: int) -> Tensor:
    """The n · k largest of all n rows together."""
    flat = z.flatten()
    keep = torch.zeros_like(flat)
    keep[flat.argsort(descending=True)[: k * len(z)]] = 1
    return (z * keep.view_as(z).detach()).clamp(min=0)


def kept_per_group(z: Tensor, k: int) -> Tensor:
    """The largest of each of k groups of neighbours."""
    keep = torch.zeros_like(z)
    size = z.shape[1] // k
    for row in range(len(z)):
        for group in range(k):
            keep[row, group * size + int(z[row, group * size : (group + 1) * size].argmax())] = 1
    return (z * keep.detach()).clamp(min=0)


def gated(z: Tensor, b_gate: Tensor, r_mag: Tensor, b_mag: Tensor) -> Tensor:
    """[π > 0] · ((π − b_gate) · exp(r) + b)₊."""
    gate = (z > 0).to(z.dtype).detach()
    return gate * ((z - b_gate) * r_mag.exp() + b_mag).clamp(min=0)


def jump(z: Tensor, threshold: Tensor, width: float) -> Tensor:
    """z · [z > θ]₊, whose slope by θ is −(θ/ε) K((z − θ)/ε) for a kernel K of this width ε."""
    above = ((z > threshold) & (z > 0)).to(z.dtype)
    near = ((z - threshold).abs() < width / 2).to(z.dtype)
    straight = -(threshold * near / width).detach() * (threshold - threshold.detach())
    return z * above.detach() + straight


def tanh_cost(a: Tensor, norm: Tensor, slope: float) -> Tensor:
    """Σ tanh(c a_f ‖d_f‖)."""
    return torch.tanh(slope * a * norm).sum()
