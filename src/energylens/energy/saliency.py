"""What the field ranks features by: gradients along a path, direct logits, attention, tokens.

Each score of a feature is a sum over the places of a window, because the effect of an ablation is
one too. Scores of two kinds: a covector at each place (a gradient, a mean of gradients, the
direction of a logit), read along the feature's direction; and a weight of each token, passed on to
the features that are active there. All scores are signed as the change of the energy that
removing the feature would bring, or are sizes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.special import roots_jacobi
from torch import Tensor, nn

from energylens.core.errors import BadInput

Energy = Callable[[Tensor], Tensor]
# Relative to the size of the normed state: rounding of a norm's few operations, with head-room.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def along_directions(
    activation: Float[Tensor, "window place feature"],
    covector: Float[Tensor, "window place d_model"],
    directions: Float[Tensor, "feature d_model"],
) -> Float[Tensor, "window place feature"]:
    """−a_f ⟨c, d_f⟩ at every place: to first order what removing the feature there changes.

    Its sum over places with c the gradient of the energy is the feature's attribution, the sum of
    absolute values is gradient × activation; with the mean gradient along a path it is integrated
    gradients, with the direction of the next token's logit direct logit attribution.
    """
    return -activation * (covector @ directions.T)


def through_tokens(
    activation: Float[Tensor, "window place feature"], weight: Float[Tensor, "window place"]
) -> Float[Tensor, "window feature"]:
    """Σ_t a_f(t) w(t): what tokens are worth, passed on to the features active on them.

    Example:
        >>> through_tokens(torch.tensor([[[2.0], [3.0]]]), torch.tensor([[0.5, 1.0]])).item()
        4.0
    """
    return torch.einsum("wpf,wp->wf", activation, weight.to(activation.dtype))


# ---- integrated gradients


@dataclass(frozen=True, kw_only=True)
class PathIntegral:
    """The mean gradient along a straight path, and how far its sum is from the change itself.

    Attributes:
        gradient: Mean of ∂E/∂h over the path from `off` to `on`.
        change: E(on) − E(off) of each window.
        summed: ⟨on − off, gradient⟩ of each window: the attributions of all features together.
            Completeness asks that it equal `change`; what it lacks is the error of the quadrature.
    """

    gradient: Float[Tensor, "window pos d_model"]
    change: Float[Tensor, " window"]
    summed: Float[Tensor, " window"]


def integrate_path(
    energy: Energy,
    off: Float[Tensor, "window pos d_model"],
    on: Float[Tensor, "window pos d_model"],
    *,
    energy_on: Float[Tensor, " window"],
    gradient_on: Float[Tensor, "window pos d_model"],
    passes: int = 2,
) -> PathIntegral:
    """Integrated gradients (Sundararajan et al. 2017) from `off` to `on`, for all features at once.

    A feature's share is Σ_t a_f(t) ⟨d_f, gradient(t)⟩, if on − off is Σ_f a_f d_f. The quadrature
    is Gauss–Radau's with the end `on` among its nodes, since its gradient is known already: it
    integrates polynomials of degree twice the number of passes exactly, one more than
    Gauss–Legendre's with as many passes.

    Args:
        energy: Differentiable, from states to one energy a window.
        off: States with every feature off: what the dictionary fails to reconstruct, and its bias.
        on: The states as they are.
        energy_on: Energy there.
        gradient_on: Gradient there.
        passes: Further places on the path at which the gradient is taken, each a forward and a
            backward pass; one forward pass comes on top, for the energy of `off`.

    Raises:
        BadInput: If there is no pass.
    """
    nodes, weights = radau(passes)
    mean = weights[-1] * gradient_on
    for node, weight in zip(nodes[:-1].tolist(), weights[:-1].tolist(), strict=True):
        with torch.enable_grad():
            state = torch.lerp(off, on, node).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(energy(state).sum(), state)
        mean = mean + weight * gradient
    with torch.no_grad():
        change = energy_on - energy(off)
    summed = ((on - off).double() * mean).sum((1, 2)).to(change.dtype)
    return PathIntegral(gradient=mean, change=change, summed=summed)


def radau(passes: int) -> tuple[Float[Tensor, " node"], Float[Tensor, " node"]]:
    """Nodes in (0, 1], the last one 1, and weights of Gauss–Radau's quadrature.

    Example:
        >>> [values.tolist() for values in radau(1)]
        [[0.333..., 1.0], [0.75, 0.25]]

    Raises:
        BadInput: If there is no pass.
    """
    if passes < 1:
        raise BadInput(f"a path needs 1 pass besides its end, got {passes}: ask for 1 or more")
    inner, weights = roots_jacobi(passes, 1, 0)
    nodes = np.append((inner + 1) / 2, 1.0)
    shares = np.append(weights / (1 - inner) / 2, 1 / (passes + 1) ** 2)
    return torch.from_numpy(nodes), torch.from_numpy(shares)


# ---- direct logit attribution


def next_logit_covector(
    states: Float[Tensor, "sample d_model"],
    next_ids: Int[Tensor, " sample"],
    norm: nn.Module,
    unembed: nn.Module,
) -> Float[Tensor, "sample d_model"]:
    """The direction in which a state raises the next token's logit above the mean logit.

    The final norm's scale is taken as it is at the state (Elhage et al. 2021), so that the rest is
    linear; what blocks above the site make of the direction is not seen.

    Raises:
        BadInput: If the final norm is no linear map over a scale.
    """
    weight = unembed.weight
    assert isinstance(weight, Tensor)
    return pull_through_frozen_norm(norm, states, weight[next_ids] - weight.mean(0))


def pull_through_frozen_norm(
    norm: nn.Module,
    states: Float[Tensor, "sample d_model"],
    covector: Float[Tensor, "sample d_model"],
) -> Float[Tensor, "sample d_model"]:
    """Lᵀ c with L the norm as a linear map whose scale stays what it is at the state.

    A norm n(h) = A h / s(h) + b has the Jacobian A / s(0) at zero, s(0) the root of its epsilon,
    and n(h) − b is this Jacobian times h but for a factor, the ratio of the scales. No kind of norm
    is named: that both are parallel is checked.

    Raises:
        BadInput: If they are not.
    """
    with torch.enable_grad():
        zero = torch.zeros_like(states, requires_grad=True)
        at_zero = norm(zero)
        cotangent = torch.zeros_like(states, requires_grad=True)
        (pulled,) = torch.autograd.grad(at_zero, zero, cotangent, create_graph=True)
        # Linear in the cotangent: its derivative along h is the Jacobian times h.
        (raised,) = torch.autograd.grad((pulled * states).sum(), cotangent)
        (back,) = torch.autograd.grad(norm(zero), zero, covector)
    with torch.no_grad():
        normed = norm(states) - at_zero
        ratio = torch.linalg.vecdot(normed, raised) / torch.linalg.vecdot(raised, raised)
        off = (normed - ratio[:, None] * raised).norm() / normed.norm()
    if float(off) > TOLERANCE[states.dtype]:
        raise BadInput(
            f"the final norm ({type(norm).__name__}) is no linear map over a scale, off by"
            f" {float(off):.1e} of its size: direct logit attribution is not to be had"
        )
    return (ratio[:, None] * back).detach()


# ---- tokens


def attention_rollout(
    patterns: Sequence[Float[Tensor, "batch head pos pos"]], outputs: Bool[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos"]:
    """How much of the outputs' attention ends at each position (Abnar & Zuidema 2020).

    Each block passes on the mean of its heads' patterns and, in equal parts, its own position: the
    residual stream. The rows of the product over blocks are distributions; they are summed over
    the positions whose outputs count, so the sum over positions is their number.

    Args:
        patterns: Of the blocks above, lowest first; with none each position sees itself alone.
        outputs: Positions whose output counts.
    """
    flow = outputs.to(patterns[0].dtype) if patterns else outputs.float()
    for pattern in reversed(patterns):
        flow = (flow + torch.einsum("bq,bqk->bk", flow, pattern.mean(1))) / 2
    return flow


def gradient_x_input(
    gradient: Float[Tensor, "batch pos d_model"], states: Float[Tensor, "batch pos d_model"]
) -> Float[Tensor, "batch pos"]:
    """|⟨∂E/∂h, h⟩| of every token."""
    return torch.linalg.vecdot(gradient, states).abs()
