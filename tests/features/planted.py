"""Rows with known features, and dictionaries to judge."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from energylens.features.dictionary import Dictionary


def planted_rows(
    generator: torch.Generator, *, n: int = 6000, d: int = 32, features: int = 64, active: int = 3
) -> tuple[Tensor, Tensor]:
    """Rows that are sums of a few of many unit directions, plus a mean; and the directions."""
    directions = normalize(torch.randn(features, d, generator=generator), dim=1)
    chosen = torch.rand(n, features, generator=generator).topk(active, dim=1).indices
    strength = 1 + torch.rand(n, active, generator=generator)
    code = torch.zeros(n, features).scatter(1, chosen, strength)
    return code @ directions + 2.0, directions


def random_weights(
    generator: torch.Generator, *, width: int, d: int, dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """Weights without any structure, offsets included."""
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=dtype)
    return {
        "W_enc": draw(width, d),
        "b_enc": 0.3 * draw(width),
        "W_dec": normalize(draw(width, d), dim=1),
        "b_dec": draw(d),
    }


def topk_dictionary(weights: dict[str, Tensor], k: int, **metadata: object) -> Dictionary:
    return Dictionary(architecture="topk", k=k, **weights, metadata=metadata)
