"""Dates: where a phase change is known to be, and where the detector puts it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from energylens.studies.dynamics_analysis.events import dated

Row = dict[str, Any]

# The measure that each kind is dated by, and the height at which it has changed.
DATED_BY: Mapping[str, str] = {
    "induction": "prefix_matching", "learned_positions": "prefix_matching",
    "grokking": "new_accuracy", "shuffled_answers": "new_accuracy",
}  # fmt: skip
SILENT = ("learned_positions", "shuffled_answers")
HALFWAY = 0.5
NETWORK = "network"  # the site of what is measured of a network as a whole


def known_date(steps: Sequence[int], values: Sequence[float]) -> tuple[float, float]:
    """The looks between which a measure first passes the half; nan and nan if it never does.

    Example:
        >>> known_date([0, 10, 20, 30], [0.0, 0.4, 0.7, 0.9])
        (10.0, 20.0)
        >>> known_date([0, 10], [0.1, 0.2])
        (nan, nan)
    """
    for (before, _), (step, value) in pairwise(zip(steps, values, strict=True)):
        if value > HALFWAY:
            return float(before), float(step)
    return math.nan, math.nan


def date_rows(
    run: Row, series: Sequence[tuple[str, float, str]], jumps: Sequence[Row]
) -> list[Row]:
    """For each series of a run, the event that dates its phase change, if there is one.

    An event without a date dates nothing, and is counted all the same.

    In the measure that the change is known by it is the largest change of level, up or down: the
    change is all that should be there. In other series, which have events of their own, it is the
    one nearest to the known date; so beside it stands which share of the training the intervals of
    all events take up, which is how often a date drawn at random would be met.

    Args:
        run: Of the table `runs`.
        series: Site, depth and measure.
        jumps: Of this run.
    """
    return [
        _row(run, site, depth, measure,
             [jump for jump in jumps if (jump["site"], jump["measure"]) == (site, measure)])
        for site, depth, measure in series
    ]  # fmt: skip


def _row(run: Row, site: str, depth: float, measure: str, found: Sequence[Row]) -> Row:
    known, events = run["known_step"], dated(found)
    by = measure == run["dated_by"]
    chosen = _largest(events) if by or math.isnan(known) else _nearest(events, known)
    row: Row = {
        "run": run["run"], "kind": run["kind"], "seed": run["seed"], "silent": run["silent"],
        "site": site, "depth": depth, "measure": measure, "by": by,
        "known_after": run["known_after"], "known_step": known, "events": len(found),
        **{name: chosen[name] if chosen else math.nan
           for name in ("step", "low", "high", "amplitude")},
    }  # fmt: skip
    within = [chosen] if by and chosen else events
    row["covered"] = sum(high - low for low, high in _merged(within)) / run["num_steps"]
    row["off"] = row["step"] - known
    row["hit"] = _holds(row) if math.isfinite(known) else None
    return row


def _holds(row: Row) -> bool:
    """Whether the interval meets the looks between which the change is known to be."""
    return bool(row["low"] <= row["known_step"] and row["high"] >= row["known_after"])


def _largest(events: Sequence[Row]) -> Row | None:
    levels = [event for event in events if event["kind"] == "level"]
    return max(levels, key=lambda event: abs(event["amplitude"]), default=None)


def _nearest(events: Sequence[Row], known: float) -> Row | None:
    return min(events, key=lambda event: abs(event["step"] - known), default=None)


def _merged(events: Sequence[Row]) -> Iterator[tuple[float, float]]:
    """Intervals, those that overlap as one."""
    reached = -math.inf
    for low, high in sorted((event["low"], event["high"]) for event in events):
        if high > reached:
            yield max(low, reached), high
            reached = high
