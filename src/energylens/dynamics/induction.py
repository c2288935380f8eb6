"""What induction is made of beside where heads look: what they write, and what context is worth."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.core.registry import measure


@measure(
    units="−1 to 1",
    axes=("head",),
    source="Elhage et al. 2021: eigenvalues of the full OV circuit",
    null="as many random weights, whose eigenvalues point all ways: 0 on average",
    formula="Σ Re λ / Σ |λ|, λ the eigenvalues of W_E W_V W_O W_U",
    unchanged_by=("positive scale of each matrix", "rotation of the residual stream"),
)
def copying(
    W_E: Float[Tensor, "vocab d_model"],
    W_V: Float[Tensor, "head d_model d_head"],
    W_O: Float[Tensor, "head d_head d_model"],
    W_U: Float[Tensor, "d_model vocab"],
) -> Float64[Tensor, " head"]:
    """Whether attending to a token raises that token's own logit: 1 all do, −1 all lower it.

    The eigenvalues other than 0 are those of W_O W_U W_E W_V, a small matrix.

    Example:
        >>> eye = torch.eye(3)
        >>> copying(eye, eye[None], torch.stack([-eye]), eye).tolist()
        [-1.0]
    """
    inner = W_U.double() @ W_E.double()
    values = torch.linalg.eigvals(W_O.double() @ inner @ W_V.double())
    size = values.abs().sum(-1)
    return values.real.sum(-1) / torch.where(size > 0, size, torch.nan)


@measure(
    units="nats",
    axes=(),
    source="Olsson et al. 2022, there of the 500th and the 50th token",
    null="0: a model that uses nothing of the context is as bad late as early",
    formula="mean loss over the second half of positions − mean over the first",
    unchanged_by=("order of sequences",),
)
def in_context_score(losses: Float[Tensor, "batch pos"]) -> Float64[Tensor, ""]:
    """By how much later tokens are easier than earlier ones; negative where context helps.

    Raises:
        InsufficientData: If there are fewer than two positions.

    Example:
        >>> float(in_context_score(torch.tensor([[3.0, 3.0, 3.0, 1.0]])))
        -1.0
    """
    pos = losses.shape[1]
    if pos < 2:
        raise InsufficientData(
            f"early and late losses need 2 positions, got {pos}: use longer ones"
        )
    return losses[:, pos // 2 :].double().mean() - losses[:, : pos // 2].double().mean()
