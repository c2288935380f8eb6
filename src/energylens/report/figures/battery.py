"""Which detector of jumps can be trusted? Planted jumps, nulls, curves, and single series."""

from functools import partial

import numpy as np

from energylens.report.axes import Axes, Curve, frame, name_curves
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table
from energylens.results.format import number, percent, several

METHOD = ("method-battery", "the battery")
OURS = "energylens"
NAMES = {OURS: "Energylens", "global_z": "global z", "ndtracker": "ndtracker", "pelt": "PELT"}
COLOURS = {OURS: "accent", "global_z": "repulsor", "ndtracker": "attractor", "pelt": "ink"}
MARKERS = {OURS: "o", "global_z": "D", "ndtracker": "s", "pelt": "^"}
LEAST, MOST = 0.75, 2.0
FLOOR = 0.01  # false alarms per 1,000 that are drawn as this few
TICKS = (0.01, 0.1, 1, 10, 100)
WORDS = ("detector", "kind", "case")
NUMBERS = ("n_series", "n_samples", "n_jumps", "found", "recall", "recall_low", "recall_high",
           "recall_chance", "false_alarms", "per_1000", "per_1000_low", "per_1000_high",
           "alarmed", "dated", "covered", "undefined")  # fmt: skip
CURVE = ("threshold", "recall", "recall_least", "per_1000", "per_1000_most")


def verdict(records: Records) -> Figure | None:
    """Recall by kind of jump and false alarms by kind of null, of each detector."""
    table = records.table("battery")
    if table is None:
        return None
    whole = _numbered(table)
    planted, quiet = whole.equal("kind", "planted"), whole.equal("kind", "null")
    return Figure(
        name="battery", question="What is found, and what is found where nothing is?",
        short="Battery", answer=_verdict_answer(table),
        notes=[
            f"n = {several(int(table.number('n_series')[0]), 'series', 'series')} of each kind, of"
            f" {table.number('n_samples')[0]:.0f} samples; bars: 95 %",
            "dashed: the bars of validity, 75 % of every kind and 2 false alarms per 1,000 samples",
            "null of recall (grey): as many marks, turned to random places",
            f"fewer than {number(FLOOR)} false alarms per 1,000 stand at the left edge",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_recall, table=planted), height=120 + 36 * _kinds(planted),
                  label="Share of planted jumps found, by kind and detector."),
            Panel(draw=partial(_draw_alarms, table=quiet), height=120 + 36 * _kinds(planted),
                  label="False alarms per 1,000 samples, by kind of null and detector."),
        ],
        columns=[
            *(Column(name=name, label=name, cells=_said(table, name)) for name in WORDS),
            *(Column(name=name, label=name.replace("_", " "), cells=table.number(name))
              for name in NUMBERS),
        ],
        tells=("detector", "case", "recall", "per_1000"),
    )  # fmt: skip


def roc(records: Records) -> Figure | None:
    """Recall against false alarms, over all thresholds of each detector."""
    table = records.table("battery_roc")
    if table is None:
        return None
    return Figure(
        name="battery_roc", question="Would another threshold help?", short="ROC",
        answer=_roc_answer(table),
        notes=[
            "a point a threshold: mean recall over kinds of jumps against false alarms per 1,000"
            " samples, of the mean null on the left and of the worst on the right",
            "shaded: valid on that side; Energylens is drawn by the level of its p",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_roc, table=table, rate=rate, recall=recall, title=title),
                  height=340, label=f"Recall against false alarms. {title}.")
            for rate, recall, title in (
                ("per_1000", "recall", "Mean over kinds"),
                ("per_1000_most", "recall_least", "Worst of kinds"))
        ],
        columns=[
            Column(name="detector", label="detector", cells=_said(table, "detector")),
            Column(name="unit", label="unit of threshold", cells=table.text("unit")),
            *(Column(name=name, label=name.replace("_", " "), cells=table.number(name))
              for name in CURVE),
        ],
        tells=("detector", "threshold", "recall", "per_1000"),
    )  # fmt: skip


def examples(records: Records) -> Figure | None:
    """One series of some kinds, and what each detector marks in it."""
    found = records.table("battery_examples")
    if found is None:
        return None
    table = _numbered(found)
    wanted = ("steps", "sigmoid_60", "steps_training", "ar1_90", "transient", "combined")
    cases = dict.fromkeys(table.text("case"))
    shown = [case for case in wanted if case in cases] or list(cases)[:3]
    return Figure(
        name="battery_examples", question="What does a detector say of one series?",
        short="Examples", answer=_examples_answer(table),
        notes=[
            "line: the first series of a kind; broken lines: its planted jumps",
            "rows of marks under it: what each detector reports",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_example, table=table.equal("case", case), title=case),
                  height=300, label=f"A series of the kind {_words(case)}, with all marks.")
            for case in shown
        ],
        columns=[
            *(Column(name=name, label=name, cells=table.text(name)) for name in ("kind", "case")),
            *(Column(name=name, label=NAMES.get(name, name), cells=table.number(name))
              for name in ("sample", "value", "jump", *NAMES)),
        ],
        tells=("case", "sample", "value"), wide=True,
    )  # fmt: skip


# ---- drawings


def _draw_recall(axes: Axes, *, table: Table) -> Marks:
    frame(axes, across="share of planted jumps found", up="", title="Planted jumps")
    where = _rows(axes, table)
    value = table.number("recall")
    chance = table.number("recall_chance")
    axes.barh(where, chance, height=0.12, color=LIGHT["null"], zorder=1)
    _dots(axes, table, where, value, table.number("recall_low"), table.number("recall_high"))
    axes.axvline(LEAST, color=LIGHT["dot"], linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xlim(-0.02, 1.04)
    return Marks(x=value, y=where, rows=table.number("row").astype(int))


def _draw_alarms(axes: Axes, *, table: Table) -> Marks:
    frame(axes, across="false alarms per 1,000 samples (log scale)", up="", title="Nulls")
    where = _rows(axes, table)
    value, low, high = (_log(table.number(f"per_1000{end}")) for end in ("", "_low", "_high"))
    _dots(axes, table, where, value, low, high)
    axes.axvline(np.log10(MOST), color=LIGHT["dot"], linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xticks(np.log10(TICKS), [number(tick) for tick in TICKS])
    axes.set_xlim(np.log10(FLOOR) - 0.1, 2.2)
    _legend(axes)
    return Marks(x=value, y=where, rows=table.number("row").astype(int))


def _dots(
    axes: Axes, table: Table, where: np.ndarray, value: np.ndarray, low: np.ndarray,
    high: np.ndarray,
) -> None:  # fmt: skip
    names = np.array(table.text("detector"))
    for name in NAMES:
        mine = names == name
        colour = LIGHT[COLOURS[name]]
        axes.hlines(where[mine], low[mine], high[mine], color=colour, linewidth=1.1, zorder=2)
        axes.plot(value[mine], where[mine], MARKERS[name], color=colour, ms=5.5, zorder=3)


def _numbered(table: Table) -> Table:
    """The table with the number of each row, which its parts keep."""
    return Table(name=table.name, columns={**table.columns, "row": np.arange(table.rows)},
                 rows=table.rows)  # fmt: skip


def _rows(axes: Axes, table: Table) -> np.ndarray:
    """A place for each row: kinds from top to bottom, detectors beside each other in each."""
    cases = list(dict.fromkeys(table.text("case")))
    order = list(NAMES)
    axes.set_yticks(range(len(cases)), [_words(case) for case in cases])
    axes.set_ylim(len(cases) - 0.5, -0.5)
    axes.grid(visible=False)
    return np.array([
        cases.index(case) + 0.18 * (order.index(name) - 1.5)
        for case, name in zip(table.text("case"), table.text("detector"), strict=True)
    ])  # fmt: skip


def _legend(axes: Axes) -> None:
    """Names where no mark can be: between our rates and those of the others."""
    for place, name in enumerate(NAMES):
        axes.text(0.44, 0.985 - 0.045 * place, NAMES[name], transform=axes.transAxes, fontsize=11,
                  ha="center", va="top", color=LIGHT[COLOURS[name]], zorder=6)  # fmt: skip


def _draw_roc(axes: Axes, *, table: Table, rate: str, recall: str, title: str) -> Marks:
    frame(axes, across="false alarms per 1,000 samples (log scale)", up="recall", title=title)
    across, up = _log(table.number(rate)), table.number(recall)
    names = np.array(table.text("detector"))
    left = np.log10(FLOOR) - 0.15
    axes.fill_between([left, np.log10(MOST)], LEAST, 1.03, color=LIGHT["null"], alpha=0.5, lw=0)
    curves = []
    for name in NAMES:
        mine = np.flatnonzero(names == name)
        mine = mine[np.argsort(across[mine], kind="stable")]
        colour = LIGHT[COLOURS[name]]
        axes.plot(across[mine], up[mine], "-", marker=MARKERS[name], ms=4.5, color=colour, zorder=3)
        curves.append(Curve(text=NAMES[name], x=across[mine], y=up[mine], color=colour))
    axes.set_xticks(np.log10(TICKS), [number(tick) for tick in TICKS])
    axes.set_xlim(left, 2.4)
    axes.set_ylim(-0.03, 1.06)
    name_curves(axes, curves)
    return Marks(x=across, y=up, rows=np.arange(table.rows))


def _draw_example(axes: Axes, *, table: Table, title: str) -> Marks:
    frame(axes, across="sample", up="value, in standard deviations of noise",
          title=_words(title).capitalize())  # fmt: skip
    sample, value = table.number("sample"), table.number("value")
    axes.plot(sample, value, color=LIGHT["dot"], linewidth=0.9, zorder=2)
    for at in sample[table.number("jump") > 0]:
        axes.axvline(at - 0.5, color=LIGHT["ink"], linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    height = np.ptp(value)
    for place, name in enumerate(NAMES):
        at = sample[table.number(name) > 0]
        row = np.full(len(at), value.min() - (0.09 + 0.08 * place) * height)
        axes.plot(at, row, "|", ms=8, mew=1.4, color=LIGHT[COLOURS[name]], zorder=3)
        axes.text(1.01, row[0] if len(row) else value.min() - (0.09 + 0.08 * place) * height,
                  NAMES[name], transform=axes.get_yaxis_transform(), va="center", fontsize=10,
                  color=LIGHT[COLOURS[name]])  # fmt: skip
    axes.set_ylim(value.min() - 0.42 * height, value.max() + 0.05 * height)
    return Marks(x=sample, y=value, rows=table.number("row").astype(int))


def _log(rates: np.ndarray) -> np.ndarray:
    return np.log10(rates.clip(FLOOR))


# ---- words


def _kinds(table: Table) -> int:
    return len(set(table.text("case")))


def _said(table: Table, name: str) -> list[str]:
    cells = table.text(name)
    if name == "detector":
        return [NAMES.get(cell, cell) for cell in cells]
    return [_words(cell) for cell in cells]


def _words(case: str) -> str:
    return case.replace("_", " ")


def _worst(table: Table, name: str) -> tuple[int, int]:
    """Rows of the kind it finds least of, and of the null it is wrong on most."""
    mine = np.array(table.text("detector")) == name
    recall = np.where(mine, table.number("recall"), np.nan)
    rates = np.where(mine & (np.array(table.text("kind")) == "null"), table.number("per_1000"),
                     np.nan)  # fmt: skip
    return int(np.nanargmin(recall)), int(np.nanargmax(rates))


def _verdict_answer(table: Table) -> str:
    told = []
    for name, label in NAMES.items():
        least, most = _worst(table, name)
        recall, rate = table.number("recall")[least], table.number("per_1000")[most]
        valid = recall >= LEAST and rate <= MOST
        told.append(
            f"{label} is {'' if valid else 'not '}valid: {percent(float(recall))} of"
            f" {_words(table.text('case')[least])}, {number(float(rate))} per 1,000 on"
            f" {_words(table.text('case')[most])}"
        )
    return "; ".join(told) + "."


def _roc_answer(table: Table) -> str:
    names = np.array(table.text("detector"))
    inside = (table.number("per_1000_most") <= MOST) & (table.number("recall_least") >= LEAST)
    told = [
        f"{label} at {int((inside & (names == name)).sum())} of {int((names == name).sum())}"
        for name, label in NAMES.items()
    ]
    return f"Thresholds at which a detector is valid on every kind: {', '.join(told)}."


def _examples_answer(table: Table) -> str:
    quiet = table.equal("kind", "null")
    told = [f"{NAMES[name]} {int(np.nansum(quiet.number(name)))}" for name in NAMES]
    return (
        f"In the first series of each of {_kinds(quiet)} nulls they mark, wrongly:"
        f" {', '.join(told)}."
    )
