"""Does the lens recover what is planted? Minima, the way down to them, and the direction."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from energylens.report.axes import Axes, Curve, frame, name_curves
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table
from energylens.results.format import interval, number, percent, several

SHADES = ("dot", "repulsor", "attractor", "accent", "ink")
MARKERS = "osD^v"
ANOTHER = "another network's updates"
METHOD = ("method-planted", "planted minima")


def recovery(records: Records) -> Figure | None:
    """Starts that come back to what was planted, by noise, at each setting."""
    table = records.table("planted_recovery")
    if table is None:
        return None
    return Figure(
        name="planted_recovery", question="Does descent come back to what was planted?",
        short="Recovery", answer=_recovery_answer(table),
        notes=[
            "share of noisy starts that end at the planted state's own fixed point, to 10⁻⁵, where"
            " it has one of its own",
            "null (grey band): random states with the mean, covariance and norms of the starts, at"
            " the sharpest setting, 95 % of their mean; of another network's patterns"
            f" {percent(float(np.nanmax(table.number('recovered_other'))))} at most",
            f"bars: 95 % over networks, n = {_networks(table)} at each setting; drawn: most"
            " patterns, the rest in the table",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_recovery, table=part, title=title), height=330,
                  label=f"Share recovered by noise: {title}.")
            for title, part in _drawn(table)
        ],
        columns=[*_words(table), *_numbers(
            table, "noise", "recovered", "recovered_low", "recovered_high", "recovered_random",
            "recovered_random_low", "recovered_random_high", "recovered_other", "overlap",
            "overlap_random", "overlap_other", "n_starts", "n_networks")],
        tells=("subject", "setting", "noise", "recovered", "recovered_random"), wide=True,
    )  # fmt: skip


def minima(records: Records) -> Figure | None:
    """How many minima the planted states have, and how many basins are found."""
    table = records.table("planted_minima")
    if table is None:
        return None
    return Figure(
        name="planted_minima", question="Are there as many basins as minima?", short="Minima",
        answer=_minima_answer(table),
        notes=[
            "circles: basins of the ends of noisy starts; crosses: different fixed points that the"
            " network's own updates lead to from the planted states",
            "null (grey line): as many as were planted, if each had a minimum of its own",
            f"means and 95 % over networks, n = {_networks(table)} at each setting; drawn: most"
            " patterns, the rest in the table",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_minima, table=part, title=title), height=300,
                  label=f"Minima and basins: {title}.")
            for title, part in _drawn(table)
        ],
        columns=[*_words(table), *_numbers(
            table, "planted", "minima", "own_minima", "shared_minima", "basins", "basins_low",
            "basins_high", "basins_planted", "reached", "complete", "complete_low", "complete_high",
            "converged", "at_fixed", "as_own", "off_fixed", "unsettled", "n_networks")],
        tells=("subject", "setting", "basins", "minima"), wide=True,
    )  # fmt: skip


def paths(records: Records) -> Figure | None:
    """Energy that is left, step by step, on three ways down."""
    table = records.table("planted_paths")
    if table is None:
        return None
    subjects = list(dict.fromkeys(table.text("subject")))
    return Figure(
        name="planted_paths", question="Which way down, the network's own or the descent's?",
        short="Paths", answer=_paths_answer(table),
        notes=[
            "energy above the fixed point that the network's own updates lead to, in parts of"
            " where the starts were; a look is an update, or a try of the descent",
            "null (grey): another network's updates, measured by this one's energy",
            f"noise {table.number('noise')[0]:g} of the planted norm; bars: 95 % over networks,"
            f" n = {_networks(table)}",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_paths, table=table.equal("subject", one), title=one),
                  height=300, label=f"Energy left by step: {one}.")
            for one in subjects
        ],
        columns=[*_words(table), Column(name="route", label="way", cells=table.text("route")),
                 *_numbers(table, "noise", "look", "left", "low", "high", "n_networks")],
        tells=("subject", "route", "look", "left"), wide=True,
    )  # fmt: skip


def direction(records: Records) -> Figure | None:
    """Cosine of the negative gradient with the network's own update, and with another's."""
    table = records.table("planted_minima")
    if table is None:
        return None
    shown = np.concatenate([part.number("row") for _, part in _drawn(table)]).astype(int)
    return Figure(
        name="planted_direction", question="Is downhill where the network itself moves?",
        short="Direction", answer=_direction_answer(table),
        notes=[
            "cosine of −∇E by autograd with the update as the network computes it: the worst start"
            " of all networks",
            "null (grey): the updates of another network at the same states, mean and 95 % over"
            f" networks (n = {_networks(table)} at each setting); drawn: most patterns",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_direction, table=table, shown=shown),
                  height=70 + 19 * len(shown), label="Cosine by kind of network and setting."),
        ],
        columns=[*_words(table), *_numbers(table, "cosine", "cosine_other", "cosine_other_low",
                                           "cosine_other_high", "rise", "n_networks")],
        tells=("subject", "size", "setting", "cosine", "cosine_other"),
    )  # fmt: skip


def _networks(table: Table) -> str:
    return several(int(table.number("n_networks")[0]), "network")


def _words(table: Table) -> list[Column]:
    return [
        Column(name="subject", label="kind of network", cells=table.text("subject")),
        Column(name="size", label="planted patterns", cells=table.number("size")),
        Column(name="dial", label="dial", cells=table.text("dial")),
        Column(name="setting", label="set to", cells=table.number("setting")),
    ]


def _numbers(table: Table, *names: str) -> list[Column]:
    return [Column(name=n, label=n.replace("_", " "), cells=table.number(n)) for n in names]


def _setting(table: Table, row: int) -> str:
    return (f"{table.text('subject')[row]}, {table.number('size')[row]:g} ·"
            f" {table.text('dial')[row]} {table.number('setting')[row]:g}")  # fmt: skip


def _parts(table: Table) -> list[tuple[str, Table]]:
    """The rows of each kind and size, under one title, with their places in the whole table."""
    keys = [(table.text("subject")[i], table.number("size")[i]) for i in range(table.rows)]
    whole = Table(name=table.name, columns={**table.columns, "row": np.arange(table.rows)},
                  rows=table.rows)  # fmt: skip
    return [
        (f"{subject}, {size:g}", whole.where([key == (subject, size) for key in keys]))
        for subject, size in dict.fromkeys(keys)
    ]


def _drawn(table: Table) -> list[tuple[str, Table]]:
    """Of each kind the rows with most patterns."""
    parts = _parts(table)
    most: dict[str, float] = {}
    for _, part in parts:
        subject, size = part.text("subject")[0], float(part.number("size")[0])
        most[subject] = max(size, most.get(subject, 0.0))
    return [(title, part) for title, part in parts
            if part.number("size")[0] == most[part.text("subject")[0]]]  # fmt: skip


def _draw_recovery(axes: Axes, *, table: Table, title: str) -> Marks:
    frame(axes, across="norm of the noise (planted = 1)", up="share recovered", title=title)
    settings = sorted(set(table.number("setting")))
    noise = table.number("noise")
    ticks = sorted(set(noise))
    x = np.array([ticks.index(one) for one in noise], dtype=float)
    axes.set_xticks(range(len(ticks)), [number(one) for one in ticks])
    sharpest = max(settings) if table.text("dial")[0] == "beta" else min(settings)
    null = table.number("setting") == sharpest
    low, high = table.number("recovered_random_low"), table.number("recovered_random_high")
    axes.fill_between(x[null], low[null], np.maximum(high, low + 0.012)[null], color=LIGHT["null"],
                      linewidth=0, zorder=1)  # fmt: skip
    y = table.number("recovered")
    curves: list[Curve] = []
    for place, setting in enumerate(settings):
        mine = table.number("setting") == setting
        shift = 0.06 * (place - (len(settings) - 1) / 2)
        color = LIGHT[SHADES[place % len(SHADES)]]
        axes.vlines(
            x[mine] + shift,
            table.number("recovered_low")[mine],
            table.number("recovered_high")[mine],
            color=color,
            linewidth=1.2,
            zorder=3,
        )
        axes.plot(
            x[mine] + shift,
            y[mine],
            marker=MARKERS[place % len(MARKERS)],
            ms=5,
            color=color,
            mec=LIGHT["paper"],
            mew=0.5,
            linewidth=1.2,
            zorder=4,
        )
        x[mine] += shift
        curves.append(
            Curve(text=f"{table.text('dial')[0]} {setting:g}", x=x[mine], y=y[mine], color=color)
        )
    axes.set_ylim(-0.12, 1.12)
    axes.set_yticks([0, 0.5, 1])
    _name_apart(axes, curves)
    return Marks(x=x, y=y, rows=table.number("row").tolist())


def _name_apart(axes: Axes, curves: Sequence[Curve]) -> None:
    """Name curves; those that lie on each other are named together."""
    groups: list[list[Curve]] = []
    for curve in curves:
        near = (
            group
            for group in groups
            if len(group[0].y) == len(curve.y) and np.allclose(group[0].y, curve.y, atol=0.04)
        )
        group = next(near, None)
        if group is None:
            groups.append([curve])
        else:
            group.append(curve)
    named = []
    for group in groups:
        dial = group[0].text.rsplit(" ", 1)[0]
        values = ", ".join(curve.text.rsplit(" ", 1)[1] for curve in group)
        color = group[0].color if len(group) == 1 else LIGHT["ink"]
        named.append(Curve(text=f"{dial} {values}", x=group[-1].x, y=group[-1].y, color=color))
    name_curves(axes, named)


def _draw_minima(axes: Axes, *, table: Table, title: str) -> Marks:
    frame(axes, across=table.text("dial")[0], up="minima and basins of a network", title=title)
    x = np.arange(table.rows, dtype=float)
    axes.set_xticks(x, [f"{one:g}" for one in table.number("setting")])
    planted, found, there = (table.number(name) for name in ("planted", "basins", "minima"))
    axes.axhline(planted[0], color=LIGHT["null"], linewidth=4, zorder=1)
    axes.vlines(x, table.number("basins_low"), table.number("basins_high"), color=LIGHT["accent"],
                linewidth=1.3, zorder=2)  # fmt: skip
    axes.plot(x, found, "o", ms=9, color=LIGHT["paper"], mec=LIGHT["accent"], mew=1.4, zorder=3)
    axes.plot(x, there, "x", ms=6, color=LIGHT["ink"], mew=1.4, zorder=4)
    axes.set_ylim(0, 1.12 * float(max(planted.max(), found.max())))
    axes.margins(x=0.12)
    return Marks(x=x, y=found, rows=table.number("row").tolist())


def _draw_paths(axes: Axes, *, table: Table, title: str) -> Marks:
    frame(axes, across="looks at the energy", up="energy left (share)", title=title)
    whole = np.arange(table.rows)
    dress = {"own updates": ("attractor", "o"), "descent": ("accent", "D"),
             ANOTHER: ("dot", "s")}  # fmt: skip
    curves, x, y = [], table.number("look"), table.number("left")
    for route, (color, marker) in dress.items():
        mine = whole[[one == route for one in table.text("route")]]
        axes.vlines(
            x[mine],
            table.number("low")[mine],
            table.number("high")[mine],
            color=LIGHT[color],
            linewidth=1.1,
            zorder=2,
        )
        axes.plot(
            x[mine],
            y[mine],
            marker=marker,
            ms=4,
            color=LIGHT[color],
            mec=LIGHT["paper"],
            mew=0.4,
            linewidth=1.3,
            zorder=3,
        )
        curves.append(Curve(text=route, x=x[mine], y=y[mine], color=LIGHT[color]))
    axes.axhline(0, color=LIGHT["dot"], linewidth=0.8, zorder=1)
    axes.set_ylim(-0.1, max(1.25, float(np.nanmax(y)) * 1.15))
    name_curves(axes, curves)
    return Marks(x=x, y=y, rows=[])


def _draw_direction(axes: Axes, *, table: Table, shown: np.ndarray) -> Marks:
    frame(axes, across="cosine with −∇E · grey: another network's update", up="")
    axes.grid(visible=False)
    y = np.arange(len(shown), dtype=float)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_yticks(y, [_setting(table, int(row)) for row in shown])
    own, other, low, high = (table.number(name)[shown] for name in (
        "cosine", "cosine_other", "cosine_other_low", "cosine_other_high"))  # fmt: skip
    axes.barh(y, high - low, left=low, height=0.7, color=LIGHT["null"], linewidth=0, zorder=1)
    axes.plot(other, y, "|", ms=9, color=LIGHT["dot"], zorder=2)
    axes.plot(own, y, "o", ms=6, color=LIGHT["accent"], mec=LIGHT["paper"], zorder=3)
    axes.set_xlim(min(0.0, float(np.nanmin(low))) - 0.03, 1.04)
    return Marks(x=own, y=y, rows=shown.tolist())


def _recovery_answer(table: Table) -> str:
    told = []
    for title, part in _drawn(table):
        noise, setting = part.number("noise"), part.number("setting")
        sharpest = max(setting) if part.text("dial")[0] == "beta" else min(setting)
        row = int(np.flatnonzero((setting == sharpest) & (noise == max(noise)))[0])
        ends = (part.number(f"recovered{end}")[row] for end in ("", "_low", "_high"))
        told.append(f"{title}: {interval(*map(float, ends))}")
    return (
        f"With noise of {number(float(max(table.number('noise'))))} times the planted norm, at the"
        f" sharpest setting, the share that comes back is: {'; '.join(told)}."
    )


def _minima_answer(table: Table) -> str:
    equal = np.isclose(table.number("basins"), table.number("minima"))
    complete, of = table.number("complete"), table.number("n_networks")
    return (
        f"At {number(int(equal.sum()))} of {several(table.rows, 'setting')} networks have on"
        " average as many basins as different minima. All that was planted has a minimum of its"
        f" own, and is found, in {int(complete.sum()):,} of {int(of.sum()):,} networks; at"
        f" {number(int((table.number('own_minima') == 0).sum()))} settings nothing has one."
    )


def _paths_answer(table: Table) -> str:
    last = table.number("look").max()
    told = []
    for subject in dict.fromkeys(table.text("subject")):
        part = table.equal("subject", subject)
        at = {part.text("route")[i]: float(part.number("left")[i])
              for i in np.flatnonzero(part.number("look") == last)}  # fmt: skip
        told.append(
            f"{subject}: {_left(at['own updates'])} and {_left(at['descent'])}"
            f" ({percent(at[ANOTHER])})"
        )
    return (
        f"After {number(float(last))} looks the energy left is, by own updates and by descent (by"
        f" another network's updates): {'; '.join(told)}."
    )


def _left(share: float) -> str:
    return "under .1 %" if abs(share) < 1e-3 else percent(share)


def _direction_answer(table: Table) -> str:
    off = 1 - float(np.nanmin(table.number("cosine")))
    other = table.number("cosine_other")
    return (
        f"Everywhere: 1 − cosine is at most {number(max(off, 0.0), digits=2)}. Another network's"
        f" updates have {number(float(other.min()), digits=2)} to"
        f" {number(float(other.max()), digits=2)}; they are large where all networks share a pull"
        " towards the middle."
    )
