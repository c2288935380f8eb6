"""A statistic beside the same with units dealt out anew."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from energylens.core.errors import InsufficientData


@dataclass(frozen=True, kw_only=True)
class PermutationTest:
    """What was observed, and what the null gives.

    Attributes:
        null_mean, null_sd: Over the draws in which the statistic is defined.
        p: One-sided, (1 + #{null ≥ observed}) / (1 + defined draws); nan where undefined.
    """

    observed: Float64[Tensor, "*shape"]
    null_mean: Float64[Tensor, "*shape"]
    null_sd: Float64[Tensor, "*shape"]
    p: Float64[Tensor, "*shape"]


def permutation_test(
    observed: Float[Tensor, "*shape"],
    null: Callable[[torch.Generator], Float[Tensor, "*shape"]],
    *,
    draws: int,
    generator: torch.Generator,
) -> PermutationTest:
    """Set a statistic beside draws of its null, larger meaning more effect.

    Under the null the observed value is one of the draws, so p is at or above its nominal level
    for any number of draws.

    Example:
        >>> null = lambda g: torch.rand((), generator=g)
        >>> g = torch.Generator().manual_seed(0)
        >>> permutation_test(torch.tensor(2.0), null, draws=99, generator=g).p.item()
        0.01

    Args:
        null: One draw: everything that the statistic is made of, with the units dealt out anew.

    Raises:
        InsufficientData: If so few draws cannot give a p below .05.
    """
    if draws < 20:
        raise InsufficientData(f"a p below .05 needs at least 20 draws, got {draws}: draw more")
    drawn = torch.stack([null(generator).double() for _ in range(draws)])
    observed = observed.double().to(drawn.device)
    defined = drawn.isfinite()
    count = defined.sum(0)
    mean = torch.where(defined, drawn, 0.0).sum(0) / count
    square = torch.where(defined, drawn - mean, 0.0).square().sum(0) / (count - 1).clamp(min=0)
    p = (1 + (drawn >= observed).logical_and(defined).sum(0)).double() / (1 + count)
    p = torch.where(observed.isfinite() & (count > 0), p, torch.nan)
    return PermutationTest(observed=observed, null_mean=mean, null_sd=square.sqrt(), p=p)
