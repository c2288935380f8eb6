"""Did heads, filters and neurons change at events? Each measure beside quiet windows."""

from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table
from energylens.results.format import interval, number, p_value, several

METHOD = ("method-mechanisms", "events beside quiet windows")
KINDS = {"jump": "jumps", "fast": "fast moments", "planted": "planted events"}
COLOURS = {"jump": "repulsor", "fast": "accent", "planted": "attractor"}
NUMBERS = ("events", "quiet", "event_mean", "quiet_mean", "difference", "difference_low",
           "difference_high", "superiority", "superiority_low", "superiority_high", "p",
           "p_adjusted")  # fmt: skip
SURE = 0.05
CHOSEN_BY = "stable_rank"


def contrasts(records: Records) -> Figure | None:
    """How often an event changes a measure more than one of its quiet windows."""
    table = records.table("mechanism_contrasts")
    if table is None:
        return None
    sizes = _numbered(table).where(_mask(table, about="size"))
    found = {kind: _widest(sizes.where(_mask(sizes, event_kind=kind))) for kind in KINDS}
    shown = [(kind, widest) for kind, widest in found.items() if widest is not None]
    if not shown:
        return None
    return Figure(
        name="mechanism_contrasts", question="Does more change at events than at quiet times?",
        short="Events", answer=" ".join(_answer(kind, rows) for kind, rows in shown),
        notes=[
            "share of pairs in which the event changes more than one of its quiet windows;"
            " bars: 95 % over events; filled: family-wise p ≤ .05",
            "; ".join(f"{KINDS[kind]}: {_units(rows)}" for kind, rows in shown),
            "null (grey): ½, where an event is a window like any other; events were chosen by"
            " stable rank",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_contrasts, table=rows, kind=kind), height=90 + 24 * rows.rows,
                  label=f"How often {KINDS[kind]} change each measure more than quiet windows.")
            for kind, rows in shown
        ],
        columns=_columns(table), wide=True,
        tells=("run", "event_kind", "measure", "superiority", "p_adjusted"),
    )  # fmt: skip


def windows(records: Records) -> Figure | None:
    """The changes of one measure in every window, over the training."""
    table, changes = records.table("mechanism_contrasts"), records.table("mechanism_changes")
    places = records.table("mechanism_windows")
    if table is None or changes is None or places is None:
        return None
    measure = _surest(table)
    sizes = _sizes(changes, places, measure)
    known = np.isfinite(sizes)
    runs = list(dict.fromkeys(np.array(places.text("run"))[known].tolist()))
    return Figure(
        name="mechanism_windows", question="What do events and quiet windows look like?",
        short="Windows", answer=_windows_answer(sizes, places, measure),
        notes=[
            f"drawn: size of the change of {_plain(measure)} between the ends of each window, mean"
            " over sites: the measure with the least family-wise p",
            "quiet windows in grey, matched to events in length and time",
            f"n = {several(int(known.sum()), 'window')} in {several(len(runs), 'training')}",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_windows, sizes=sizes, places=places, run=run),
                  label=f"Change of {_plain(measure)} in each window of {run}.")
            for run in runs
        ],
        columns=[
            Column(name="run", label="training", cells=places.text("run")),
            Column(name="kind", label="kind", cells=places.text("kind")),
            *(Column(name=name, label=name, cells=places.number(name))
              for name in ("event", "pre", "peak", "post")),
            Column(name="size", label="size of the change", cells=sizes),
        ],
        tells=("run", "kind", "peak", "size"), wide=True,
    )  # fmt: skip


# ---- drawings


def _draw_contrasts(axes: Axes, *, table: Table, kind: str) -> Marks:
    frame(axes, across="share of pairs that the event wins", up="", title=KINDS[kind])
    y = np.arange(table.rows)
    value, low, high = (table.number(f"superiority{end}") for end in ("", "_low", "_high"))
    colour = LIGHT[COLOURS[kind]]
    axes.axvline(0.5, color=LIGHT["null"], linewidth=5, zorder=1)
    axes.hlines(y, low, high, color=colour, linewidth=1.4, zorder=2)
    face = [colour if sure else LIGHT["paper"] for sure in table.number("p_adjusted") <= SURE]
    axes.scatter(value, y, s=30, color=face, edgecolor=colour, linewidth=1.2, zorder=3)
    axes.set_yticks(y, [_plain(name) for name in table.text("measure")])
    axes.set_ylim(table.rows - 0.5, -0.5)
    axes.set_xlim(-0.03, 1.03)
    axes.grid(visible=False, axis="y")
    known = np.flatnonzero(np.isfinite(value))
    return Marks(x=value[known], y=y[known], rows=table.number("row")[known].astype(int))


def _draw_windows(axes: Axes, *, sizes: np.ndarray, places: Table, run: str) -> Marks:
    frame(axes, across="training step", up="size of the change", title=run)
    mine = np.flatnonzero(_mask(places, run=run) & np.isfinite(sizes))
    step, kinds = places.number("peak"), np.array(places.text("kind"))
    for kind in ("quiet", *KINDS):
        some = mine[kinds[mine] == kind]
        colour = LIGHT[COLOURS[kind]] if kind in COLOURS else LIGHT["dot"]
        axes.scatter(step[some], sizes[some], s=14 if kind == "quiet" else 34, color=colour,
                     zorder=2 if kind == "quiet" else 3)  # fmt: skip
        if kind in KINDS and len(some):
            first = some[np.argmax(sizes[some])]
            axes.annotate(KINDS[kind], (step[first], sizes[first]), xytext=(0, 7), ha="center",
                          textcoords="offset points", fontsize=11, color=colour)  # fmt: skip
    axes.set_ylim(0, None)
    return Marks(x=step[mine], y=sizes[mine], rows=mine)


# ---- rows


def _mask(table: Table, **wanted: str) -> np.ndarray:
    kept = np.ones(table.rows, dtype=bool)
    for column, value in wanted.items():
        kept &= np.array(table.text(column)) == value
    return kept


def _widest(table: Table) -> Table | None:
    """Of all trainings together if that can be judged, else of the first that can; with the number
    of each row in the whole table."""
    judged = [verdict != "too few events" for verdict in table.text("verdict")]
    runs = [run for run, known in zip(table.text("run"), judged, strict=True) if known]
    if not runs:
        return None
    return table.where(_mask(table, run="all" if "all" in runs else runs[0]) & np.array(judged))


def _surest(table: Table) -> str:
    kinds = np.isin(np.array(table.text("event_kind")), ("jump", "fast"))
    sizes = _mask(table, about="size") & kinds & ~_mask(table, measure=CHOSEN_BY)
    if (together := _mask(table, run="all")).any():
        sizes &= together  # what all networks have
    p = np.where(sizes, table.number("p_adjusted"), np.nan)
    names = table.text("measure")
    return names[int(np.nanargmin(p))] if np.isfinite(p).any() else "relative_weight_change"


def _sizes(changes: Table, places: Table, measure: str) -> np.ndarray:
    """Of each window, mean over sites."""
    mine = np.flatnonzero(_mask(changes, measure=measure))
    runs, number = np.array(changes.text("run")), changes.number("window")
    size = np.abs(changes.number("change"))
    found = []
    for run, window in zip(places.text("run"), places.number("window"), strict=True):
        some = size[mine][(runs[mine] == run) & (number[mine] == window)]
        known = some[np.isfinite(some)]
        found.append(known.mean() if len(known) else np.nan)
    return np.array(found)


def _columns(table: Table) -> list[Column]:
    words = ("run", "event_kind", "measure", "about", "verdict")
    return [
        *(Column(name=name, label=name.replace("_", " "), cells=table.text(name))
          for name in words),
        *(Column(name=name, label=name.replace("_", " "), cells=table.number(name))
          for name in NUMBERS),
    ]  # fmt: skip


# ---- words


def _answer(kind: str, rows: Table) -> str:
    rows = rows.where(~_mask(rows, measure=CHOSEN_BY))  # that it changes there is no finding
    sure = np.flatnonzero(rows.number("p_adjusted") <= SURE)
    where, of = f"At {KINDS[kind]}, {_where(rows)},", several(rows.rows, "measure")
    if not len(sure):
        return f"{where} none of {of} changes by more or less than chance."
    best = int(sure[np.argmin(rows.number("p_adjusted")[sure])])
    share = interval(*(float(rows.number(f"superiority{end}")[best])
                       for end in ("", "_low", "_high")))  # fmt: skip
    return (
        f"{where} {len(sure)} of {of} change by more or less than chance;"
        f" {_plain(rows.text('measure')[best])} most surely, by more in {share} of pairs"
        f" (family-wise p {p_value(float(rows.number('p_adjusted')[best]))})."
    )


def _windows_answer(sizes: np.ndarray, places: Table, measure: str) -> str:
    kinds, runs = np.array(places.text("kind")), np.array(places.text("run"))
    event = places.number("event")
    told = []
    for kind in KINDS:
        ratios = []
        for own in np.flatnonzero((kinds == kind) & np.isfinite(sizes)):
            beside = (runs == runs[own]) & (event == event[own]) & (kinds == "quiet")
            quiet = sizes[beside & np.isfinite(sizes)]
            if len(quiet) and quiet.mean() > 0:
                ratios.append(sizes[own] / quiet.mean())
        if ratios:
            told.append(f"{KINDS[kind]} {number(float(np.median(ratios)), digits=2)}")
    return (
        f"Change of {_plain(measure)} over the mean of an event's own quiet windows, median over"
        f" events: {', '.join(told) or 'undefined'}."
    )


def _where(rows: Table) -> str:
    run = rows.text("run")[0]
    return "over all trainings" if run == "all" else f"in {run}"


def _units(rows: Table) -> str:
    events, quiet = (int(rows.number(name)[0]) for name in ("events", "quiet"))
    return f"{several(events, 'event')}, {several(quiet, 'quiet window')}, {_where(rows)}"


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _numbered(table: Table) -> Table:
    """The table with the number of each row, so that a part of it can name its rows."""
    columns = {**table.columns, "row": np.arange(table.rows, dtype=float)}
    return Table(name=table.name, columns=columns, rows=table.rows)
