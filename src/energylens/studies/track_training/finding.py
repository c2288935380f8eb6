"""What a run says in words and figures, computed from its rows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from energylens.results.format import interval, number, percent
from energylens.results.record import Control, Estimate, Summary
from energylens.studies.track_training import TrackTraining

Row = Mapping[str, Any]


def summarise(options: TrackTraining, runs: Sequence[Row], measurements: pa.Table) -> Summary:
    """Figures of each network; the control that it learned anything."""
    figures = {}
    for row in runs:
        figures[f"accuracy.{row['architecture']}"] = accuracy(row)
        figures[f"stable_rank.{row['architecture']}"] = _dimension(row, measurements)
    learned = [row for row in runs if row["accuracy_low"] > row["chance_accuracy"]]
    best = max(runs, key=lambda row: row["final_accuracy"])
    return Summary(
        study="track-training",
        subject=f"{options.dataset} · {', '.join(options.architectures)}",
        finding=_finding(best, measurements),
        grade="real" if options.steps >= 1_000 else "quick",
        figures=figures,
        controls={"learned": Control(
            label="Learned", value=len(learned), expected=len(runs),
            passed=len(learned) == len(runs),
            sentence=f"{len(learned)} of {len(runs)} networks are right more often, interval and"
            " all, than who always says the commonest class.",
        )},
        cards=tuple(figures)[:4],
        limits=(
            "One seed and one split: what another would give is not in these intervals.",
            "Dimensions are of a fixed probe, and no larger than its rows allow.",
        ),
    )  # fmt: skip


def accuracy(row: Row) -> Estimate:
    """Of one trained network, beside who always says the commonest class."""
    return Estimate(
        row["final_accuracy"], "share right", low=row["accuracy_low"], high=row["accuracy_high"],
        null_mean=row["chance_accuracy"], n=row["units"],
        n_unit="documents" if row["units"] < row["held_out"] else "examples",
        label=f"Accuracy of {row['architecture']} on {row['dataset']}",
        note="held-out examples; null: always the commonest class",
    )  # fmt: skip


def _course(row: Row, measurements: pa.Table) -> tuple[str, list[float]]:
    """The site before the head, and its stable rank at each look."""
    mine = measurements.filter(pc.equal(measurements["run"], row["run"]))
    site = pc.unique(mine["site"]).to_pylist()[-2]
    return site, mine.filter(pc.equal(mine["site"], site))["stable_rank"].to_pylist()


def _dimension(row: Row, measurements: pa.Table) -> Estimate:
    site, course = _course(row, measurements)
    return Estimate(
        course[-1], "dimensions", null_mean=course[0], n=1, n_unit="networks",
        undefined=sum(not math.isfinite(value) for value in course),
        label=f"Stable rank at {site} of {row['architecture']}",
        note="after training; null: the same before the first update",
    )  # fmt: skip


def _finding(best: Row, measurements: pa.Table) -> str:
    site, course = _course(best, measurements)
    right = interval(best["final_accuracy"], best["accuracy_low"], best["accuracy_high"])
    return (
        f"After {best['num_steps']:,} updates {best['architecture']} is right in {right} of cases"
        f" (commonest class {percent(best['chance_accuracy'])}); the stable rank at {site} went"
        f" from {number(course[0])} to {number(course[-1])}."
    )
