"""Gated: whether a feature is active and how strongly are two questions.

Rajamanoharan et al. 2024 (arXiv 2404.16014).
"""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from energylens.features.architecture import Architecture, Demand, Terms, architecture
from energylens.features.entries import Entries


@architecture("gated")
class Gated(Architecture):
    """π = W_enc (x − b_dec) + b_gate,  a = [π > 0] · ((π − b_gate) · exp(r_mag) + b_mag)₊.

    `b_enc` is b_gate. The penalty is on the gate's own size, which the main error cannot see; a
    second error, through a decoder that is held fixed, lets the gate learn what to open for.
    """

    def own(self, width: int, like: Float[Tensor, "..."]) -> dict[str, Tensor]:
        return {"r_mag": like.new_zeros(width), "b_mag": like.new_zeros(width)}

    def activate(self, entries: Entries, weights: Mapping[str, Tensor]) -> Tensor:
        gate, r_mag = entries.z, entries.of(weights["r_mag"])
        size = (gate - entries.of(weights["b_enc"])) * r_mag.exp() + entries.of(weights["b_mag"])
        return size.relu() * (gate.detach() > 0)

    def penalty(
        self, entries: Entries, values: Tensor, weights: Mapping[str, Tensor], demand: Demand
    ) -> Tensor:
        return demand.unit * entries.z.relu().sum()

    def terms(
        self,
        entries: Entries,
        values: Tensor,
        weights: Mapping[str, Tensor],
        target: Tensor,
        demand: Demand,
    ) -> Terms:
        main = super().terms(entries, values, weights, target, demand)
        W_dec, b_dec = weights["W_dec"].detach(), weights["b_dec"].detach()
        frozen, _ = entries.squared_error(target.detach(), entries.z.relu(), W_dec, b_dec)
        return Terms(main.loss + frozen, main.residual)
