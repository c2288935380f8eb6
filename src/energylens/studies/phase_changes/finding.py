"""What a run says: how many known dates were found, and what was found where there is none."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from energylens.results.format import interval, number, percent
from energylens.results.record import Control, Estimate, Summary
from energylens.stats.rates import clustered_rate_interval, poisson_interval, wilson_interval
from energylens.studies.phase_changes import PhaseChanges
from energylens.studies.phase_changes.dates import NETWORK

Row = Mapping[str, Any]
WORDS: Mapping[str, str] = {
    "induction": "induction heads forming", "learned_positions": "learned positions",
    "grokking": "grokking", "shuffled_answers": "shuffled answers",
}  # fmt: skip


def summarise(options: PhaseChanges, runs: Sequence[Row], dates: Sequence[Row]) -> Summary:
    """Figures, controls and the finding sentence."""
    changing = [row for row in runs if not row["silent"]]
    known = [row for row in changing if math.isfinite(row["known_step"])]
    by = [row for row in dates if row["by"]]
    figures = {**_recalls(by), **_dimensions(dates), **_alarms(by, runs)}
    return Summary(
        study="phase-changes",
        subject=f"{_several(len(runs), 'small network')}: " + ", ".join(
            WORDS[kind] for kind in dict.fromkeys(row["kind"] for row in runs)
        ),
        finding=_finding(by),
        detail=_detail(dates),
        grade="control",
        figures=figures,
        controls=_controls(changing, known, by, runs),
        cards=tuple(figures),
        limits=_limits(),
        suspicious=tuple(_suspicious(changing, by)),
    )  # fmt: skip


def _recalls(by: Sequence[Row]) -> dict[str, Estimate]:
    """Known dates that lie in the interval of the largest event, by kind."""
    figures = {}
    for kind, rows in _by_kind(_judged(by)):
        hits = sum(row["hit"] for row in rows)
        found = wilson_interval(torch.tensor(hits), torch.tensor(len(rows)))
        figures[f"recall.{kind}"] = Estimate(
            hits / len(rows), "share of runs", low=float(found.low), high=float(found.high),
            null_mean=_mean(row["covered"] for row in rows), n=len(rows), n_unit="runs",
            label=f"Dated within its interval: {WORDS[kind]}",
            note=f"by {_words(rows[0]['measure'])}; null: a date drawn at random",
        )  # fmt: skip
    return figures


def _dimensions(dates: Sequence[Row]) -> dict[str, Estimate]:
    """Places whose dimension has an event at the known date, by kind and measure."""
    figures = {}
    places = [row for row in _judged(dates) if row["site"] != NETWORK]
    for kind, rows in _by_kind(places):
        for measure in dict.fromkeys(row["measure"] for row in rows):
            mine = [row for row in rows if row["measure"] == measure]
            runs = list(dict.fromkeys(row["run"] for row in mine))
            hits, n = (
                torch.tensor([sum(count(row) for row in mine if row["run"] == run) for run in runs])
                for count in (lambda row: row["hit"], lambda row: 1)
            )
            found = clustered_rate_interval(hits, n) if len(runs) > 1 else None
            figures[f"recall.{kind}.{measure}"] = Estimate(
                float(hits.sum() / n.sum()), "share of places",
                low=float(found.low) if found else math.nan,
                high=float(found.high) if found else math.nan,
                null_mean=_mean(row["covered"] for row in mine), n=len(runs), n_unit="runs",
                label=f"{_words(measure).capitalize()} has an event there: {WORDS[kind]}",
                note="the nearest event's interval holds the known date; null: a date drawn at"
                " random, and the intervals of all events",
            )  # fmt: skip
    return figures


def _alarms(by: Sequence[Row], runs: Sequence[Row]) -> dict[str, Estimate]:
    """Events in the dating measure of controls that never change."""
    figures = {}
    for kind, rows in _by_kind([row for row in by if row["silent"]]):
        steps = sum(row["num_steps"] for row in runs if row["kind"] == kind)
        events = sum(row["events"] for row in rows)
        found = poisson_interval(torch.tensor(events))
        figures[f"false_alarms_per_1000.{kind}"] = Estimate(
            1000 * events / steps, "events in 1,000 steps", low=1000 * float(found.low) / steps,
            high=1000 * float(found.high) / steps, null_mean=0.0, n=len(rows), n_unit="runs",
            label=f"Events where nothing changes: {WORDS[kind]}",
            note=f"in {_words(rows[0]['measure'])}; should be none, and 2 are allowed",
        )  # fmt: skip
    return figures


def _finding(by: Sequence[Row]) -> str:
    parts = []
    for kind, rows in _by_kind(_judged(by)):
        hits = sum(row["hit"] for row in rows)
        parts.append(
            f"{hits} of {_several(len(rows), 'run')} of {WORDS[kind]}"
            f" (a random date: {percent(_mean(row['covered'] for row in rows))})"
        )
    silent = [row for row in by if row["silent"]]
    events = sum(row["events"] for row in silent)
    text = "No phase change came to pass, so none could be dated."
    if parts:
        text = f"The interval of the largest event holds the known date in {' and '.join(parts)}."
    if silent:
        found = f"are {events} events" if events > 1 else f"is {'one' if events else 'no'} event"
        text += f" In {_several(len(silent), 'control')} that should stay silent there {found}."
    return text


def _detail(dates: Sequence[Row]) -> str:
    parts = []
    for kind, rows in _by_kind([row for row in _judged(dates) if row["site"] != NETWORK]):
        hits = sum(row["hit"] for row in rows)
        parts.append(
            f"at {hits} of {len(rows)} series in {WORDS[kind]}"
            f" ({percent(_mean(row['covered'] for row in rows))} by chance)"
        )
    return f"Dimensions have an event there {' and '.join(parts)}." if parts else ""


def _controls(
    changing: Sequence[Row], known: Sequence[Row], by: Sequence[Row], runs: Sequence[Row]
) -> dict[str, Control]:
    controls = {}
    if changing:
        controls["changes_came"] = Control(
            label="Changes came", value=len(known), expected=len(changing),
            passed=len(known) == len(changing),
            sentence=f"{len(known)} of {_several(len(changing), 'training')} with a phase change"
            " passed the half of their measure.",
        )  # fmt: skip
    silent = [row for row in runs if row["silent"]]
    if silent:
        loud = [row["run"] for row in silent if math.isfinite(row["known_step"])]
        controls["controls_stayed"] = Control(
            label="Controls stayed", value=len(loud), expected=0, passed=not loud,
            sentence=f"{len(silent) - len(loud)} of {_several(len(silent), 'control')} stayed below"
            " the half of their measure" + (f"; not {', '.join(loud)}." if loud else "."),
        )  # fmt: skip
        alarms = [row for row in by if row["silent"] and row["events"]]
        controls["silent"] = Control(
            label="No event in controls", value=len(alarms), expected=0, passed=not alarms,
            sentence=f"{len(silent) - len(alarms)} of {_several(len(silent), 'control')} have no"
            " event in their measure" + "".join(f"; {_alarm(row)}" for row in alarms) + ".",
        )  # fmt: skip
    return controls


def _alarm(row: Row) -> str:
    return (
        f"{row['run']} has {row['events']}, the largest by {number(row['amplitude'], signed=True)}"
        f" at step {row['step']:,.0f}"
    )


def _limits() -> tuple[str, ...]:
    return (
        "The known date is where a measure first passes a half, at a look: what one calls the date"
        " of a change that takes many steps is a choice.",
        "Dimensions change for other reasons too: escape from the first weights is an event in"
        " controls as well, and events of a dimension are not judged by these dates.",
        "These are the smallest networks that change so; larger ones change more slowly.",
    )


def _suspicious(changing: Sequence[Row], by: Sequence[Row]) -> Iterator[str]:
    if late := [row["run"] for row in changing if math.isnan(row["known_step"])]:
        yield f"No change came in {', '.join(late)}: they are neither hit nor miss."
    for row in _judged(by):
        if not row["hit"]:
            where = ("no event" if math.isnan(row["step"]) else "the largest event at "
                     + interval(row["step"], row["low"], row["high"]))  # fmt: skip
            yield f"{row['run']} changed at step {row['known_step']:,.0f}, and has {where}."


def _judged(rows: Sequence[Row]) -> list[Row]:
    """Of runs that should change, and did."""
    return [row for row in rows if row["hit"] is not None and not row["silent"]]


def _by_kind(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for kind in dict.fromkeys(row["kind"] for row in rows):
        yield kind, [row for row in rows if row["kind"] == kind]


def _mean(values: Any) -> float:
    some = list(values)
    return math.fsum(some) / len(some)


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)


def _words(measure: str) -> str:
    return measure.replace("_", " ")
