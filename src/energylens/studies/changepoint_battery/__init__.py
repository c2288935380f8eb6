"""The battery: which detectors of change points can be trusted on curves like those of training?"""

from dataclasses import dataclass
from typing import Annotated

from energylens.studies.study import Range, study


@study(
    name="changepoint-battery",
    question="Does a detector of jumps find what is planted, and is it silent where nothing is?",
    entry="energylens.studies.changepoint_battery.work:run",
    example="energylens run changepoint-battery --quick --out runs/battery",
)
@dataclass(frozen=True, kw_only=True)
class ChangepointBattery:
    """Judge four detectors on series whose jumps are known and on series that have none."""

    series: Annotated[int, Range(20, 100_000)] = 200
    """Series drawn of every kind: they are the units of all intervals."""

    samples: Annotated[int, Range(100, 5_000)] = 400
    """Samples of a series."""

    roc_series: Annotated[int, Range(10, 100_000)] = 50
    """How many of them are gone through again at other thresholds."""

    level: Annotated[float, Range(1e-6, 0.2)] = 0.05
    """Level at which our detector reports a jump."""

    draws: Annotated[int, Range(99, 100_000)] = 199
    """Draws of its null for each series."""

    quick: bool = False
    """20 series of every kind instead, 10 of them at other thresholds."""

    workers: Annotated[int, Range(1, 256)] = 2
    """Kinds of series judged at a time, each on one thread."""

    seed: Annotated[int, Range(0, 2**30)] = 0
    """Seed of everything random."""
