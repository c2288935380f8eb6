"""The energy transformer: a block that descends its own energy, hence a ground truth for EFAS."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.core.registry import measure


@dataclass(frozen=True, kw_only=True, eq=False)
class EnergyBlock:
    """The weights of one energy-transformer block.

    Attributes:
        W_Q, W_K: Queries and keys of each head.
        memories: Rows ξ_μ of the Hopfield module that acts on every token.
        gamma: Scale of the layer norm, one number and not negative: the energy then never rises.
        shift: Its bias.
        beta: Inverse temperature of attention; the paper takes 1/√d_head.
    """

    W_Q: Float[Tensor, "head d_head d_model"]
    W_K: Float[Tensor, "head d_head d_model"]
    memories: Float[Tensor, "memory d_model"]
    gamma: float
    shift: Float[Tensor, " d_model"]
    beta: float

    def __post_init__(self) -> None:
        if not self.beta > 0 or not self.gamma > 0:
            raise BadInput(
                f"beta = {self.beta} and gamma = {self.gamma} given: both are above 0, else the"
                " block does not descend its energy"
            )

    def normalised(
        self, tokens: Float[Tensor, "sample pos d_model"]
    ) -> Float[Tensor, "sample pos d_model"]:
        """g = LayerNorm(x), what the energy is a function of."""
        centred = tokens - tokens.mean(-1, keepdim=True)
        spread = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return self.gamma * centred / spread + self.shift


@measure(
    units="energy of the network, without dimension",
    axes=("sample",),
    source="Hoover et al. 2023, arXiv 2302.07253, equations 3 to 7",
    null="the energy of tokens that are all equal",
    formula="E(g) = −β⁻¹ Σ_h Σ_C log Σ_{B≠C} exp(β K_hB·Q_hC) − ½ Σ_B Σ_μ relu(ξ_μ·g_B)²",
    unchanged_by=("order of the tokens", "order of heads and memories"),
)
def energy_transformer(
    g: Float[Tensor, "sample pos d_model"], block: EnergyBlock
) -> Float[Tensor, " sample"]:
    """Energy of normalised tokens: attention among them and the memories of each.

    The block's own update is x ← x − α ∂E/∂g, so that −∂E/∂g *is* what the model does next.

    Args:
        g: `block.normalised(tokens)`.

    Raises:
        BadInput: If there is one token alone, which has nothing to attend to.
    """
    if g.shape[1] < 2:
        raise BadInput(
            "attention energy needs two tokens and got one, which cannot attend to itself"
        )
    query = torch.einsum("hyd,bcd->bhcy", block.W_Q, g)
    key = torch.einsum("hyd,bcd->bhcy", block.W_K, g)
    scores = block.beta * torch.einsum("bhcy,bhky->bhck", query, key)
    itself = torch.eye(g.shape[1], dtype=torch.bool, device=g.device)
    attention = -torch.logsumexp(scores.masked_fill(itself, -torch.inf), -1) / block.beta
    memory = -0.5 * (g @ block.memories.T).relu().square()
    return attention.sum((1, 2)) + memory.sum((1, 2))


def energy_transformer_step(
    tokens: Float[Tensor, "sample pos d_model"], block: EnergyBlock, alpha: float | int
) -> Float[Tensor, "sample pos d_model"]:
    """One step of the block, x ← x − α ∂E/∂g at g = LayerNorm(x)."""
    g = block.normalised(tokens).detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(energy_transformer(g, block).sum(), g)
    return tokens - alpha * slope
