"""Is the chosen one of each set larger than those drawn to match it?

A feature that matters more than *its* matches in many documents need not be special: any two
features differ. Whether the chosen features as a kind do more is a question with the feature as
its unit, and its null is that within each set any member may as well have been the chosen one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from energylens.core.errors import InsufficientData

ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class MatchedSets:
    """Whether the first members do more than the others, one test a column.

    Attributes:
        difference: Mean over sets of first member − mean of the others.
        null_sd: Standard deviation of the difference over all choices.
        p: One-sided, by choosing another member of each set; nan where all members are equal.
        p_adjusted: Family-wise over all columns (max-T).
        patterns: Choices that were gone through, or drawn.
    """

    difference: Float64[Tensor, " column"]
    null_sd: Float64[Tensor, " column"]
    p: Float64[Tensor, " column"]
    p_adjusted: Float64[Tensor, " column"]
    patterns: int


def matched_set_test(
    values: Float[Tensor, "set member column"],
    *,
    draws: int = 10_000,
    generator: torch.Generator,
) -> MatchedSets:
    """One-sided permutation test that member 0 of each set has the larger value.

    Each pattern names one member of every set as the chosen one, the same for all columns, which
    keeps their dependence. All patterns are gone through where there are no more than `draws`.

    Args:
        values: Member 0 is the chosen one; sizes, if sizes are compared.

    Raises:
        InsufficientData: If all patterns together cannot give a p of .05.

    Example:
        >>> values = torch.tensor([[[3.0], [1.0], [2.0]], [[9.0], [1.0], [0.0]],
        ...                        [[5.0], [4.0], [4.0]]])
        >>> round(matched_set_test(values, generator=torch.Generator()).p.item() * 27, 6)
        1.0
    """
    sets, members = values.shape[:2]
    total = members**sets
    if total < 20:
        raise InsufficientData(
            f"{sets} sets of {members} can be dealt in {total} ways, and a p of .05 needs 20: "
            "choose more features or match more to each"
        )
    values = values.double()
    off = values - values.mean(1, keepdim=True)
    exact = total <= draws
    picks = _all(sets, members) if exact else torch.randint(
        members, (draws, sets), generator=generator, device=generator.device
    )  # fmt: skip
    null = _sums(off, picks.to(values.device))
    own = off[:, 0].sum(0)
    spread = off.square().mean(1).sum(0).sqrt()
    defined = spread > 0
    scale = torch.where(defined, spread, 1.0)
    null, size = null / scale, own / scale - ROUNDING
    beyond = (null >= size).sum(0).double()
    largest = torch.where(defined, null, -torch.inf).amax(1, keepdim=True)
    jointly = (largest >= size).sum(0).double()
    itself = 0 if exact else 1
    p, p_adjusted = ((itself + n) / (itself + len(picks)) for n in (beyond, jointly))
    to_difference = members / (members - 1) / sets
    return MatchedSets(
        difference=own * to_difference, null_sd=spread * to_difference,
        p=torch.where(defined, p, torch.nan),
        p_adjusted=torch.where(defined, p_adjusted, torch.nan), patterns=len(picks),
    )  # fmt: skip


def _all(sets: int, members: int) -> Int[Tensor, "pattern set"]:
    return torch.cartesian_prod(*[torch.arange(members)] * sets).view(-1, sets)


def _sums(
    off: Float64[Tensor, "set member column"], picks: Int[Tensor, "pattern set"]
) -> Float64[Tensor, "pattern column"]:
    chosen = torch.nn.functional.one_hot(picks, off.shape[1]).double()
    return torch.einsum("psm,smc->pc", chosen, off)


def draw_matched(
    traits: Float[Tensor, "candidate trait"],
    allowed: Bool[Tensor, " candidate"],
    chosen: Sequence[int],
    count: int,
    *,
    nearest: int = 10,
    generator: torch.Generator,
) -> list[list[int]]:
    """For each chosen candidate, some random ones of those nearest to it in all traits.

    Traits are brought to one spread over the allowed candidates. No candidate is drawn twice, nor
    is a chosen one.

    Args:
        traits: What is matched, such as log density and log mean activation.
        allowed: Candidates that may be drawn.
        nearest: Pool of nearest candidates to draw from.

    Raises:
        InsufficientData: If too few candidates are left.
    """
    free = allowed.clone()
    free[list(chosen)] = False
    spread = traits[allowed].double().std(0)
    scaled = traits.double() / torch.where(spread > 0, spread, 1.0)
    drawn = []
    for one in chosen:
        pool = free.nonzero()[:, 0]
        if len(pool) < count:
            raise InsufficientData(
                f"{count} features to match each of {len(chosen)} were asked for and too few are"
                " left: widen the dictionary or choose fewer features"
            )
        distance = (scaled[pool] - scaled[one]).square().sum(1)
        near = pool[distance.argsort(stable=True)[: max(nearest, count)]]
        order = torch.randperm(len(near), generator=generator)[:count]
        taken = near[order.to(near.device)]
        free[taken] = False
        drawn.append(taken.tolist())
    return drawn
