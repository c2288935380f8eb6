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
        epsilon: Added to the variance in the layer norm.
    """

    W_Q: Float[Tensor, "head d_head d_model"]
    W_K: Float[Tensor, "head d_head d_model"]
    memories: Float[Tensor, "memory d_model"]
    gamma: float
    shift: Float[Tensor, " d_model"]
    beta: float
    epsilon: float = 1e-5

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
        spread = (centred.square().mean(-1, keepdim=True) + self.epsilon).sqrt()
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
    scores = _scores(*_heads(g, block), block)
    attention = -torch.logsumexp(scores, -1) / block.beta
    memory = -0.5 * (g @ block.memories.T).relu().square()
    return attention.sum((1, 2)) + memory.sum((1, 2))


def energy_transformer_step(
    tokens: Float[Tensor, "sample pos d_model"], block: EnergyBlock, alpha: float | int
) -> Float[Tensor, "sample pos d_model"]:
    """One forward pass of the block, x ← x + α (attention + memories) at g = LayerNorm(x).

    Written out as the block computes it, without a gradient: each token takes in the queries of
    those that attend to it and the keys of those it attends to, and is drawn to its memories. That
    this is −∂E/∂g is the claim of the paper, and is tested.
    """
    g = block.normalised(tokens)
    query, key = _heads(g, block)
    weight = torch.softmax(_scores(query, key, block), -1)
    asked = torch.einsum("bhck,bhky,hyd->bcd", weight, key, block.W_Q)
    answered = torch.einsum("bhck,bhcy,hyd->bkd", weight, query, block.W_K)
    return tokens + alpha * (asked + answered + (g @ block.memories.T).relu() @ block.memories)


def _heads(g: Tensor, block: EnergyBlock) -> tuple[Tensor, Tensor]:
    """Queries and keys, [sample head pos d_head]."""
    return (torch.einsum("hyd,bcd->bhcy", block.W_Q, g),
            torch.einsum("hyd,bcd->bhcy", block.W_K, g))  # fmt: skip


def _scores(query: Tensor, key: Tensor, block: EnergyBlock) -> Tensor:
    """β K·Q for each token, a row, and each it attends to; none attends to itself."""
    itself = torch.eye(query.shape[2], dtype=torch.bool, device=query.device)
    scores = block.beta * torch.einsum("bhcy,bhky->bhck", query, key)
    return scores.masked_fill(itself, -torch.inf)
