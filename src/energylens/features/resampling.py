"""Dead features begun anew at rows that are rebuilt badly.

Bricken et al. 2023, "Towards Monosemanticity": instead of waking what is dead by an auxiliary loss,
it is put where the dictionary fails, small enough not to disturb what works.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from energylens.features.dictionary import Dictionary

SIZE = 0.2
"""Norm of a new encoder row, in parts of the mean of the living ones."""


@torch.no_grad()
def begin_anew(
    dictionary: Dictionary,
    rows: Float[Tensor, "sample d_in"],
    target: Float[Tensor, "sample d_out"],
    residual: Float[Tensor, "sample d_out"],
    dead: Bool[Tensor, " feature"],
    moments: Mapping[str, Mapping[str, Tensor]],
    generator: torch.Generator,
) -> Int64[Tensor, " new"]:
    """Reset dead features, in place, to rows drawn with probability ∝ loss².

    A feature then reads along the row, less b_dec where that is subtracted, with `SIZE` of the mean
    norm of living encoder rows and without offset, and writes along what the row is to become. No
    row is drawn twice, as two equal features would stay equal: of more dead than there are rows
    with a loss, the last stay as they are.

    Args:
        dictionary: The dictionary in training.
        rows: A batch.
        target: What is to be made of it.
        residual: What the reconstruction leaves of the target: loss is its squared length.
        dead: Features to reset.
        moments: Of the optimizer, by weight: those that have entries a feature are set to 0.
        generator: Of the draw.

    Returns:
        The features that were reset.
    """
    read = rows - dictionary.b_dec if dictionary.subtracts_b_dec else rows
    write = target - dictionary.b_dec
    which = dead.nonzero().flatten()
    chance = drawing_law(residual) * ((read != 0).any(1) & (write != 0).any(1))
    which = which[: int((chance > 0).sum())]
    if not len(which):
        return which
    picked = torch.multinomial(chance.to(generator.device), len(which), generator=generator)
    picked = picked.to(rows.device)
    norms = torch.linalg.vector_norm(dictionary.W_enc, dim=1)
    size = SIZE * (norms if bool(dead.all()) else norms[~dead]).mean()
    dictionary.W_enc[which] = size * normalize(read[picked], dim=1)
    dictionary.W_dec[which] = normalize(write[picked], dim=1)
    dictionary.b_enc[which] = 0
    for name in ("W_enc", "b_enc", "W_dec"):
        shape = getattr(dictionary, name).shape
        for moment in moments.get(name, {}).values():
            if moment.shape == shape:
                moment[which] = 0
    return which


def drawing_law(residual: Float[Tensor, "sample d_out"]) -> Float[Tensor, " sample"]:
    """Probability of each row ∝ the square of its loss ‖residual‖²; 0 where nothing is left over.

    Example:
        >>> drawing_law(torch.tensor([[1.0, 1.0], [2.0, 0.0], [0.0, 0.0]])).tolist()
        [0.2, 0.8, 0.0]
    """
    loss = residual.double().square().sum(1)
    weight = (loss / loss.max().clamp(min=torch.finfo(torch.float64).tiny)).square()
    return weight / weight.sum().clamp(min=torch.finfo(torch.float64).tiny)
