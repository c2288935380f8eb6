"""The original's choice of checkpoints, kept as it was: sample indices that were used as steps.

For checkpoints that hold the weights around an event, with quiet controls beside them, use
`planner`. Here the picks follow the numbers that k-means happened to give its clusters, an index is
shifted by ten samples and not by ten steps, and no control is chosen.

Source: github.com/Javihaus/ndt, experiments/mechanistic_interpretability, November 2025.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import torch

AROUND = 10
MOST = 5
EARLY, LATE, MID = 4, 3, 2


@dataclass(frozen=True, kw_only=True)
class OriginalJump:
    """A jump as the original's tables have it.

    Attributes:
        step: Sample index, not a training step.
        phase: That index over the number of training steps.
        magnitude: Size of the increment.
        layer: Where.
        cluster: Number that k-means gave its type.
    """

    step: int
    phase: float
    magnitude: float
    layer: str
    cluster: int


@dataclass(frozen=True, kw_only=True)
class PlannedJump:
    """A jump that was chosen, under which name, and the three indices to be saved."""

    kind: str
    jump: OriginalJump

    @property
    def checkpoints(self) -> tuple[int, int, int]:
        """Ten samples before, at, and ten after."""
        at = self.jump.step
        return max(0, at - AROUND), at, at + AROUND


def original_plan(
    jumps: Sequence[OriginalJump], generator: torch.Generator
) -> tuple[PlannedJump, ...]:
    """Up to five jumps of one run, by sample index.

    Two of the largest of cluster 4, two of cluster 3, and one at random of cluster 2, which the
    original drew without a seed; where a cluster has too few, the earliest two, the latest two and
    the one nearest the median phase, whatever their names then say.

    Args:
        jumps: Of one run, in the order of its table: the first of equals is taken.
        generator: For the random one.
    """
    chosen = [
        PlannedJump(kind=kind, jump=jump)
        for kind, group in _choices(jumps, generator) for jump in group
    ]  # fmt: skip
    return tuple(sorted(chosen, key=lambda planned: planned.jump.step)[:MOST])


def checkpoint_steps(plan: Sequence[PlannedJump]) -> list[int]:
    """All indices of a plan, each once."""
    return sorted({at for planned in plan for at in planned.checkpoints})


def _choices(
    jumps: Sequence[OriginalJump], generator: torch.Generator
) -> Iterator[tuple[str, Sequence[OriginalJump]]]:
    if not jumps:
        return
    by_phase = sorted(jumps, key=lambda jump: jump.phase)
    latest = sorted(jumps, key=lambda jump: -jump.phase)
    yield "Type 5 (early, large)", _largest(jumps, EARLY) or by_phase[:2]
    yield "Type 4 (late, large)", _largest(jumps, LATE) or latest[:2]
    between = [jump for jump in jumps if jump.cluster == MID]
    if between:
        at = int(torch.randint(len(between), (), generator=generator))
        yield "Type 3 (mid, moderate)", between[at : at + 1]
    else:
        middle = median(jump.phase for jump in jumps)
        yield "Type 3 (mid, moderate)", [min(jumps, key=lambda jump: abs(jump.phase - middle))]


def _largest(jumps: Sequence[OriginalJump], cluster: int) -> list[OriginalJump]:
    """The two largest of a cluster, or none if it does not have two."""
    there = [jump for jump in jumps if jump.cluster == cluster]
    return sorted(there, key=lambda jump: -jump.magnitude)[:2] if len(there) >= 2 else []
