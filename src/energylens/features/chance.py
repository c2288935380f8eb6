"""Dictionaries of chance: where training starts, and what a trained one must beat."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.features.dictionary import Dictionary
from energylens.stats.nulls import random_unit_directions

_ROWS = 256


@torch.no_grad()
def fit_encoder(
    dictionary: Dictionary,
    rows: Float[Tensor, "sample d_in"],
    target: Float[Tensor, "sample d_out"] | None = None,
) -> Dictionary:
    """The dictionary with its encoder multiplied by what reconstructs these rows best.

    With b_enc = 0 a factor on the encoder is a factor on the centred reconstruction, so the best
    one is a least-squares slope. Where that is not above 0, as features may begin that write to
    their target no better than chance, the encoder stays.
    """
    wanted = (rows if target is None else target) - dictionary.b_dec
    made = dictionary.reconstruct(rows) - dictionary.b_dec
    return replace(dictionary, W_enc=dictionary.W_enc * best_factor(made, wanted))


def best_factor(
    made: Float[Tensor, "sample d"], wanted: Float[Tensor, "sample d"]
) -> Float[Tensor, ""]:
    """The least-squares slope of what is wanted on what was made; 1 where it is not above 0."""
    slope = (wanted * made).sum() / made.square().sum()
    return torch.where(slope > 0, slope, 1.0)


def random_dictionary_like(dictionary: Dictionary, generator: torch.Generator) -> Dictionary:
    """A dictionary of random unit directions: the reconstruction that sparsity gives for nothing.

    It keeps k, width and b_dec, and takes the k largest of each row whatever the architecture;
    encoder and decoder are the same directions, and the encoder is scaled for the best
    reconstruction. That scale needs no data: which features a row picks among uniform directions,
    and how strongly, does not depend on where it points.
    """
    W = random_unit_directions(dictionary.width, dictionary.d_in, generator, like=dictionary.W_enc)
    rows = random_unit_directions(_ROWS, dictionary.d_in, generator, like=dictionary.W_enc)
    blank = replace(
        dictionary, architecture="topk", own={}, W_skip=None, subtracts_b_dec=True, metadata={},
        W_enc=W, W_dec=W, b_enc=torch.zeros_like(dictionary.b_enc),
    )  # fmt: skip
    return fit_encoder(blank, rows + dictionary.b_dec)
