"""What changes the finding? Each change of one choice beside the spread between seeds."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame, zero
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.places import site_label
from energylens.report.records import Records, Table, finite
from energylens.results.format import interval, number, percent, several

FINDING = ("beyond_share", "rate_at_05", "largest_efas", "covarying")
QUALITY = ("calibration", "fvu", "loss_recovered")
WITHIN = ("energy", "site")
NUMBERS: tuple[tuple[str, str, bool], ...] = (
    ("value", "value", False), ("reference", "reference", False),
    ("reference_sd", "sd over seeds", False), ("change", "change", True),
    ("low", "95 % from", True), ("high", "to", True), ("spread", "sd without effect", False),
    ("documents_low", "by documents from", True),
    ("documents_high", "to", True), ("p", "p", False), ("q", "q", False),
    ("n_seeds", "seeds", False),
)  # fmt: skip
WORDS = (("factor", "choice"), ("level", "set to"), ("label", "outcome"), ("unit", "unit"))


def finding(records: Records) -> Figure | None:
    """Changes of options: what they do to the count and size of findings."""
    return _options(
        records, FINDING, name="ablation_finding", short="Finding",
        question="Which choice changes what is found?",
    )  # fmt: skip


def quality(records: Records) -> Figure | None:
    """Changes of options: what they do to the dictionaries and to the proof."""
    return _options(
        records, QUALITY, name="ablation_quality", short="Quality",
        question="Which choice changes how good dictionaries and predictions are?",
    )  # fmt: skip


def _options(
    records: Records, outcomes: Sequence[str], *, name: str, short: str, question: str
) -> Figure | None:
    table = _rows(records, within=False)
    if table is None:
        return None
    table = table.where([i for i, o in enumerate(table.text("outcome")) if o in outcomes])
    if not table.rows:
        return None
    there = [o for o in outcomes if o in table.text("outcome")]
    levels = _levels(table)
    return Figure(
        name=name, question=question, short=short, answer=_answer(table),
        notes=[
            "null (grey): 95 % of what another seed alone would change",
            "bars: the change with the same spread around it; filled: beyond it (p < .05)",
            f"n = {several(int(table.number('n_seeds')[0]), 'seed')} at the base point, one run a"
            " change",
        ],
        method=("method-ablation", "changes and seeds"),
        panels=[
            Panel(draw=partial(_draw, table=table, outcome=o, levels=levels),
                  height=110 + 30 * len(levels), label=f"Change of {_label(table, o)} by choice.")
            for o in there
        ],
        columns=_columns(table), tells=("factor", "level", "change", "p"), wide=True,
    )  # fmt: skip


def within(records: Records) -> Figure | None:
    """Energies and sites, read in the same runs."""
    table = _rows(records, within=True)
    if table is None or not table.rows:
        return None
    parts = [some for some in (table.equal("factor", name) for name in WITHIN) if some.rows]
    return Figure(
        name="ablation_within", question="Does it depend on the energy and on the site?",
        short="Energy, site", answer=_within_answer(table),
        notes=[
            "change against the downstream energy, or against all sites together, seed by seed",
            "bars: 95 % over seeds; null (grey): 95 % of what seeds and counting alone give",
            f"n = {several(int(table.number('n_seeds')[0]), 'seed')}",
        ],
        method=("method-ablation", "changes and seeds"),
        panels=[
            Panel(draw=partial(_draw, table=some, outcome="beyond_share", levels=_levels(some)),
                  height=110 + 30 * max(len(_levels(some)) for some in parts),
                  label=f"Change of the share beyond chance by {some.text('factor')[0]}.")
            for some in parts
        ],
        columns=_columns(table), tells=("factor", "level", "change", "p"), wide=True,
    )  # fmt: skip


def _rows(records: Records, *, within: bool) -> Table | None:
    table = records.table("ablation_changes")
    if table is None:
        return None
    return table.where([i for i, f in enumerate(table.text("factor")) if (f in WITHIN) == within])


def _levels(table: Table) -> list[str]:
    return list(dict.fromkeys(_level(table, i) for i in range(table.rows)))


def _level(table: Table, row: int) -> str:
    factor, level = table.text("factor")[row], table.text("level")[row]
    if factor == "site":
        return f"layer {site_label(level)}"
    if factor == "energy":
        return level.replace("_", " ")
    return f"{factor.replace('_', ' ')} {int(level):,}"


def _label(table: Table, outcome: str) -> str:
    return table.text("label")[table.text("outcome").index(outcome)]


def _columns(table: Table) -> list[Column]:
    return [
        *(Column(name=name, label=label, cells=table.text(name)) for name, label in WORDS),
        *(Column(name=name, label=label, cells=table.number(name), signed=signed)
          for name, label, signed in NUMBERS),
    ]  # fmt: skip


def _draw(axes: Axes, *, table: Table, outcome: str, levels: Sequence[str]) -> Marks:
    rows = [i for i, o in enumerate(table.text("outcome")) if o == outcome]
    unit = table.text("unit")[rows[0]]
    frame(axes, across=f"change ({unit})", up="", title=_label(table, outcome), signed="x")
    axes.grid(visible=False)
    axes.set_ylim(len(levels) - 0.5, -0.5)
    axes.set_yticks(range(len(levels)), levels)
    y = np.array([levels.index(_level(table, i)) for i in rows], dtype=float)
    change, low, high = (table.number(name)[rows] for name in ("change", "low", "high"))
    half = (high - low) / 2
    known = np.isfinite(half)
    axes.barh(
        y[known], 2 * half[known], left=-half[known], height=0.8, color=LIGHT["null"], linewidth=0,
        zorder=1,
    )  # fmt: skip
    zero(axes, across=True)
    axes.hlines(y, low, high, color=LIGHT["accent"], linewidth=1.3, zorder=3)
    sure = table.number("p")[rows] < 0.05
    axes.scatter(change, y, s=30, facecolor=np.where(sure, LIGHT["accent"], LIGHT["paper"]),
                 edgecolor=LIGHT["accent"], linewidth=1.2, zorder=4)  # fmt: skip
    return Marks(x=change, y=y, rows=rows)


def _answer(table: Table) -> str:
    p = table.number("p")
    tested, sure = len(finite(p)), np.flatnonzero(p < 0.05)
    if not tested:
        return "Every run of the base point came out alike: no change can be judged."
    text = (
        f"{number(len(sure))} of {several(tested, 'change')}"
        f" {'exceeds' if len(sure) == 1 else 'exceed'} the spread between seeds; chance gives"
        f" {number(0.05 * tested, digits=2)}."
    )
    if not len(sure):
        return text
    best = int(sure[np.argmin(p[sure])])
    size = interval(*(float(table.number(n)[best]) for n in ("change", "low", "high")), signed=True)
    return f"{text} The surest: with {_level(table, best)}, {table.text('label')[best]} {size}."


def _within_answer(table: Table) -> str:
    p = table.number("p")
    sure = np.flatnonzero(p < 0.05)
    reference = table.number("reference")[0]
    text = f"With the downstream energy {percent(float(reference))} of features are beyond chance"
    if not len(sure):
        return f"{text}; no energy and no site differs beyond the spread between seeds."
    told = ", ".join(
        f"{_level(table, int(i))} {number(float(table.number('change')[i]), signed=True, digits=2)}"
        for i in sure
    )
    return f"{text}; beyond the spread between seeds differ {told} (share)."
