"""Events beside their quiet windows, measure by measure, in one training and over all of them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.dynamics.mechanisms import PAIRS
from energylens.stats.event_contrast import EventContrast, event_contrast
from energylens.studies.mechanisms_at_jumps.changes import QUIET

Row = dict[str, Any]
SIZE, DIRECTION = "size", "direction"
ALL = "all"
LEVEL = 0.05
MORE, LESS, WITHIN = "more at events", "less at events", "within chance"
FEW, UNDEFINED = "too few events", "undefined"
PLACEBO = "placebo"
CHOSEN_BY = "stable_rank"
"""Fast moments are chosen by it: that it changes more there is no finding."""


def contrast_rows(
    windows: Sequence[Row],
    changes: Sequence[Row],
    *,
    runs: Sequence[str],
    kinds: Sequence[str],
    generator: torch.Generator,
) -> list[Row]:
    """Of each training and kind of event, each measure: did it change more at events, and did it
    go another way?

    One family for all questions of a training and kind. Over all trainings windows are ranked
    within their set, so that trainings and measures of any size count alike.
    """
    tables = {
        run: _Table.of([w for w in windows if w["run"] == run],
                       [c for c in changes if c["run"] == run])
        for run in runs
    }  # fmt: skip
    rows: list[Row] = []
    for kind in kinds:
        for run, table in tables.items():
            rows += _judged(run, kind, table.sets(kind), table, generator)
        if len(tables) > 1:
            rows += _judged_together(kind, tables, generator)
    return rows


def quiet_as_events(windows: Sequence[Row]) -> list[Row]:
    """The windows without events: the first quiet one of each set in its event's place."""
    seen: set[tuple[str, int]] = set()
    rows = []
    for window in windows:
        if window["kind"] == QUIET:
            first = (window["run"], window["event"]) not in seen
            seen.add((window["run"], window["event"]))
            rows.append({**window, "kind": PLACEBO if first else QUIET, "event_kind": PLACEBO})
    return rows


class _Table:
    """Changes by window and question: a mean over sites of sizes, or of changes with their sign."""

    def __init__(self, values: Mapping[int, Mapping[tuple[str, str], float]],
                 windows: Sequence[Row]) -> None:  # fmt: skip
        self.values, self._windows = values, windows
        self.questions = list(next(iter(values.values()), {}))

    @classmethod
    def of(cls, windows: Sequence[Row], changes: Sequence[Row]) -> "_Table":
        by_window: dict[int, dict[tuple[str, str], list[float]]] = {}
        for row in changes:
            mine = by_window.setdefault(row["window"], {})
            mine.setdefault((row["measure"], SIZE), []).append(abs(row["change"]))
            if row["measure"] not in PAIRS:
                mine.setdefault((row["measure"], DIRECTION), []).append(row["change"])
        return cls(
            {number: {question: _mean(v) for question, v in mine.items()}
             for number, mine in by_window.items()},
            windows,
        )  # fmt: skip

    def sets(self, kind: str) -> list[list[int]]:
        """Each event of a kind with its quiet windows, by the numbers of the windows."""
        events = [w for w in self._windows if w["event_kind"] == kind and w["kind"] != QUIET]
        found = []
        for event in events:
            quiet = [w["window"] for w in self._windows
                     if w["event"] == event["event"] and w["kind"] == QUIET]  # fmt: skip
            if quiet:
                found.append([event["window"], *quiet])
        return found

    def apart(self, sets: Sequence[Sequence[int]]) -> float:
        """Mean distance in steps of quiet windows from their events."""
        peak = {w["window"]: w["peak"] for w in self._windows}
        steps = [abs(peak[q] - peak[own]) for own, *quiet in sets for q in quiet]
        return _mean([float(s) for s in steps])

    def of_sets(
        self, sets: Sequence[Sequence[int]], questions: Sequence[tuple[str, str]]
    ) -> tuple[Tensor, Tensor]:
        """Values [event window question], what is not there 0, and how many windows each has."""
        most = max(len(one) for one in sets)
        none = [0.0] * len(questions)
        values = torch.tensor([
            [[self.values[w].get(q, math.nan) for q in questions] for w in one]
            + [none] * (most - len(one)) for one in sets
        ], dtype=torch.float64)  # fmt: skip
        return values, torch.tensor([len(one) for one in sets])


def _judged(
    run: str, kind: str, sets: list[list[int]], table: _Table, generator: torch.Generator
) -> Iterator[Row]:
    """One training. What events were chosen by is a family of its own."""
    named = {"run": run, "event_kind": kind, "events": len(sets),
             "quiet": sum(len(one) - 1 for one in sets), "apart": table.apart(sets)}  # fmt: skip
    for family in _families(table.questions):
        if not family:
            continue
        values, counts = table.of_sets(sets, family) if sets else (torch.empty(0, 2, 1), None)
        yield from _asked(named, family, values, counts, generator)


def _judged_together(
    kind: str, tables: Mapping[str, _Table], generator: torch.Generator
) -> Iterator[Row]:
    """All trainings: questions that all of them answer, by ranks within each set."""
    sets = {run: table.sets(kind) for run, table in tables.items()}
    there = {run: tables[run] for run, some in sets.items() if some}
    count = sum(len(some) for some in sets.values())
    shared = [q for q in next(iter(tables.values())).questions
              if all(q in table.questions for table in tables.values())]  # fmt: skip
    named = {"run": ALL, "event_kind": kind, "events": count,
             "quiet": sum(len(one) - 1 for some in sets.values() for one in some),
             "apart": _mean([tables[run].apart(sets[run]) for run in there])}  # fmt: skip
    for family in _families(shared):
        if not family:
            continue
        ranked = [_ranks(*table.of_sets(sets[run], family)) for run, table in there.items()]
        most = max((values.shape[1] for values, _ in ranked), default=0)
        values = torch.cat([
            torch.nn.functional.pad(values, (0, 0, 0, most - values.shape[1]))
            for values, _ in ranked
        ]) if ranked else torch.empty(0, 2, 1)  # fmt: skip
        counts = torch.cat([counts for _, counts in ranked]) if ranked else None
        yield from _asked(named, family, values, counts, generator)


def _families(questions: Sequence[tuple[str, str]]) -> tuple[list[tuple[str, str]], ...]:
    own = [q for q in questions if q[0] != CHOSEN_BY]
    return own, [q for q in questions if q[0] == CHOSEN_BY]


def _ranks(values: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks within each set, 0 for the least and 1 for the largest, ties halfway; nan stays."""
    there = torch.arange(values.shape[1]) < counts[:, None]
    less = (values[:, None] < values[:, :, None]) & there[:, None, :, None]
    same = (values[:, None] == values[:, :, None]) & there[:, None, :, None]
    below = less.sum(2) + (same.sum(2) - 1) / 2
    ranks = below / (counts[:, None, None] - 1)
    return torch.where(values.isnan(), torch.nan, ranks), counts


def _asked(
    named: Mapping[str, Any],
    questions: Sequence[tuple[str, str]],
    values: Tensor,
    counts: Tensor | None,
    generator: torch.Generator,
) -> Iterator[Row]:
    try:
        found = event_contrast(values, windows=counts, generator=generator)
    except InsufficientData as error:
        for measure, about in questions:
            yield {**named, "measure": measure, "about": about, **_nothing(), "verdict": FEW,
                   "why": str(error)}  # fmt: skip
        return
    assert counts is not None
    there = torch.arange(1, values.shape[1]) < counts[:, None]
    quiet = (values[:, 1:] * there[:, :, None]).sum((0, 1)) / there.sum()
    for column, (measure, about) in enumerate(questions):
        numbers = _numbers(found, column)
        yield {
            **named, "measure": measure, "about": about,
            "event_mean": float(values[:, 0, column].mean()), "quiet_mean": float(quiet[column]),
            **numbers, "patterns": found.patterns, "verdict": _verdict(numbers), "why": "",
        }  # fmt: skip


def _numbers(found: EventContrast, column: int) -> dict[str, float]:
    ends = {"difference": found.difference, "superiority": found.superiority}
    told = {
        f"{name}{end}": float(getattr(of, attribute)[column])
        for name, of in ends.items()
        for end, attribute in (("", "estimate"), ("_low", "low"), ("_high", "high"))
    }
    return told | {"null_sd": float(found.null_sd[column]), "p": float(found.p[column]),
                   "p_adjusted": float(found.p_adjusted[column])}  # fmt: skip


def _verdict(numbers: Mapping[str, float]) -> str:
    if not math.isfinite(numbers["p_adjusted"]):
        return UNDEFINED
    if numbers["p_adjusted"] > LEVEL:
        return WITHIN
    return MORE if numbers["difference"] > 0 else LESS


def _nothing() -> dict[str, float | int]:
    names = ("event_mean", "quiet_mean", "difference", "difference_low", "difference_high",
             "superiority", "superiority_low", "superiority_high", "null_sd", "p",
             "p_adjusted")  # fmt: skip
    return {**dict.fromkeys(names, math.nan), "patterns": 0}


def _mean(values: Sequence[float]) -> float:
    """Of what is defined; nan if nothing is."""
    known = [value for value in values if math.isfinite(value)]
    return math.fsum(known) / len(known) if known else math.nan
