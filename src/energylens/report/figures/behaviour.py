"""Does the model behave differently without its strongest features? Tasks, and what moves them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame, zero
from energylens.report.feature_table import names
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table
from energylens.results.format import number, p_value, several

ACCURACY, EVERY_TASK = "accuracy", "all tasks"
VERBS = {"ablate": "Ablated", "double": "Doubled", "clamp": "Clamped at their largest"}
LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of the figure: an accuracy beside chance, or an effect beside its matches'."""

    task: str
    what: str
    feature: str
    role: str
    value: float
    low: float
    high: float
    null: float
    items: float
    active: float
    q: float
    why: str


def figure(records: Records) -> Figure | None:
    tasks = records.table("behaviour_tasks")
    if tasks is None:
        return None
    rows = [*_accuracies(tasks), *_effects(records.table("behaviour"))]
    kinds = list(dict.fromkeys(row.what for row in rows if row.what != ACCURACY))
    height = 96 + 34 * tasks.rows
    panels = [
        Panel(draw=partial(_draw_accuracy, rows=rows), height=height,
              label="Accuracy on each task, with chance in grey."),
        *(Panel(draw=partial(_draw_effects, rows=rows, what=kind), height=height,
                label=f"Change of the preference for the answer by task: {kind}; matched in grey.")
          for kind in kinds),
    ]  # fmt: skip
    return Figure(
        name="behaviour",
        question="Does the model behave differently without its strongest features?",
        short="Behaviour",
        answer=_answer(tasks, records.table("behaviour_contrast")),
        notes=_notes(tasks, rows),
        method=("method-behaviour", "behaviour"),
        panels=panels,
        columns=_columns(rows),
        tells=("task", "what", "feature", "role", "value", "low", "high", "null"),
        wide=True,
    )


def _accuracies(tasks: Table) -> list[Row]:
    nan = float("nan")
    return [
        Row(
            task=_plain(tasks.text("task")[i]), what=ACCURACY, feature="", role="",
            value=tasks.number("accuracy")[i], low=tasks.number("low")[i],
            high=tasks.number("high")[i], null=tasks.number("chance")[i],
            items=tasks.number("items")[i], active=nan, q=nan, why=tasks.text("why")[i],
        )
        for i in range(tasks.rows)
    ]  # fmt: skip


def _effects(effects: Table | None) -> list[Row]:
    if effects is None:
        return []
    features, value = names(effects), effects.number("effect")
    return [
        Row(
            task=_plain(effects.text("task")[i]), what=effects.text("intervention")[i],
            feature=features[i], role=effects.text("role")[i], value=value[i],
            low=effects.number("low")[i], high=effects.number("high")[i],
            null=value[i] - effects.number("difference")[i], items=effects.number("items")[i],
            active=effects.number("active_items")[i], q=effects.number("q")[i], why="",
        )
        for i in range(effects.rows)
    ]  # fmt: skip


def _plain(task: str) -> str:
    return task.replace("_", " ")


def _columns(rows: Sequence[Row]) -> list[Column]:
    labels = {
        "task": "task", "what": "measured", "feature": "feature", "role": "role",
        "value": "accuracy, or change (nats)", "low": "95 % from", "high": "to",
        "null": "chance, or matched", "items": "items", "active": "active in", "q": "q",
        "why": "why not",
    }  # fmt: skip
    return [
        Column(name=name, label=label, cells=[getattr(row, name) for row in rows])
        for name, label in labels.items()
    ]


def _draw_accuracy(axes: Axes, *, rows: Sequence[Row]) -> Marks:
    shown = [i for i, row in enumerate(rows) if row.what == ACCURACY]
    _lines(axes, [rows[i].task for i in shown], across="right answers (%)")
    y = np.arange(len(shown), dtype=float)
    null, x, low, high = (
        np.array([100 * getattr(rows[i], name) for i in shown], dtype=float)
        for name in ("null", "value", "low", "high")
    )
    axes.vlines(null, y - 0.3, y + 0.3, color=LIGHT["dot"], linewidth=3, zorder=1)
    colors = [LIGHT["muted" if rows[i].why else "accent"] for i in shown]
    axes.hlines(y, low, high, color=colors, linewidth=1.6, zorder=2)
    axes.scatter(x, y, s=34, color=colors, edgecolor=LIGHT["paper"], linewidth=0.6, zorder=3)
    for line, i in zip(y, shown, strict=True):
        if not np.isfinite(rows[i].value):
            axes.text(2, line, "cannot be asked", va="center", fontsize=11, color=LIGHT["muted"])
    axes.set_xlim(0, 103)
    return Marks(x=x, y=y, rows=shown)


def _draw_effects(axes: Axes, *, rows: Sequence[Row], what: str) -> Marks:
    tasks = list(dict.fromkeys(row.task for row in rows if row.what == what))
    _lines(axes, tasks, across="change of preference (nats)", title=what,
           signed="x")  # fmt: skip
    zero(axes, across=True)
    found: list[int] = []
    heights: list[np.ndarray] = []
    for role, color, shift in (("matched", "dot", 0.17), ("top", "accent", -0.17)):
        for line, task in enumerate(tasks):
            mine = [i for i, row in enumerate(rows)
                    if (row.task, row.what, row.role) == (task, what, role)]  # fmt: skip
            y = line + shift + _fan(len(mine))
            low, high, x = (
                np.array([getattr(rows[i], name) for i in mine], dtype=float)
                for name in ("low", "high", "value")
            )
            axes.hlines(y, low, high, color=LIGHT[color], linewidth=1, alpha=0.6, zorder=2)
            axes.scatter(x, y, s=22, color=LIGHT[color], edgecolor=LIGHT["paper"], linewidth=0.5,
                         zorder=3)  # fmt: skip
            found += mine
            heights.append(y)
    y = np.concatenate(heights) if heights else np.zeros(0)
    return Marks(x=[rows[i].value for i in found], y=y, rows=found)


def _fan(count: int) -> np.ndarray:
    return np.linspace(-0.13, 0.13, count) if count > 1 else np.zeros(count)


def _lines(
    axes: Axes, tasks: Sequence[str], *, across: str, title: str = "", signed: str = ""
) -> None:
    """One line a task, the first on top."""
    frame(axes, across=across, up="", title=title, signed=signed)
    axes.grid(visible=False)
    axes.set_ylim(len(tasks) - 0.5, -0.5)
    axes.set_yticks(range(len(tasks)), tasks)
    for line in range(len(tasks) - 1):
        axes.axhline(line + 0.5, color=LIGHT["hairline"], linewidth=0.8, zorder=0)


def _answer(tasks: Table, contrast: Table | None) -> str:
    can = int(np.nansum(tasks.number("can")))
    text = (
        f"The model is beyond chance in {can or 'none'} of {several(tasks.rows, 'task')}"
        f"{'' if can else ', so no effect on behaviour was measured'}."
    )
    if contrast is None or not can:
        return text
    pooled = contrast.equal("task", EVERY_TASK)
    told = [_compared(pooled, row) for row in range(pooled.rows)]
    return " ".join([text, *filter(None, told)])


def _compared(pooled: Table, row: int) -> str:
    """What the strongest features did, as a multiple of what their matches did."""
    top, matched, p = (
        float(pooled.number(name)[row]) for name in ("top", "matched", "p_max_t")
    )  # fmt: skip
    verb = VERBS.get(pooled.text("intervention")[row], pooled.text("intervention")[row])
    if not np.isfinite(p):
        return ""
    beyond = "beyond chance" if p <= LEVEL else "within chance"
    return (
        f"{verb}, its strongest features change its preference by {number(top, digits=2)}, features"
        f" that match them by {number(matched, digits=2)} {pooled.text('unit')[row]}, {beyond}"
        f" (p {p_value(p)})."
    )


def _notes(tasks: Table, rows: Sequence[Row]) -> list[str]:
    sets = {row.feature for row in rows if row.role == "top"}
    cannot = [f"{row.task}: {row.why}" for row in rows if row.what == ACCURACY and row.why]
    units = dict.fromkeys(tasks.text("unit"))
    return [
        f"n = {several(len(sets), 'feature')} chosen on half of the text, each beside two random "
        "ones of its site that are active as often and as strongly (grey)",
        f"units: {', '.join(units)}",
        "chance (grey): the same answers judged by other units' questions",
        "null of the comparison: any member of a matched set chosen in place of the strongest; "
        "family-wise over the three interventions",
        *(f"cannot: {reason}" for reason in cannot),
    ]
