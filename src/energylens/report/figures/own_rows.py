"""Is a feature's own direction special? The share of other features' rows that it beats."""

from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.places import site_label
from energylens.report.records import HEADLINES, Records, Table
from energylens.results.format import p_value, percent, several

Z95 = 1.96
# Follows the energy too, if less: in few dimensions a random direction carries some of each class.
REFERENCE = "matched random directions"
COLUMNS: tuple[tuple[str, str], ...] = (
    ("scored", "scored"), ("covarying", "covarying with the force"), ("share", "rows beaten"),
    ("null_mean", "null, mean"), ("null_sd", "null, sd"), ("p", "p"),
)  # fmt: skip


def figure(records: Records) -> Figure | None:
    table = records.table("own_rows")
    if table is None:
        return None
    names = list(dict.fromkeys(table.text("analysis")))
    return Figure(
        name="own_rows",
        question="Is a feature's own direction special?",
        short="Own rows",
        answer=_answer(table),
        notes=[
            "one mark a layer, the first layer on top: mean over its scored features",
            "null (grey): decoder rows dealt out among features, 95 %",
            "filled: p < .05 for the layer by itself",
        ],
        method=("method-own-rows", "own rows and other rows"),
        panels=[
            Panel(draw=partial(_draw, table=table, names=names), height=96 + 40 * len(names),
                  label="Share of other features' rows that a feature's own beats, by analysis.")
        ],
        columns=[
            Column(name="analysis", label="analysis", cells=_told(table)),
            Column(name="site", label="site", cells=table.text("site")),
            *(Column(name=name, label=label, cells=table.number(name)) for name, label in COLUMNS),
        ],
        tells=("analysis", "site", "share", "p", "covarying", "scored"),
    )  # fmt: skip


def _told(table: Table) -> list[str]:
    return [_said(name) for name in table.text("analysis")]


def _said(name: str) -> str:
    return name.replace("_", " ")


def _draw(axes: Axes, *, table: Table, names: list[str]) -> Marks:
    frame(axes, across="other rows beaten by a feature's own (%)", up="")
    axes.grid(visible=False)
    share, mean, sd = (100 * table.number(name) for name in ("share", "null_mean", "null_sd"))
    y = np.zeros(table.rows)
    for line, name in enumerate(names):
        mine = np.flatnonzero(np.array(table.text("analysis")) == name)
        y[mine] = line + (np.linspace(-0.22, 0.22, len(mine)) if len(mine) > 1 else 0)
    colors = [LIGHT["accent" if real else "dot"] for real in table.number("real")]
    sure = table.number("p") < 0.05
    axes.barh(y, 2 * Z95 * sd, left=mean - Z95 * sd, height=0.12, color=LIGHT["null"], zorder=1)
    faces = [c if s else LIGHT["paper"] for c, s in zip(colors, sure, strict=True)]
    axes.scatter(share, y, s=34, color=faces, edgecolor=colors, linewidth=1.2, zorder=3)
    axes.axvline(50, color=LIGHT["muted"], linewidth=0.9, linestyle=(0, (3, 3)), zorder=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), list(map(_said, names)))
    for name, text in zip(names, axes.get_yticklabels(), strict=True):
        if name in HEADLINES:
            text.set(color=LIGHT["accent"], fontweight="bold")
    for line in range(len(names) - 1):
        axes.axhline(line + 0.5, color=LIGHT["hairline"], linewidth=0.8, zorder=0)
    known = np.flatnonzero(np.isfinite(share))
    return Marks(x=share[known], y=y[known], rows=known)


def _answer(table: Table) -> str:
    real = table.where([name in HEADLINES for name in table.text("analysis")])
    share, p = real.number("share"), real.number("p")
    if not np.isfinite(share).any():
        return "Undefined: too few features could be scored."
    best = int(np.nanargmax(share))
    dealt = percent(float(real.number("null_mean")[best]))
    sure = int((p < 0.05).sum())
    text = (
        f"At {sure} of {several(real.rows, 'layer')} own rows beat the others beyond chance, most "
        f"at {site_label(real.text('site')[best])}: {percent(float(share[best]))} of them "
        f"(p {p_value(float(p[best]))}; dealt out, {dealt})."
    )
    random = np.array([name == REFERENCE for name in table.text("analysis")])
    controls = table.where(~random & (table.number("real") == 0))
    beside = table.where(random).number("share")
    if np.isfinite(beside).any():
        text += f" Random directions: {percent(float(np.nanmax(beside)))} at most."
    found = int((controls.number("p") < 0.05).sum())
    return text + (
        f" In the other controls, {found or 'none'} of {controls.rows} layers has p < .05."
        if controls.rows
        else ""
    )
