"""How does reconstruction improve with size? FVU by width and tokens with its law, and by L0."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from energylens.report.axes import Axes, Curve, frame, name_curves
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.places import site_label
from energylens.report.records import Records, Table
from energylens.results.format import interval, number, p_value, several

COLOURS = ("accent", "attractor", "repulsor", "ink")
MARKERS = "os^D"
AXES = ("width", "tokens")
# Where a share in logs may have its ticks.
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
POINTS = ("width", "k", "tokens", "seed", "fvu", "fvu_low", "fvu_high", "fvu_null", "l0",
          "dead_share", "loss_recovered")  # fmt: skip
LAWS = ("k", "points", "width_exponent", "width_exponent_low", "width_exponent_high",
        "tokens_exponent", "tokens_exponent_low", "tokens_exponent_high", "floor", "floor_low",
        "floor_high", "error", "explained", "misfit_p")  # fmt: skip
SLOPES = ("slope", "slope_low", "slope_high", "shuffled", "shuffled_low", "shuffled_high",
          "random", "random_low", "random_high")  # fmt: skip


def sizes(records: Records) -> Figure | None:
    """FVU against width and against tokens: each line a k, with the fitted law."""
    points, laws = records.table("scaling_points"), records.table("scaling_laws")
    if points is None or laws is None:
        return None
    varying = [axis for axis in AXES if len(set(points.number(axis))) > 1] or ["width"]
    shuffled = records.table("scaling_shuffled")
    site = points.text("site")[0]
    held = {"width": "the most text", "tokens": "the largest width"}
    return Figure(
        name="scaling_sizes", question="Is it a power law?", short="Law",
        answer=_answer(laws),
        notes=[
            f"drawn: {site}; " + ", ".join(f"{axis} at {held[axis]}" for axis in varying),
            f"a mark a seed; bars: 95 % over held-out {records.unit}s; lines: the fitted law",
            f"n = {several(points.rows, 'dictionary', 'dictionaries')}",
            *(["null (grey): shuffled states, the least text"] if shuffled is not None else []),
        ],
        method=("method-scaling", "laws of size"),
        panels=[
            Panel(draw=partial(_draw_sizes, points=points, laws=laws, axis=axis, site=site,
                               shuffled=shuffled if axis == "width" else None),
                  label=f"FVU by {axis}, a line for each k, with the fitted law.")
            for axis in varying
        ],
        columns=_columns(points, POINTS), tells=("width", "k", "tokens", "seed", "fvu"),
    )  # fmt: skip


def exponents(records: Records) -> Figure | None:
    """Exponents of every law, and slopes beside what has no features."""
    laws, slopes = records.table("scaling_laws"), records.table("scaling_slopes")
    if laws is None or slopes is None:
        return None
    beside = _least_text(slopes, laws)
    panels = [
        Panel(draw=partial(_draw_exponents, laws=laws, axis=axis), height=110 + 34 * laws.rows,
              label=f"Exponent of FVU in {axis}, by site and k.")
        for axis in AXES if np.isfinite(laws.number(f"{axis}_exponent")).any()
    ]  # fmt: skip
    if np.isfinite(beside.number("slope")).any():
        panels.append(
            Panel(draw=partial(_draw_slopes, slopes=beside), height=110 + 34 * laws.rows,
                  label="Slope of ln FVU on ln width beside shuffled states and random directions.")
        )  # fmt: skip
    if not panels:
        return None
    return Figure(
        name="scaling_exponents", question="How steep is it, beside what has no features?",
        short="Exponents", answer=_slopes_answer(beside),
        notes=[
            "exponents: of FVU above its floor; bars: 95 %; 0 is no trend",
            "slope: of ln FVU on ln width at the least text, floor and all",
            "null (grey): the same on shuffled states; small: random directions, untrained",
        ],
        method=("method-scaling", "laws of size"), panels=panels,
        columns=[
            *_columns(laws, LAWS),
            *(Column(name=name, label=_words(name), cells=beside.number(name), signed=True)
              for name in SLOPES),
        ],
        tells=("site", "k", "width_exponent", "tokens_exponent", "slope", "shuffled"),
        wide=True,
    )  # fmt: skip


def frontier(records: Records) -> Figure | None:
    """FVU against the features it takes, a line for each width."""
    points = records.table("scaling_points")
    if points is None or len(set(points.number("k"))) < 2:
        return None
    site = points.text("site")[0]
    return Figure(
        name="scaling_frontier", question="What does a smaller loss cost in active features?",
        short="Frontier", answer=_frontier_answer(points),
        notes=[
            f"drawn: {site}, the most text; a line a width, mean over seeds",
            "null (grey): random directions of the same width and k",
        ],
        method=("method-scaling", "laws of size"),
        panels=[Panel(draw=partial(_draw_frontier, points=points, site=site), height=320,
                      label="FVU by active features, a line for each width.")],
        columns=_columns(points, POINTS), tells=("width", "k", "tokens", "seed", "l0", "fvu"),
    )  # fmt: skip


# ---- drawings


def _draw_sizes(
    axes: Axes, *, points: Table, laws: Table, axis: str, site: str, shuffled: Table | None
) -> Marks:
    frame(axes, across=f"{axis} (log scale)", up="variance unexplained, FVU (log scale)")
    other = AXES[1 - AXES.index(axis)]
    mine = np.array(points.text("site")) == site
    mine &= points.number(other) == points.number(other)[mine].max()
    rows = np.flatnonzero(mine & (points.number("fvu") > 0))
    across, fvu = np.log10(points.number(axis)), np.log10(points.number("fvu").clip(1e-9))
    low, high = (np.log10(points.number(f"fvu_{end}").clip(1e-9)) for end in ("low", "high"))
    curves = []
    if shuffled is not None:
        curves += _draw_shuffled(axes, shuffled, site)
    for place, k in enumerate(sorted(set(points.number("k")[rows]))):
        some = rows[points.number("k")[rows] == k]
        colour = LIGHT[COLOURS[place % len(COLOURS)]]
        axes.vlines(across[some], low[some], high[some], color=colour, linewidth=1.2, zorder=3)
        axes.plot(across[some], fvu[some], MARKERS[place % len(MARKERS)], ms=5, color=colour,
                  mec=LIGHT["paper"], mew=0.6, zorder=4)  # fmt: skip
        x, y = _law_line(laws, points, some, axis)
        axes.plot(x, y, color=colour, zorder=2)
        known = np.isfinite(y)
        # Named between its ends, where the points are.
        x, y = (x[known][5:-5], y[known][5:-5]) if known.any() else (across[some], fvu[some])
        curves.append(Curve(text=f"k {k:.0f}", x=x, y=y, color=colour))
    _log_ticks(axes, sorted(set(points.number(axis)[rows])))
    name_curves(axes, curves)
    return Marks(x=across[rows], y=fvu[rows], rows=rows)


def _draw_shuffled(axes: Axes, shuffled: Table, site: str) -> list[Curve]:
    curves = []
    mine = np.array(shuffled.text("site")) == site
    for k in sorted(set(shuffled.number("k")[mine])):
        some = np.flatnonzero(mine & (shuffled.number("k") == k))
        some = some[np.argsort(shuffled.number("width")[some])]
        x, y = (np.log10(shuffled.number(name)[some]) for name in ("width", "fvu"))
        axes.plot(x, y, color=LIGHT["null"], linewidth=4, zorder=1)
        curves.append(Curve(text=f"shuffled, k {k:.0f}", x=x, y=y, color=LIGHT["muted"]))
    return curves


def _law_line(
    laws: Table, points: Table, rows: np.ndarray, axis: str
) -> tuple[np.ndarray, np.ndarray]:
    """What the law of these points gives along an axis, the other size being theirs."""
    first = int(rows[0])
    site, k = points.text("site")[first], points.number("k")[first]
    (law,) = np.flatnonzero((np.array(laws.text("site")) == site) & (laws.number("k") == k))
    ends = points.number(axis)[rows]
    x = np.linspace(np.log10(ends.min()), np.log10(ends.max()), 40)
    fvu = np.full(len(x), laws.number("floor")[law])
    for name in AXES:
        exponent, amplitude, unit = (
            laws.number(f"{name}_{part}")[law] for part in ("exponent", "amplitude", "unit")
        )
        if np.isfinite(exponent):
            size = 10**x if name == axis else points.number(name)[first]
            fvu = fvu + amplitude * (size / unit) ** -exponent
    return x, np.log10(fvu)


def _draw_exponents(axes: Axes, *, laws: Table, axis: str) -> Marks:
    frame(axes, across=f"exponent of FVU in {axis}", up="")
    value, low, high = (laws.number(f"{axis}_exponent{end}") for end in ("", "_low", "_high"))
    y = np.arange(laws.rows)
    sure = low > 0
    axes.hlines(y, low, high, color=LIGHT["accent"], linewidth=1.4, zorder=2)
    face = [LIGHT["accent" if s else "paper"] for s in sure]
    axes.scatter(value, y, s=34, color=face, edgecolor=LIGHT["accent"], linewidth=1.2, zorder=3)
    axes.axvline(0, color=LIGHT["dot"], linewidth=0.9, zorder=1)
    _name_rows(axes, laws)
    known = np.flatnonzero(np.isfinite(value))
    return Marks(x=value[known], y=y[known], rows=known)


def _draw_slopes(axes: Axes, *, slopes: Table) -> Marks:
    frame(axes, across="slope of ln FVU on ln width", up="", signed="x")
    y = np.arange(slopes.rows)
    axes.barh(y, slopes.number("shuffled_high") - slopes.number("shuffled_low"), height=0.3,
              left=slopes.number("shuffled_low"), color=LIGHT["null"], zorder=1)  # fmt: skip
    axes.scatter(slopes.number("random"), y, s=12, color=LIGHT["dot"], zorder=2)
    axes.hlines(y, slopes.number("slope_low"), slopes.number("slope_high"),
                color=LIGHT["accent"], linewidth=1.4, zorder=3)  # fmt: skip
    value = slopes.number("slope")
    axes.scatter(value, y, s=34, color=LIGHT["accent"], zorder=4)
    axes.axvline(0, color=LIGHT["dot"], linewidth=0.9, zorder=1)
    _name_rows(axes, slopes)
    known = np.flatnonzero(np.isfinite(value))
    return Marks(x=value[known], y=y[known], rows=known)


def _draw_frontier(axes: Axes, *, points: Table, site: str) -> Marks:
    frame(axes, across="active features a token, L0 (log scale)",
          up="variance unexplained, FVU (share)")  # fmt: skip
    mine = np.array(points.text("site")) == site
    mine &= points.number("tokens") == points.number("tokens")[mine].max()
    l0, fvu = np.log10(points.number("l0").clip(1e-3)), points.number("fvu")
    curves = []
    for place, width in enumerate(sorted(set(points.number("width")[mine]))):
        of_width = mine & (points.number("width") == width)
        ks = sorted(set(points.number("k")[of_width]))
        means = np.array([
            [column[of_width & (points.number("k") == k)].mean()
             for column in (l0, fvu, points.number("fvu_null"))]
            for k in ks
        ])  # fmt: skip
        colour = LIGHT[COLOURS[place % len(COLOURS)]]
        axes.plot(means[:, 0], means[:, 2], "_", ms=16, mew=4, color=LIGHT["null"], zorder=1)
        axes.plot(means[:, 0], means[:, 1], color=colour, zorder=2)
        axes.scatter(l0[of_width], fvu[of_width], s=20, color=colour, zorder=3)
        curves.append(Curve(text=f"{width:,.0f}", x=means[:, 0], y=means[:, 1], color=colour))
    axes.set_ylim(0, None)
    seen = sorted({round(10**value, 1) for value in l0[mine]})
    axes.set_xticks(np.log10(_spread(seen)), [number(value, digits=3) for value in _spread(seen)])
    name_curves(axes, curves)
    rows = np.flatnonzero(mine)
    return Marks(x=l0[rows], y=fvu[rows], rows=rows)


def _log_ticks(axes: Axes, sizes: Sequence[float]) -> None:
    axes.set_xticks(np.log10(sizes), [f"{size:,.0f}" for size in sizes])
    bottom, top = (10**end for end in axes.get_ylim())
    ticks = [share for share in SHARES if bottom <= share <= top]
    axes.set_yticks(np.log10(ticks), [number(share, digits=1) for share in ticks])


def _spread(values: Sequence[float]) -> list[float]:
    """Ticks in logs that stand apart: each a fifth more than the one before, or more."""
    kept: list[float] = []
    for value in values:
        if not kept or value > 1.2 * kept[-1]:
            kept.append(value)
    return kept


def _name_rows(axes: Axes, table: Table) -> None:
    names = [f"{site_label(site)}, k {k:.0f}"
             for site, k in zip(table.text("site"), table.number("k"), strict=True)]  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


# ---- words


def _answer(laws: Table) -> str:
    exponent, low = laws.number("width_exponent"), laws.number("width_exponent_low")
    known = np.flatnonzero(np.isfinite(exponent))
    if not len(known):
        return f"Undefined: {laws.text('why')[0] or 'width does not vary'}."
    sure = int((low[known] > 0).sum())
    best = int(known[np.argmax(laws.number("k")[known])])
    told = interval(*(float(laws.number(f"width_exponent{end}")[best])
                      for end in ("", "_low", "_high")))  # fmt: skip
    floor = interval(*(float(laws.number(f"floor{end}")[best]) for end in ("", "_low", "_high")))
    text = (
        f"In {sure} of {several(len(known), 'law')} the exponent in width is above 0; at k "
        f"{laws.number('k')[best]:.0f} it is {told}, above a floor of {floor}."
    )
    p = laws.number("misfit_p")
    wrong = np.flatnonzero(p < 0.05)
    if len(wrong):
        text += (
            f" In {len(wrong)} the points leave the law by more than repeats differ"
            f" (least p {p_value(float(p[wrong].min()))})."
        )
    return text


def _slopes_answer(slopes: Table) -> str:
    slope, null = slopes.number("slope"), slopes.number("shuffled")
    known = np.flatnonzero(np.isfinite(slope) & np.isfinite(null))
    if not len(known):
        return "The null on shuffled states is not there, or undefined."
    steeper = slopes.number("slope_high")[known] < slopes.number("shuffled_low")[known]
    at = int(known[-1])
    mine, other = (
        interval(*(float(slopes.number(f"{name}{end}")[at]) for end in ("", "_low", "_high")),
                 signed=True)
        for name in ("slope", "shuffled")
    )  # fmt: skip
    return (
        f"FVU falls more steeply than on shuffled states at {int(steeper.sum())} of {len(known)};"
        f" at k {slopes.number('k')[at]:.0f} the slope is {mine}, and {other} on those."
    )


def _frontier_answer(points: Table) -> str:
    fvu = points.number("fvu")
    best = int(np.nanargmin(fvu))
    told = interval(*(float(points.number(f"fvu{end}")[best]) for end in ("", "_low", "_high")))
    return (
        f"Least is left by {points.number('width')[best]:,.0f} features with"
        f" {number(float(points.number('l0')[best]), digits=2)} active: {told}."
    )


def _least_text(slopes: Table, laws: Table) -> Table:
    """The slope at the least text of each law, in the order of the laws."""
    least = slopes.number("tokens").min()
    keys = list(zip(slopes.text("site"), slopes.number("k"), slopes.number("tokens"), strict=True))
    wanted = zip(laws.text("site"), laws.number("k"), strict=True)
    return slopes.where(np.array([keys.index((site, k, least)) for site, k in wanted]))


def _columns(table: Table, names: Sequence[str]) -> list[Column]:
    return [
        Column(name="site", label="site", cells=table.text("site")),
        *(Column(name=name, label=_words(name), cells=table.number(name)) for name in names),
    ]


def _words(name: str) -> str:
    ends = {"low": "95 % from", "high": "to"}
    last = name.rsplit("_", 1)[-1]
    if last in ends:
        return ends[last]
    return name.replace("_", " ").replace("fvu", "FVU").replace("l0", "L0")
