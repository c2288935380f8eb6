"""Noise whose size changes along a series as that of the series does, and which never jumps."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.stats.changepoint import changing_scale


def changes_without_jumps(
    values: Float[Tensor, "series sample"],
    basis: Float[Tensor, "moment column"],
    generator: torch.Generator,
    *,
    draws: int,
) -> Iterator[Float64[Tensor, "series change"]]:
    """Independent Gaussian changes, each of the size that the series has about its moment.

    What a rule finds in them it finds without a jump, only because changes are larger at some times
    than at others. Neither courses nor correlation between neighbours are kept, and sizes are right
    up to a factor of each series. Of 300 series of 400 changes each, two standard deviations were
    exceeded as follows, by series and by this null, with a basis of six smooth columns:

        size of the noise          share exceeding      of these in the first tenth
        constant                   .046   .047          .10   .13
        falls to a third           .050   .047          .53   .53
        falls to a tenth           .059   .056          .70   .69

    Args:
        values: Series, one row each.
        basis: Smooth courses that the size may follow, orthonormal, a row a sample.
        generator: Draws them.
        draws: How many sets of series; they come one at a time.

    Raises:
        BadInput: If the basis has not a row for every sample.
    """
    if len(basis) != values.shape[1]:
        raise BadInput(
            f"{values.shape[1]} samples need as many rows of a basis, got {len(basis)}: make it of"
            " their steps"
        )
    size = changing_scale(values.double(), basis.double())[:, 1:]
    for _ in range(draws):
        yield size * torch.randn(
            size.shape, generator=generator, device=generator.device, dtype=torch.float64
        ).to(size.device)
