"""What changes while networks train? Ten looks at the events of many trainings."""

import re
from collections.abc import Callable
from functools import partial
from textwrap import fill

import numpy as np

from energylens.report.axes import Axes, Curve, frame, name_curves
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table, finite
from energylens.report.training_runs import Trainings, colour, label, thirds, trainings
from energylens.results.format import number, percent, several

_NUMBERS = re.compile(r" \([^)]*\)")
BINS = 20
LEVEL = 0.05
PATTERNS = ("bottom_up", "top_down", "simultaneous", "unclear")
PARTS = ("early", "middle", "late")
HEIGHT = 250
SD = 2  # of a null that is drawn on either side


def figure(records: Records) -> Figure | None:
    """The dashboard; None where the run holds no trainings."""
    found = trainings(records)
    if found is None:
        return None
    return Figure(
        name="training_dashboard", question="What changes while these networks train?",
        short="Dashboard", answer=_answer(found),
        notes=[
            f"n = {several(found.runs.rows, 'training')},"
            f" {several(int(found.series.sum()), 'series', 'series')},"
            f" {several(found.jumps.rows, 'event')}; the unit is the training",
            "an event: a change beyond the smooth course, the correlated noise of its series and"
            " the noise of the measurement, at a false discovery rate of .05",
            "null (grey): events placed evenly, or orders and movements turned at random",
            *filter(None, [found.undated]),
            *(["types in words; their numbers are in tables/jump_types.parquet"]
              if records.there("jump_types") else []),
        ],
        method=("method-trainings", "trainings"),
        panels=[
            Panel(draw=draw, label=title, height=HEIGHT)
            for title, draw in _panels(records, found)
        ],
        columns=_columns(records, found),
        tells=("run", "events", "coordination", "loss_link"), wide=True,
    )  # fmt: skip


def _panels(records: Records, found: Trainings) -> list[tuple[str, Callable[[Axes], Marks | None]]]:
    order, together, link = (records.table(n) for n in ("order", "coordination", "loss_link"))
    drawn: list[tuple[str, Callable[[Axes], Marks | None]]] = []
    if order is not None:
        drawn.append(("In which order do layers settle?", partial(_patterns, order=order)))
    drawn += [
        ("In which third of training?", partial(_thirds, found=found)),
        ("How many, by family?", partial(_rates, found=found)),
    ]
    if together is not None:
        drawn.append(("Do layers move together?", partial(
            _beside_null, table=together, found=found, value="strength",
            up="variance of coordination")))  # fmt: skip
    drawn += [
        ("When?", partial(_histogram, found=found)),
        ("When, by family?", partial(_by_family, found=found)),
        ("How large?", partial(_sizes, found=found)),
        ("Of what type?", partial(_types, found=found, named=records.table("jump_types"))),
    ]
    if link is not None:
        drawn.append(("Do they move with the loss?", partial(
            _beside_null, table=link, found=found, value="correlation",
            up="largest lagged correlation")))  # fmt: skip
    drawn.append(("In numbers", partial(_words, lines=_lines(records, found))))
    return [(title, _titled(draw, title)) for title, draw in drawn]


def _titled(draw: Callable[..., Marks | None], title: str) -> Callable[[Axes], Marks | None]:
    return partial(draw, title=title)


# ---- drawings


def _patterns(axes: Axes, *, order: Table, title: str) -> None:
    frame(axes, across="trainings × measures", up="", title=title)
    counts = [order.text("pattern").count(name) for name in PATTERNS]
    chance = LEVEL / 2 * order.rows
    axes.barh([0, 1], chance, height=0.9, color=LIGHT["null"], zorder=1)
    axes.barh(range(len(PATTERNS)), counts, height=0.5, color=LIGHT["accent"], zorder=2)
    _rows(axes, [name.replace("_", "-") for name in PATTERNS])


def _thirds(axes: Axes, *, found: Trainings, title: str) -> None:
    frame(axes, across="share of events", up="", title=title)
    counts = thirds(found.phases())
    axes.axvline(1 / 3, color=LIGHT["null"], linewidth=6, zorder=1)
    share = counts / max(1, counts.sum())
    axes.barh(range(3), share, height=0.5, color=LIGHT["accent"], zorder=2)
    for row, (part, count) in enumerate(zip(share, counts, strict=True)):
        axes.annotate(f"{count:,}", (part, row), xytext=(4, 0), textcoords="offset points",
                      va="center", fontsize=10.5, color=LIGHT["muted"])  # fmt: skip
    _rows(axes, list(PARTS))


def _rates(axes: Axes, *, found: Trainings, title: str) -> Marks:
    frame(axes, across="events a series", up="", title=title)
    rate = found.counts() / np.maximum(1, found.series)
    y = np.zeros(found.runs.rows)
    for row, family in enumerate(found.families):
        runs = found.of_family(family)
        y[runs] = row + _spread(len(runs))
        axes.plot(rate[runs], y[runs], "o", ms=4, color=colour(family), alpha=0.7, zorder=2)
        axes.plot(rate[runs].mean(), row, "|", ms=22, mew=2.5, color=LIGHT["ink"], zorder=3)
    _rows(axes, [label(family) for family in found.families])
    return Marks(x=rate, y=y, rows=np.arange(found.runs.rows))


def _beside_null(
    axes: Axes, *, table: Table, found: Trainings, value: str, up: str, title: str
) -> Marks:
    """A figure of each run, of the first measure, by size, on the band of its null."""
    frame(axes, across="trainings, by size", up=up, title=title)
    table = table.equal("measure", table.text("measure")[0])
    table = table.where(np.isfinite(table.number(value)))
    table = table.where(np.argsort(table.number(value), kind="stable"))
    x, values = np.arange(table.rows), table.number(value)
    mean, sd = table.number("null_mean"), table.number("null_sd")
    axes.vlines(x, mean - SD * sd, mean + SD * sd, color=LIGHT["null"],
                linewidth=max(2.0, 150 / max(1, table.rows)), zorder=1)  # fmt: skip
    place = {run: row for row, run in enumerate(found.runs.text("run"))}
    rows = np.array([place[run] for run in table.text("run")], dtype=int)
    families = found.runs.text("family")
    beyond = table.number("q") <= LEVEL
    for at, row in enumerate(rows):
        hue = colour(families[row])
        axes.plot(x[at], values[at], "o", ms=4.5, mec=hue, mew=1.1, zorder=3,
                  color=hue if beyond[at] else LIGHT["paper"])  # fmt: skip
    axes.set_xticks([])
    return Marks(x=x, y=values, rows=rows)


def _histogram(axes: Axes, *, found: Trainings, title: str) -> None:
    frame(axes, across="part of training", up="events", title=title)
    phases = found.phases()
    axes.axhline(len(phases) / BINS, color=LIGHT["null"], linewidth=6, zorder=1)
    axes.hist(phases, bins=BINS, range=(0, 1), color=LIGHT["accent"], rwidth=0.86, zorder=2)
    axes.set_xlim(0, 1)


def _by_family(axes: Axes, *, found: Trainings, title: str) -> None:
    frame(axes, across="part of training", up="share of the family's events", title=title)
    edges = np.linspace(0, 1, BINS // 2 + 1)
    axes.axhline(2 / BINS, color=LIGHT["null"], linewidth=6, zorder=1)
    curves = []
    for family in found.families:
        phases = found.phases(found.of_family(family))
        if not len(phases):
            continue
        share = np.histogram(phases, edges)[0] / len(phases)
        middle = (edges[1:] + edges[:-1]) / 2
        axes.plot(middle, share, color=colour(family), marker="o", ms=3.5, zorder=2)
        curves.append(Curve(text=label(family), x=middle, y=share, color=colour(family)))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, None)
    name_curves(axes, curves)


def _sizes(axes: Axes, *, found: Trainings, title: str) -> None:
    frame(axes, across="size, in parts of the series' range", up="", title=title)
    sizes = found.jumps.number("size")
    for row, family in enumerate(found.families):
        own = finite(sizes[np.isin(found.run_of, found.of_family(family))])
        axes.plot(own, row + _spread(len(own)), "o", ms=3, color=colour(family), alpha=0.4,
                  mew=0, zorder=2)  # fmt: skip
        if len(own):
            axes.plot(np.median(own), row, "|", ms=22, mew=2.5, color=LIGHT["ink"], zorder=3)
    axes.set_xlim(0, None)
    _rows(axes, [label(family) for family in found.families])


def _types(axes: Axes, *, found: Trainings, named: Table | None, title: str) -> None:
    frame(axes, across="events", up="", title=title)
    kinds = finite(found.jumps.number("type")).astype(int)
    if not len(kinds) or named is None or not named.rows:
        _say(axes, ["No types are told apart:", "too few events,", "or none beyond chance."])
        return
    counts = [int((kinds == kind).sum()) for kind in named.number("type").astype(int)]
    axes.barh(range(len(counts)), counts, height=0.5, color=LIGHT["accent"], zorder=2)
    # In words alone: numbers make them wider than the panel, and stand in the table.
    told = [_NUMBERS.sub("", text) for text in named.text("description")]
    axes.tick_params(axis="y", labelsize=9)
    _rows(axes, [fill(text, 22) for text in told])


def _words(axes: Axes, *, lines: list[str], title: str) -> None:
    frame(axes, across="", up="", title=title)
    _say(axes, lines)


def _say(axes: Axes, lines: list[str]) -> None:
    axes.set_axis_off()
    axes.text(0, 0.96, "\n".join(lines), transform=axes.transAxes, va="top", fontsize=11.5,
              linespacing=1.6, color=LIGHT["ink"])  # fmt: skip


def _rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def _spread(count: int) -> np.ndarray:
    """Heights that keep points of one row apart."""
    return 0.28 * ((np.arange(count) * 0.618034) % 1 - 0.5)


# ---- words


def _answer(found: Trainings) -> str:
    if not found.jumps.rows:
        return "No change of any series is beyond its null."
    series = several(int(found.series.sum()), "series", "series")
    return (
        f"{several(found.jumps.rows, 'event')} in {series};"
        f" {_share_early(found)}, where an even spread would put 33 %."
    )


def _share_early(found: Trainings) -> str:
    left = found.jumps.rows - len(found.phases())
    share = f"{percent(found.early())} of {'those with a date' if left else 'them'}"
    return f"{share} in the first third of training"


def _lines(records: Records, found: Trainings) -> list[str]:
    counts = found.counts()
    quiet = int((counts == 0).sum())
    lines = [
        f"trainings: {found.runs.rows}",
        f"series: {int(found.series.sum()):,}",
        f"events: {found.jumps.rows:,}, dated {len(found.phases()):,}",
        f"a series: {number(counts.sum() / max(1, found.series.sum()), digits=2)}",
        f"trainings without any: {quiet}",
    ]
    settling = records.table("settling")
    if settling is not None and settling.rows:
        share = settling.number("censored").mean()
        lines.append(f"series that never settle: {percent(share)}")
    for name, told in (("coordination", "layers move together"), ("loss_link", "with the loss")):
        table = records.table(name)
        if table is not None and table.rows:
            q = table.number("q")
            lines.append(f"{told}: {int((q <= LEVEL).sum())} of {int(np.isfinite(q).sum())}")
    return lines


def _columns(records: Records, found: Trainings) -> list[Column]:
    """One row a training, of the first measure where a figure is by measure."""
    runs, counts = found.runs, found.counts()
    parts = np.stack([thirds(found.phases(np.array([row]))) for row in range(runs.rows)])
    words = [("run", "training"), ("family", "family"), ("dataset", "data")]
    columns = [Column(name=name, label=told, cells=runs.text(name)) for name, told in words]
    columns += [Column(name="series", label="series", cells=found.series.tolist()),
                Column(name="events", label="events", cells=counts.tolist())]  # fmt: skip
    columns += [
        Column(name=name, label=name, cells=parts[:, at].tolist()) for at, name in enumerate(PARTS)
    ]
    for name, value, told in (
        ("coordination", "strength", "coordination"), ("coordination", "q", "its q"),
        ("loss_link", "correlation", "loss link"), ("loss_link", "q", "its q"),
    ):  # fmt: skip
        table = records.table(name)
        if table is None or not table.rows:
            continue
        table = table.equal("measure", table.text("measure")[0])
        by_run = dict(zip(table.text("run"), table.number(value), strict=True))
        cells = [by_run.get(run, float("nan")) for run in runs.text("run")]
        key = name if value != "q" else f"{name}_q"
        columns.append(Column(name=key, label=told, cells=cells))
    return columns
