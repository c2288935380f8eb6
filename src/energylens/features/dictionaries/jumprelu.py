"""JumpReLU: an activation counts above a threshold of its own.

Rajamanoharan et al. 2024 (arXiv 2407.14435). The number of active features is penalised as it is,
by a straight-through slope: a step is taken for a ramp as wide as `BANDWIDTH` around the threshold,
in units of the rows' root mean square. `jumprelu_tanh` takes a smooth count instead, of what
features write (Conerly et al. 2025, "Dictionary Learning Optimization Techniques"; the penalty that
Ameisen et al. 2025 train cross-layer transcoders with), so that the encoder learns from the penalty
too. Both are the same function when trained.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.features.architecture import (
    Architecture,
    Demand,
    Kept,
    architecture,
    decoder_norms,
    of_mask,
)
from energylens.features.dictionary import Dictionary
from energylens.features.entries import Entries
from energylens.features.mesh import Mesh

FIRST_THRESHOLD = 0.02
BANDWIDTH = 0.1
SLOPE = 4.0
"""c of the tanh, for rows of E‖x‖² = d."""


@architecture("jumprelu")
class JumpReLU(Architecture):
    """a = z · [z > θ],  penalty = d · #{f : z_f > θ_f}."""

    def own(self, width: int, like: Float[Tensor, "..."]) -> dict[str, Tensor]:
        return {"threshold": like.new_full((width,), FIRST_THRESHOLD)}

    def keep(self, pre: Tensor, dictionary: Dictionary) -> Kept:
        return of_mask((pre > dictionary.own["threshold"]) & (pre > 0), pre)

    def candidates(self, pre: Tensor, dictionary: Dictionary, wide: int) -> Kept:
        return of_mask(pre > dictionary.own["threshold"] - BANDWIDTH / 2, pre)

    def activate(self, entries: Entries, weights: Mapping[str, Tensor]) -> Tensor:
        return _Jump.apply(entries.z, entries.of(weights["threshold"]))  # type: ignore[no-any-return, no-untyped-call]

    def penalty(
        self, entries: Entries, values: Tensor, weights: Mapping[str, Tensor], demand: Demand
    ) -> Tensor:
        above = _Step.apply(entries.z, entries.of(weights["threshold"]))  # type: ignore[no-untyped-call]
        return demand.unit**2 * above.sum()  # type: ignore[no-any-return]

    def watch(self, dictionary: Dictionary, values: Tensor | None, mesh: Mesh) -> None:
        dictionary.own["threshold"].clamp_(min=0)


@architecture("jumprelu_tanh")
class TanhJumpReLU(JumpReLU):
    """a = z · [z > θ],  penalty = d · Σ tanh(c a_f ‖d_f‖), over a crosscoder's sites Σ_s ‖d_fs‖.

    The slope reaches encoder, decoder and, by the ramp of a, the threshold.
    """

    unit_decoder = False

    def penalty(
        self, entries: Entries, values: Tensor, weights: Mapping[str, Tensor], demand: Demand
    ) -> Tensor:
        written = values * entries.of(decoder_norms(weights["W_dec"], demand.sites))
        return demand.unit**2 * (SLOPE * written).tanh().sum()

    def finish(self, dictionary: Dictionary) -> Dictionary:
        return replace(dictionary, architecture="jumprelu")


class _Jump(torch.autograd.Function):
    """z · [z > θ]; the slope by θ is that of the ramp."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(z, threshold)
        return z * ((z > threshold) & (z > 0))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        z, threshold = ctx.saved_tensors
        by_z = g * ((z > threshold) & (z > 0))
        by_threshold = -g * threshold * _near(z, threshold) / BANDWIDTH
        return by_z, by_threshold.sum_to_size(threshold.shape)


class _Step(torch.autograd.Function):
    """[z > θ]; the slope by θ is that of the ramp, and there is none by z."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(z, threshold)
        return (z > threshold).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        z, threshold = ctx.saved_tensors
        by_threshold = -g * _near(z, threshold) / BANDWIDTH
        return None, by_threshold.sum_to_size(threshold.shape)


def _near(z: Tensor, threshold: Tensor) -> Tensor:
    return ((z - threshold).abs() < BANDWIDTH / 2).to(z.dtype)
