"""Does EFAS find the features that were planted, and leave alone those that were not?"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame, zero
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table
from energylens.results.format import percent, several

OWN = "own energy"
KINDS = {
    "planted": ("attractor", "o"),
    "pulled back": ("repulsor", "D"),
    "distractor": ("dot", "s"),
}
BEYOND = ("signs", "rows", "both")


def figure(records: Records) -> Figure | None:
    table = records.table("planted_features")
    if table is None:
        return None
    own = np.array([one == OWN for one in table.text("analysis")])
    shown = Table(name=table.name, columns={**table.columns, "row": np.arange(table.rows)},
                  rows=table.rows).where(own)  # fmt: skip
    labels = list(dict.fromkeys(_label(shown, i) for i in range(shown.rows)))
    height = 100 + 34 * len(labels)
    return Figure(
        name="planted_features", question="Does EFAS find what was planted, and nothing else?",
        short="EFAS", answer=_answer(shown),
        notes=[
            "blue circles: planted; vermilion diamonds: directions the energy pulls back; grey"
            " squares: distractors, active by what the energy does not read",
            "left: mean EFAS, 95 % over networks; null (grey): flipped signs of trials, ± 1.96 sd",
            "right: share found with a sign, beyond both nulls (filled) and beyond flipped signs"
            " alone (hollow)",
            f"n = {several(int(table.number('n_networks')[0]), 'network')} a setting; other"
            " analyses in the table",
        ],
        method=("method-planted-forces", "known forces"),
        panels=[
            Panel(draw=partial(_draw_efas, table=shown, labels=labels), height=height,
                  label="Mean EFAS by kind of network, setting and kind of feature."),
            Panel(draw=partial(_draw_found, table=shown, labels=labels), height=height,
                  label="Share of features found beyond the nulls."),
        ],
        columns=_columns(table), tells=("subject", "setting", "kind", "efas"), wide=True,
    )  # fmt: skip


def _columns(table: Table) -> list[Column]:
    words = (("subject", "kind of network"), ("dial", "dial"), ("analysis", "gradient and rows"),
             ("kind", "kind of feature"))  # fmt: skip
    numbers = ("setting", "features", "undefined", "efas", "low", "high", "null_sd",
               *(f"{verdict}_{null}" for verdict in ("attractors", "repulsors")
                 for null in BEYOND), "any_both", "n_networks")  # fmt: skip
    return [
        *(Column(name=name, label=label, cells=table.text(name)) for name, label in words),
        *(Column(name=name, label=name.replace("_", " "), cells=table.number(name),
                 signed=name in ("efas", "low", "high")) for name in numbers),
    ]  # fmt: skip


def _label(table: Table, row: int) -> str:
    return (
        f"{table.text('subject')[row]} · {table.text('dial')[row]} {table.number('setting')[row]:g}"
    )


def _lines(axes: Axes, table: Table, labels: Sequence[str]) -> np.ndarray:
    """Where each row stands: kinds side by side on the line of their setting."""
    axes.grid(visible=False)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_yticks(range(len(labels)), labels, fontsize=10)
    shift = dict(zip(KINDS, (-0.24, 0.0, 0.24), strict=True))
    return np.array([
        labels.index(_label(table, i)) + shift[table.text("kind")[i]] for i in range(table.rows)
    ])  # fmt: skip


def _draw_efas(axes: Axes, *, table: Table, labels: Sequence[str]) -> Marks:
    frame(axes, across="EFAS (correlation)", up="", signed="x")
    y = _lines(axes, table, labels)
    half = 1.96 * table.number("null_sd")
    axes.barh(y, 2 * half, left=-half, height=0.2, color=LIGHT["null"], linewidth=0, zorder=1)
    zero(axes, across=True)
    efas = table.number("efas")
    for kind, (color, marker) in KINDS.items():
        mine = np.array([one == kind for one in table.text("kind")])
        axes.hlines(y[mine], table.number("low")[mine], table.number("high")[mine],
                    color=LIGHT[color], linewidth=1.4, zorder=3)  # fmt: skip
        axes.plot(efas[mine], y[mine], marker, ms=5.5, color=LIGHT[color], mec=LIGHT["paper"],
                  mew=0.5, zorder=4)  # fmt: skip
    axes.set_xlim(-1.1, 1.1)
    return Marks(x=efas, y=y, rows=table.number("row").tolist())


def _draw_found(axes: Axes, *, table: Table, labels: Sequence[str]) -> Marks:
    frame(axes, across="found as repulsors ← share → found as attractors", up="", signed="x")
    y = _lines(axes, table, labels)
    zero(axes, across=True)
    x = _signed(table, "both")
    for kind, (color, marker) in KINDS.items():
        mine = np.array([one == kind for one in table.text("kind")])
        axes.plot(_signed(table, "signs")[mine], y[mine], marker, ms=7, color="none",
                  mec=LIGHT[color], mew=1.0, zorder=3)  # fmt: skip
        axes.plot(x[mine], y[mine], marker, ms=5, color=LIGHT[color], mec=LIGHT["paper"], mew=0.5,
                  zorder=4)  # fmt: skip
    axes.set_xlim(-1.1, 1.1)
    return Marks(x=x, y=y, rows=table.number("row").tolist())


def _signed(table: Table, null: str) -> np.ndarray:
    """The larger of both shares, negative where it is that of repulsors."""
    up, down = table.number(f"attractors_{null}"), table.number(f"repulsors_{null}")
    return np.where(up >= down, up, -down)


def _answer(own: Table) -> str:
    told = []
    for subject in dict.fromkeys(own.text("subject")):
        part = own.equal("subject", subject).equal("kind", "planted")
        last = part.rows - 1 if part.text("dial")[0] == "beta" else 0
        both, signs = (float(part.number(f"attractors_{null}")[last]) for null in ("both", "signs"))
        told.append(
            f"{subject} ({part.text('dial')[last]} {part.number('setting')[last]:g})"
            f" {percent(both)}, {percent(signs)}"
        )
    wrong = own.equal("kind", "distractor")
    families, of = wrong.number("any_both").sum(), wrong.number("n_networks").sum()
    flipped = own.equal("kind", "planted")
    low = int((flipped.number("repulsors_signs") > 0.5).sum())
    text = (
        "Planted features found as attractors, beyond both nulls and beyond flipped signs alone:"
        f" {'; '.join(told)}. Some distractor is beyond both nulls in {int(families):,} of"
        f" {several(int(of), 'network')}."
    )
    if low:
        text += (
            f" At {several(low, 'setting')} of low beta most planted directions are repulsors,"
            " as the closed form says: no minimum is theirs."
        )
    return text
