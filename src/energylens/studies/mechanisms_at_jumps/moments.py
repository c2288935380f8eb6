"""When something happened in a training: jumps, and moments at which dimensions move fastest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from energylens.dynamics.critical_periods import beyond_course
from energylens.dynamics.history import History
from energylens.dynamics.planner import CheckpointPlan, plan_checkpoints
from energylens.studies.dynamics_analysis.events import dated
from energylens.studies.mechanisms_at_jumps import MechanismsAtJumps

Row = Mapping[str, Any]
JUMP, FAST = "jump", "fast"
MEASURES = ("stable_rank", "participation_ratio")
FEWEST_LOOKS = 41  # a running median, and as many speeds to choose from
SLOWEST = 1e-3  # parts of the usual speed, below which a series stands still


@dataclass(frozen=True, kw_only=True)
class Moment:
    """An event of a training.

    Attributes:
        kind: `jump`, of one series, beyond noise and a smooth course; or `fast`, of all series
            together, which need be nothing but chance.
        low, high: Between which steps it happened.
        strength: Of a jump its size over the range of the series, undefined for a change of slope;
            of a fast moment the speed of all series over what is usual about that time.
        site, measure: Of a jump.
    """

    kind: str
    step: int
    low: int
    high: int
    strength: float
    site: str = ""
    measure: str = ""


def jump_moments(rows: Sequence[Row], *, most: int, level: float = 0.05) -> list[Moment]:
    """The jumps of series that hold one, as far as they have a date, the surest first."""
    sure = [row for row in dated(rows) if row["q"] <= level]
    sure.sort(key=lambda row: (row["p"], -(row["size"] if row["size"] == row["size"] else 0.0)))
    return [
        Moment(kind=JUMP, step=row["step"], low=row["low"], high=row["high"], strength=row["size"],
               site=row["site"], measure=row["measure"])
        for row in sure[:most]
    ]  # fmt: skip


def fast_moments(history: History, *, span: int, most: int) -> list[Moment]:
    """Where all series together move fastest, relative to what is usual about that time.

    Speed is change of the logarithm over `span` looks, so that sites and measures count alike, over
    its running median: a network that has just begun to learn is fast all the time.
    """
    logs = torch.cat([history.values[name].double().log() for name in MEASURES])
    logs = logs[logs.isfinite().all(1)]
    if logs.shape[1] < span + FEWEST_LOOKS or not len(logs):
        return []
    relative = beyond_course((logs[:, span:] - logs[:, :-span]).abs())
    speed = relative.clamp(min=SLOWEST).log().mean(0)
    skipped = (logs.shape[1] - span - len(speed)) // 2  # that have no running median
    chosen: list[int] = []
    for at in speed.argsort(descending=True).tolist():
        if len(chosen) < most and all(abs(at - other) > 2 * span for other in chosen):
            chosen.append(at)
    return [_fast(history.steps[at + skipped :][: span + 1], float(speed[at].exp()))
            for at in chosen]  # fmt: skip


def _fast(steps: Tensor, speed: float) -> Moment:
    middle = int(steps[0] + steps[-1]) // 2
    return Moment(kind=FAST, step=middle, low=middle, high=middle, strength=speed)


def plan(moments: Sequence[Moment], options: MechanismsAtJumps) -> CheckpointPlan:
    """Windows of jumps first, then of fast moments, each with quiet windows away from all."""
    order = torch.arange(len(moments), 0, -1).double()
    step, low, high = (
        torch.tensor([getattr(m, name) for m in moments], dtype=torch.int64)
        for name in ("step", "low", "high")
    )
    return plan_checkpoints(
        step, low, high, order, num_steps=options.steps, margin=options.margin,
        budget=3 * max(1, len(moments)) * (1 + options.controls), controls=options.controls,
        generator=torch.Generator().manual_seed(options.seed + 3),
    )  # fmt: skip
