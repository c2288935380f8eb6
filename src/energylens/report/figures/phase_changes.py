"""When did a network change, by what it can do and by its dimensions, and when by the detector?"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from energylens.report.axes import Axes, Curve, frame, name_curves
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table, finite
from energylens.results.format import number, several

METHOD = ("method-phase-changes", "phase changes")
COLOURS = ("accent", "attractor", "repulsor", "ink")
NETWORK = "network"
DIMENSION = "stable_rank"
TITLES = {
    "induction": "Induction", "learned_positions": "Control: learned positions",
    "grokking": "Grokking", "shuffled_answers": "Control: shuffled answers",
}  # fmt: skip
# What is drawn of the first run of a kind, as far as it is there.
COURSES = {
    "induction": ("prefix_matching", "previous_token", "copying", "repeat_accuracy"),
    "grokking": ("taught_loss", "new_loss", "restricted_loss", "excluded_loss"),
}
# Of these, what is known to come before the change.
LEADS = ("previous_token", "restricted_loss")
UNITS = {"induction": "score or share", "grokking": "loss (nats)"}
DATES = ("seed", "known_step", "step", "low", "high", "off", "amplitude", "events",
         "covered")  # fmt: skip


def progress(records: Records) -> Figure | None:
    """The measure that dates each run, with the known date and the detected one."""
    runs, dates, courses = _tables(records, "progress")
    if runs is None or dates is None or courses is None:
        return None
    by = dates.where(dates.number("by") == 1)
    return Figure(
        name="phase_changes_progress", question="When did it change, and when says the detector?",
        short="Dates", answer=_answer(by),
        notes=[
            f"n = {several(runs.rows, 'run')}, a curve a run; open circle: the known date, where"
            " the measure first passes .5",
            "bar and tick at .5: interval (95 %) and date of the largest event; controls should"
            " have none",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_progress, runs=runs, dates=by, courses=courses, kind=kind),
                  label=f"{TITLES[kind]}: the dating measure by step, with dates.")
            for kind in _kinds(runs)
        ],
        columns=_columns(by), tells=("run", "known_step", "step", "low", "high"), wide=True,
    )  # fmt: skip


def dimensions(records: Records) -> Figure | None:
    """Stable rank at every place of one run of each kind, with its events."""
    runs, dates, jumps = _tables(records, "jumps")
    stored = records.stored.get("measurements")
    if runs is None or dates is None or stored is None or not stored.rows:
        return None
    courses = stored.table("run", "site", "step", DIMENSION)
    shown = dates.equal("measure", DIMENSION)
    return Figure(
        name="phase_changes_dimensions", question="Do dimensions change with it?",
        short="Dimensions", answer=_dimension_answer(shown),
        notes=[
            "drawn: the first run of each kind; a line a place, stable rank over its largest value",
            "dotted: the known date; dots: events of the detector, bars their intervals (95 %)",
            "beside each place in the table: the share of the training that intervals of its"
            " events cover, which is how often they would hold a date drawn at random",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_dimensions, runs=runs, dates=shown, courses=courses,
                               jumps=jumps, kind=kind),
                  label=f"{TITLES[kind]}: stable rank by step at every place.")
            for kind in _kinds(runs)
        ],
        columns=_columns(shown), tells=("run", "site", "known_step", "step", "low", "high"),
        wide=True,
    )  # fmt: skip


def measures(records: Records) -> Figure | None:
    """What else was measured of the first run that changes, of each kind."""
    runs, dates, courses = _tables(records, "progress")
    if runs is None or dates is None or courses is None:
        return None
    kinds = [kind for kind in _kinds(runs) if kind in COURSES]
    if not kinds:
        return None
    firsts = [_first(runs, kind) for kind in kinds]
    shown = courses.where(np.array([run in firsts for run in courses.text("run")]))
    return Figure(
        name="phase_changes_measures", question="What grows before it shows?", short="Progress",
        answer=_measures_answer(runs, courses, kinds),
        notes=[
            "drawn: the first run of each kind; dotted: the known date",
            "restricted loss: of the waves in a + b at key frequencies alone, over all pairs;"
            " excluded: of all but these, over the pairs that were taught",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_measures, runs=runs, courses=courses, kind=kind),
                  label=f"{TITLES[kind]}: progress measures by step.")
            for kind in kinds
        ],
        columns=[
            Column(name="run", label="run", cells=shown.text("run")),
            Column(name="measure", label="measure", cells=shown.text("measure")),
            *(Column(name=name, label=name, cells=shown.number(name))
              for name in ("step", "value", "again")),
        ],
        tells=("run", "measure", "step", "value"),
    )  # fmt: skip


def _tables(records: Records, course: str) -> tuple[Table | None, Table | None, Table | None]:
    dates = records.table("dates")
    return records.table("known_dates"), dates, records.table(course)


def _kinds(runs: Table) -> list[str]:
    return list(dict.fromkeys(runs.text("kind")))


def _first(runs: Table, kind: str) -> str:
    return runs.equal("kind", kind).text("run")[0]


def _columns(dates: Table) -> list[Column]:
    return [
        *(Column(name=name, label=name, cells=dates.text(name))
          for name in ("run", "site", "measure")),
        *(Column(name=name, label=name.replace("_", " "), cells=dates.number(name),
                 signed=name == "off") for name in DATES),
    ]  # fmt: skip


# ---- drawings


def _draw_progress(axes: Axes, *, runs: Table, dates: Table, courses: Table, kind: str) -> Marks:
    mine = dates.equal("kind", kind)
    measure = runs.equal("kind", kind).text("dated_by")[0]
    frame(axes, across="step", up=measure.replace("_", " "), title=TITLES[kind])
    axes.axhline(0.5, color=LIGHT["dot"], linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
    marks: list[tuple[float, float, int]] = []
    for place, run in enumerate(mine.text("run")):
        colour = LIGHT[COLOURS[place % len(COLOURS)]]
        course = courses.equal("run", run).equal("measure", measure)
        axes.plot(course.number("step"), course.number("value"), color=colour, zorder=3)
        known, step, low, high = (
            float(mine.number(name)[place]) for name in ("known_step", "step", "low", "high")
        )
        if np.isfinite(step):
            height = 0.5 - 0.045 * (place + 1)
            axes.hlines(height, low, high, color=colour, linewidth=5, alpha=0.45, zorder=2)
            axes.plot([step], [height], "|", ms=11, mew=1.8, color=colour, zorder=4)
        if np.isfinite(known):
            at = float(np.interp(known, course.number("step"), course.number("value")))
            axes.plot([known], [at], "o", ms=7, mfc=LIGHT["paper"], mec=colour, mew=1.6, zorder=5)
            marks.append((known, at, dates.text("run").index(run)))
    axes.set_ylim(-0.03, 1.05)
    return _marks(marks)


def _draw_dimensions(
    axes: Axes, *, runs: Table, dates: Table, courses: Table, jumps: Table | None, kind: str
) -> Marks:
    frame(axes, across="step", up="stable rank (of its largest)", title=TITLES[kind])
    run = _first(runs, kind)
    of_run = courses.equal("run", run)
    _known_line(axes, runs, run)
    curves: list[Curve] = []
    marks: list[tuple[float, float, int]] = []
    for place, site in enumerate(dict.fromkeys(of_run.text("site"))):
        colour = LIGHT[COLOURS[place % len(COLOURS)]]
        course = of_run.equal("site", site)
        step, value = course.number("step"), course.number(DIMENSION)
        value = value / np.nanmax(value)
        axes.plot(step, value, color=colour, linewidth=1.3, zorder=2)
        curves.append(Curve(text=site, x=step, y=value, color=colour))
        row = _row_of(dates, run, site)
        for at, low, high in _events(jumps, run, site):
            height = float(np.interp(at, step, value))
            axes.hlines(height, low, high, color=colour, linewidth=3, alpha=0.5, zorder=3)
            axes.plot([at], [height], "o", ms=5, color=colour, mec=LIGHT["paper"], zorder=4)
            marks.append((at, height, row))
    axes.set_ylim(0, 1.08)
    name_curves(axes, curves)
    return _marks(marks)


def _draw_measures(axes: Axes, *, runs: Table, courses: Table, kind: str) -> Marks | None:
    frame(axes, across="step", up=UNITS[kind], title=TITLES[kind])
    run = _first(runs, kind)
    _known_line(axes, runs, run)
    of_run, curves, top = courses.equal("run", run), [], 0.0
    for place, measure in enumerate(COURSES[kind]):
        course = of_run.equal("measure", measure)
        step, value = course.number("step"), course.number("value")
        colour = LIGHT[COLOURS[place]]
        axes.plot(step, value, color=colour, linewidth=1.4, zorder=3)
        curves.append(Curve(text=measure.replace("_", " "), x=step, y=value, color=colour))
        top = max(top, float(finite(value).max(initial=0.0)))
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.08 * top)
    name_curves(axes, curves)
    return None


def _marks(points: list[tuple[float, float, int]]) -> Marks:
    x, y, rows = zip(*points, strict=True) if points else ((), (), ())
    return Marks(x=x, y=y, rows=rows)


def _known_line(axes: Axes, runs: Table, run: str) -> None:
    known = float(runs.equal("run", run).number("known_step")[0])
    if np.isfinite(known):
        axes.axvline(known, color=LIGHT["dot"], linewidth=1, linestyle=(0, (2, 3)), zorder=1)


def _events(jumps: Table | None, run: str, site: str) -> list[tuple[float, float, float]]:
    if jumps is None:
        return []
    mine = jumps.equal("run", run).equal("site", site).equal("measure", DIMENSION)
    columns = (mine.number(name).tolist() for name in ("step", "low", "high"))
    return list(zip(*columns, strict=True))


def _row_of(dates: Table, run: str, site: str) -> int:
    both = zip(dates.text("run"), dates.text("site"), strict=True)
    return next(row for row, pair in enumerate(both) if pair == (run, site))


# ---- words


def _answer(by: Table) -> str:
    hit, known, silent = by.number("hit"), by.number("known_step"), by.number("silent") == 1
    judged = np.flatnonzero(np.isfinite(known) & ~silent)
    if not len(judged):
        return "No run passed the half of its measure."
    hits = int(hit[judged].sum())
    off = by.number("off")[judged]
    text = (
        f"In {hits} of {several(len(judged), 'run')} the interval of the largest event holds the"
        " known date"
    )
    if len(finite(off)):
        text += f"; the date is off by {number(float(np.median(np.abs(finite(off)))))} steps"
        text += " in the median run"
    events = int(by.number("events")[silent].sum())
    if silent.any():
        text += f"; {several(int(silent.sum()), 'control')} with {several(events, 'event')}"
    return text + "."


def _dimension_answer(dates: Table) -> str:
    known = np.isfinite(dates.number("known_step")) & (dates.number("silent") == 0)
    if not known.any():
        return "There is no known date to compare with."
    parts = []
    for kind in dict.fromkeys(np.array(dates.text("kind"))[known].tolist()):
        mine = known & (np.array(dates.text("kind")) == kind)
        hits, chance = int(dates.number("hit")[mine].sum()), dates.number("covered")[mine].mean()
        parts.append(
            f"{TITLES[kind].lower()}: at {hits} of {several(int(mine.sum()), 'place')} an event's"
            f" interval holds the known date ({number(float(chance * mine.sum()), digits=2)} by"
            " chance)"
        )
    text = "; ".join(parts) + "."
    return text[0].upper() + text[1:]


def _measures_answer(runs: Table, courses: Table, kinds: Sequence[str]) -> str:
    parts = []
    for kind in kinds:
        run = _first(runs, kind)
        known = float(runs.equal("run", run).number("known_step")[0])
        for measure in COURSES[kind]:
            course = courses.equal("run", run).equal("measure", measure)
            step, value = course.number("step"), course.number("value")
            if measure in LEADS and np.isfinite(known) and len(finite(value)):
                half = (value[0] + value[-1]) / 2
                past = np.flatnonzero(np.abs(value - value[0]) > abs(half - value[0]))
                parts.append(f"{measure.replace('_', ' ')} is halfway at step"
                             f" {step[past[0]]:,.0f}, the change at {known:,.0f}")  # fmt: skip
    text = "; ".join(parts) or "No change came"
    return text[0].upper() + text[1:] + "."
