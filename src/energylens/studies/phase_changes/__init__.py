"""Positive controls: networks whose phase changes are known, and networks that have none."""

from dataclasses import dataclass
from typing import Annotated, Literal

from energylens.studies.study import Range, study

Kind = Literal["induction", "learned_positions", "grokking", "shuffled_answers"]


@study(
    name="phase-change",
    question="When does this small network change from one way of working to another?",
    entry="energylens.studies.phase_changes.one:run",
    example="energylens run phase-change --kind induction --seed 0",
    subject="kind",
)
@dataclass(frozen=True, kw_only=True)
class PhaseChange:
    """Train one network whose phase change is known, and measure it while it trains."""

    kind: Kind = "induction"
    """What is trained: induction or grokking, or the control of either, learned_positions and
    shuffled_answers, in which nothing changes."""

    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Seed of weights and data."""

    steps: Annotated[int, Range(0, 10**6)] = 0
    """Steps of training; 0: as many as show the change in most seeds."""

    every: Annotated[int, Range(0, 10**4)] = 0
    """Steps between two looks; 0: so that there are about 100."""

    d_model: Annotated[int, Range(16, 1_024)] = 64
    """Width of the network; its four heads share it."""

    context: Annotated[int, Range(8, 120)] = 64
    """Induction: tokens of a sequence."""

    batch: Annotated[int, Range(1, 4_096)] = 32
    """Induction: sequences a step."""

    table_sd: Annotated[float, Range(1e-3, 100)] = 1.0
    """Induction: standard deviation of the first embeddings of tokens and positions."""

    p: Annotated[int, Range(3, 499)] = 53
    """Grokking: numbers are added modulo this, which is odd."""

    share: Annotated[float, Range(0.01, 0.95)] = 0.5
    """Grokking: share of all pairs that is taught."""

    decay: Annotated[float, Range(0, 10)] = 1.0
    """Grokking: weight decay."""

    threads: Annotated[int, Range(0, 1024)] = 1
    """Threads of the numerics; 0: all cores. With another number sums round otherwise."""


@study(
    name="phase-changes",
    question="Does the detector date phase changes that are known, and is it silent without one?",
    entry="energylens.studies.phase_changes.work:run",
    example="energylens run phase-changes --quick --on local --workers 2",
    plan="energylens.studies.phase_changes.tasks:tell",
    tasks=True,
)
@dataclass(frozen=True, kw_only=True)
class PhaseChanges:
    """Train networks whose phase changes are known, and date them by the detector of events."""

    kinds: tuple[Kind, ...] = ("induction", "learned_positions", "grokking", "shuffled_answers")
    """What is trained."""

    seeds: Annotated[tuple[int, ...], Range(0, 2**31 - 1)] = (0, 1, 2)
    """Each gives every kind other weights and other data."""

    quick: bool = False
    """Induction and its control alone, narrow and short, with the first seed."""

    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Seed of the analysis."""
