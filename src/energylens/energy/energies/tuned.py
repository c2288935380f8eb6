"""Surprisal through a tuned lens: an affine translator, trained for each layer, before the lens."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.core.registry import measure
from energylens.energy.energies.surprisal import Lens, surprisal


@dataclass(frozen=True, kw_only=True, eq=False)
class Translator:
    """The affine map of one site to where the final norm reads: h ↦ A h + b.

    Attributes:
        kl: KL from the model's output to the lens on held-out rows, nats: what training left.
        kl_untuned: The same of the lens without translator.
    """

    A: Float[Tensor, "d_model d_model"]
    b: Float[Tensor, " d_model"]
    kl: float = float("nan")
    kl_untuned: float = float("nan")

    def __call__(
        self, states: Float[Tensor, "*sample d_model"]
    ) -> Float[Tensor, "*sample d_model"]:
        return states @ self.A.T + self.b

    def pull(self, gradient: Float[Tensor, "*sample d_model"]) -> Float[Tensor, "*sample d_model"]:
        """The derivative by the state, from that by the translated state."""
        return gradient @ self.A

    def to(self, device: torch.device | str) -> "Translator":
        return Translator(
            A=self.A.to(device), b=self.b.to(device), kl=self.kl, kl_untuned=self.kl_untuned
        )


@measure(
    units="nats",
    axes=("sample",),
    source="Belrose et al. 2023, arXiv 2303.08112, tuned lens",
    null="log of the vocabulary size: what a uniform guess costs",
    formula="E(h) = −log softmax(W_U · norm_f(A h + b))[next token]",
)
def tuned(
    states: Float[Tensor, "sample d_model"],
    next_ids: Int[Tensor, " sample"],
    lens: Lens,
    translator: Translator,
) -> Float[Tensor, " sample"]:
    """−log p(next token) with p read through a translator trained for the site.

    Calibrated at every depth as far as an affine map can be, which the raw lens is not: findings
    may rest on it. `Translator.kl` says how far it is from the model's own output.
    """
    return surprisal(translator(states), next_ids, lens)
