"""Which statements about training hold up? Each effect on the scale of its own null."""

from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table
from energylens.report.text import several

MOST = 12.0  # standard deviations of the null that are drawn
BAND = 1.96
WORDS = ("question", "hypothesis", "quantity", "unit", "n_unit", "verdict")
NUMBERS = ("effect", "low", "high", "null_mean", "null_sd", "p", "q", "n")


def figure(records: Records) -> Figure | None:
    """Effects with intervals beside their nulls; None without the table of hypotheses."""
    table = records.table("hypotheses")
    if table is None or not table.rows:
        return None
    return Figure(
        name="training_hypotheses", question="What holds of how these networks train?",
        short="Hypotheses", answer=_answer(table),
        notes=[
            "across: (effect − mean of its null) / standard deviation of its null; bars: 95 %",
            "null (grey): 95 % of what chance gives; where no null is defined the row is empty;"
            f" what lies beyond {MOST:.0f} is drawn at the edge, the table has it",
        ],
        method=("method-trainings", "trainings"),
        panels=[Panel(draw=partial(_draw, table=table), height=90 + 34 * table.rows,
                      label="Each effect in standard deviations of its null.")],
        columns=[
            *(Column(name=name, label=name.replace("_", " "), cells=table.text(name))
              for name in WORDS),
            *(Column(name=name, label=name.replace("_", " "), cells=table.number(name),
                     signed=name == "effect") for name in NUMBERS),
        ],
        tells=("hypothesis", "effect", "low", "high", "null_mean", "q", "verdict"),
    )  # fmt: skip


def _draw(axes: Axes, *, table: Table) -> Marks:
    frame(axes, across="effect, in standard deviations of its null", up="", signed="x")
    mean, sd = table.number("null_mean"), table.number("null_sd")
    with np.errstate(divide="ignore", invalid="ignore"):
        value, low, high = (
            np.clip((table.number(name) - mean) / sd, -MOST, MOST)
            for name in ("effect", "low", "high")
        )
    y = np.arange(table.rows)
    axes.axvspan(-BAND, BAND, color=LIGHT["null"], zorder=0, linewidth=0)
    axes.hlines(y, low, high, color=LIGHT["accent"], linewidth=1.6, zorder=2)
    held = np.array([verdict == "supported" for verdict in table.text("verdict")])
    known = np.isfinite(value)
    for mask, face in ((known & held, LIGHT["accent"]), (known & ~held, LIGHT["paper"])):
        axes.plot(value[mask], y[mask], "o", ms=6, color=face, mec=LIGHT["accent"], mew=1.3,
                  zorder=3)  # fmt: skip
    axes.set_yticks(y, [_wrapped(text) for text in table.text("hypothesis")], fontsize=10.5)
    axes.set_ylim(table.rows - 0.4, -0.6)
    axes.set_xlim(-MOST - 0.4, MOST + 0.4)
    axes.grid(visible=False, axis="y")
    return Marks(x=value[known], y=y[known], rows=np.flatnonzero(known))


def _wrapped(text: str, width: int = 40) -> str:
    """On two lines where it is long, cut between words."""
    if len(text) <= width:
        return text
    cut = text.rfind(" ", 0, len(text) // 2 + 8)
    return f"{text[:cut]}\n{text[cut + 1 :]}" if cut > 0 else text


def _answer(table: Table) -> str:
    verdicts = table.text("verdict")
    told = [
        f"{verdicts.count(verdict)} {verdict}" for verdict in sorted(set(verdicts))
    ]  # fmt: skip
    return f"Of {several(table.rows, 'statement')}: {', '.join(told)}."
