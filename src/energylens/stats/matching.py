"""Is a feature's own direction special? Max-T over the ways to deal the directions out.

A sign-flip test says that activation and force covary. In a network they nearly always do, along
any direction: where a feature fires, the gradient is not what it is elsewhere. The claim that a
feature follows the energy is about its own decoder row, so the row must beat the other rows.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from energylens.core.errors import InsufficientData

DRAWS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class MatchedTest:
    """Whether each feature's own direction does better than other features' directions.

    Attributes:
        p: Rank of the own direction among all directions, for one feature by itself.
        p_adjusted: Family-wise over all features of all sites of one call.
    """

    p: Float64[Tensor, " feature"]
    p_adjusted: Float64[Tensor, " feature"]


def matched_max_t(
    pairs: Iterable[Float[Tensor, "_ _"]],
    *,
    draws: int = 2_000,
    generator: torch.Generator,
) -> list[MatchedTest]:
    """P-values that an own direction does better than another's, by permuting directions.

    `pairs[s][f, j]` is a statistic of feature f with direction j; the diagonal is the real pairing.
    Rows and columns are brought to the same spread first, so that neither a feature that covaries
    with everything nor a direction along which everything varies has an advantage. Each draw deals
    the directions of every site out anew, none to its own feature, and takes the largest size over
    all sites: single-step max-T (Westfall & Young 1993) under the null that rows are exchangeable
    among features.

    Args:
        pairs: One square matrix a site; no nan. Taken one at a time, so that a generator keeps
            only one in memory.
        draws: Permutations.

    Returns:
        One test a site, over its features.

    Raises:
        InsufficientData: If so few draws cannot give an adjusted p of .05.

    Example:
        >>> g = torch.Generator().manual_seed(1)
        >>> noise = torch.randn(50, 50, generator=g)
        >>> noise[7, 7] = 30.0
        >>> test = matched_max_t([noise], generator=g)[0]
        >>> (test.p_adjusted < 0.05).nonzero().tolist(), round(test.p[7].item(), 2)
        ([[7]], 0.02)
    """
    if draws < 19:
        raise InsufficientData(
            f"max-T at .05 needs at least 19 draws, got {draws}: 2,000 is a good number"
        )
    maxima = torch.zeros(draws)
    own: list[tuple[Tensor, Tensor]] = []
    for matrix in pairs:
        size = _levelled(matrix)
        mine = size.diagonal()
        rank = (size >= mine[:, None]).double().mean(1)  # the own direction counts itself
        own.append((mine.double().cpu(), rank.cpu()))
        if len(size) > 1:
            for part in maxima.split(DRAWS_AT_ONCE):
                torch.maximum(part, _largest(size, len(part), generator).cpu(), out=part)
    ranked = maxima.double().sort().values
    return [
        MatchedTest(
            p=rank,
            p_adjusted=(1 + draws - torch.searchsorted(ranked, mine)).double() / (1 + draws),
        )
        for mine, rank in own
    ]


def _largest(
    size: Float[Tensor, "feature feature"], draws: int, generator: torch.Generator
) -> Float[Tensor, " draw"]:
    """Largest entry when each row takes a column of its own, dealt out at random, never its own.

    The rows stand in a random circle and each takes the next one's column. Were a row allowed to
    keep its own, a draw would meet a true effect as often as there are true effects among n rows,
    and a twentieth of true features would be enough to hide them all.
    """
    circle = torch.stack([
        torch.randperm(len(size), generator=generator, device=generator.device)
        for _ in range(draws)
    ]).to(size.device)  # fmt: skip
    return size[circle, circle.roll(1, dims=1)].amax(1)


def _levelled(matrix: Float[Tensor, "feature feature"]) -> Float[Tensor, "feature feature"]:
    """Sizes with a mean square of one in every row and, after that, in every column.

    The diagonal counts as any other entry: were it left out of its own scale, it alone would be
    free to stand out, and noise would find it too large.
    """
    size = matrix.abs()
    for axis in (1, 0):
        scale = size.square().mean(axis, keepdim=True).sqrt()
        size = size / torch.where(scale > 0, scale, math.inf)
    return size


@dataclass(frozen=True, kw_only=True)
class OwnRows:
    """Whether own directions as a kind do better than others' directions.

    Attributes:
        share: Of all other directions, how many a feature's own one beats: mean over features.
        null_mean, null_sd: The same with the directions dealt out, none to its own feature.
        p: One-sided, (1 + #{null ≥ share}) / (1 + draws).
    """

    share: float
    null_mean: float
    null_sd: float
    p: float


def own_rows_test(
    pairs: Float[Tensor, "feature feature"], *, draws: int = 2_000, generator: torch.Generator
) -> OwnRows:
    """One test for all features of a site that the own direction does better than others'.

    Where many features share a direction, as those for one class of a classifier do, none can be
    singled out from all others; as a kind they may still be far from exchangeable.

    Args:
        pairs: As for `matched_max_t`: `pairs[f, j]` of feature f with direction j, no nan.

    Raises:
        InsufficientData: If there are fewer than three features, or draws for a p of .05.

    Example:
        >>> g = torch.Generator().manual_seed(1)
        >>> test = own_rows_test(torch.eye(40) + 0.1 * torch.rand(40, 40, generator=g), generator=g)
        >>> test.share, round(test.p, 4)
        (1.0, 0.0005)
    """
    if len(pairs) < 3 or draws < 19:
        raise InsufficientData(
            f"to deal directions out needs 3 features and 19 draws, got {len(pairs)} and {draws}"
        )
    size = _levelled(pairs)
    # Share of the other directions that a direction beats, for every feature and direction.
    beaten = (size.argsort(dim=1).argsort(dim=1).double() / (len(size) - 1)).cpu()
    circle = torch.stack([torch.randperm(len(size), generator=generator) for _ in range(draws)])
    null = beaten[circle, circle.roll(1, dims=1)].mean(1)
    share = beaten.diagonal().mean()
    return OwnRows(
        share=float(share), null_mean=float(null.mean()), null_sd=float(null.std()),
        p=float((1 + (null >= share).sum()) / (1 + draws)),
    )  # fmt: skip
