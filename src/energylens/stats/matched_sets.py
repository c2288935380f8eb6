"""Is the chosen one of each set larger than those drawn to match it?

A feature that matters more than *its* matches in many documents need not be special: any two
features differ. Whether the chosen features as a kind do more is a question with the feature as
its unit, and its null is that within each set any member may as well have been the chosen one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData

ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class MatchedSets:
    """Whether the first members do more than the others, one test a column.

    Attributes:
        difference: Mean over sets of first member − mean of the others.
        null_sd: Standard deviation of the difference over all choices.
        p: By choosing another member of each set; nan where all members are equal.
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
    members: Int[Tensor, " one_each"] | None = None,
    two_sided: bool = False,
) -> MatchedSets:
    """Permutation test that member 0 of each set has the larger value.

    Each pattern names one member of every set as the chosen one, the same for all columns, which
    keeps their dependence. All patterns are gone through where there are no more than `draws`.

    Args:
        values: Member 0 is the chosen one; sizes, if sizes are compared. A column with nan is
            undefined.
        members: How many of each set are there, where sets differ; what stands behind them in
            `values` is not looked at.
        two_sided: Whether a smaller value counts as much as a larger one.

    Raises:
        InsufficientData: If all patterns together cannot give a p of .05.
        BadInput: If a set has fewer than two members.

    Example:
        >>> values = torch.tensor([[[3.0], [1.0], [2.0]], [[9.0], [1.0], [0.0]],
        ...                        [[5.0], [4.0], [4.0]]])
        >>> round(matched_set_test(values, generator=torch.Generator()).p.item() * 27, 6)
        1.0
    """
    values = values.double()
    members = _checked(members, values)
    sets, total = len(values), math.prod(members.tolist())
    if total < 20:
        sizes = " and ".join(map(str, sorted(set(members.tolist()))))
        raise InsufficientData(
            f"{sets} sets of {sizes} can be dealt in {total} ways, and a p of .05 needs 20: "
            "choose more features or match more to each"
        )
    apart = apart_from_others(values, members)
    exact = total <= draws
    picks = _all(members) if exact else _drawn(members, draws, generator)
    null = _sums(apart, picks.to(values.device))
    own = apart[:, 0].sum(0)
    spread = (apart.square().sum(1) / members[:, None].to(apart)).sum(0).sqrt()
    defined = spread > 0
    scale = torch.where(defined, spread, 1.0)
    null, own_size = null / scale, own / scale
    if two_sided:
        null, own_size = null.abs(), own_size.abs()
    least = own_size - ROUNDING
    beyond = (null >= least).sum(0).double()
    largest = torch.where(defined, null, -torch.inf).amax(1, keepdim=True)
    jointly = (largest >= least).sum(0).double()
    itself = 0 if exact else 1
    p, p_adjusted = ((itself + n) / (itself + len(picks)) for n in (beyond, jointly))
    return MatchedSets(
        difference=own / sets, null_sd=spread / sets, p=torch.where(defined, p, torch.nan),
        p_adjusted=torch.where(defined, p_adjusted, torch.nan), patterns=len(picks),
    )  # fmt: skip


def _checked(
    members: Int[Tensor, " set"] | None, values: Float64[Tensor, "set member column"]
) -> Int[Tensor, " set"]:
    sets, most = values.shape[:2]
    if members is None:
        return torch.full((sets,), most)
    if members.shape != (sets,) or not bool(((members >= 2) & (members <= most)).all()):
        raise BadInput(
            f"{sets} sets of up to {most} came with the numbers {members.tolist()}: each set has 2"
            f" to {most} members"
        )
    return members


def apart_from_others(
    values: Float64[Tensor, "set member column"], members: Int[Tensor, " set"]
) -> Float64[Tensor, "set member column"]:
    """Each member minus the mean of the others of its set; 0 for members that are not there."""
    count = members[:, None, None].to(values)
    there = torch.arange(values.shape[1], device=values.device)[:, None] < count
    known = torch.where(there, values, 0.0)
    apart = (known - known.sum(1, keepdim=True) / count) * count / (count - 1)
    return torch.where(there, apart, 0.0)


def _all(members: Int[Tensor, " set"]) -> Int[Tensor, "pattern set"]:
    choices = [torch.arange(count) for count in members.tolist()]
    return torch.cartesian_prod(*choices).view(-1, len(members))


def _drawn(
    members: Int[Tensor, " set"], draws: int, generator: torch.Generator
) -> Int[Tensor, "pattern set"]:
    shape = (draws, len(members))
    drawn = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)
    return (drawn * members.to(drawn.device)).long()


def _sums(
    apart: Float64[Tensor, "set member column"], picks: Int[Tensor, "pattern set"]
) -> Float64[Tensor, "pattern column"]:
    chosen = torch.nn.functional.one_hot(picks, apart.shape[1]).double()
    return torch.einsum("psm,smc->pc", chosen, apart)


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
