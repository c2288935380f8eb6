"""Which statements about training hold up? Each effect on the scale of its own null."""

from collections import Counter
from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table
from energylens.results.format import several

MOST = 12.0  # standard deviations of the null that are drawn
BAND = 1.96
LANE = 34
WORDS = ("question", "hypothesis", "measure", "quantity", "unit", "n_unit", "verdict")
NUMBERS = ("effect", "low", "high", "null_mean", "null_sd", "p", "q", "n")


def figure(records: Records) -> Figure | None:
    """Effects with intervals beside their nulls; None without the table of hypotheses."""
    table = records.table("hypotheses")
    if table is None or not table.rows:
        return None
    shown = _by_question(table, np.flatnonzero(np.isfinite(_scaled(table, "effect"))))
    return Figure(
        name="training_hypotheses", question="What holds of how these networks train?",
        short="Hypotheses", answer=_answer(table),
        notes=[
            "across: (effect − mean of its null) / standard deviation of its null; bars: 95 %",
            "null (grey): 95 % of what chance gives; what lies beyond"
            f" {MOST:.0f} is drawn at the edge, the table has it",
            f"{len(shown)} of {table.rows} are drawn: the others have no spread of a null to be"
            " measured by, or are undefined; all are in the table",
        ],
        method=("method-trainings", "trainings"),
        panels=[Panel(draw=partial(_draw, table=table, rows=shown), 
                      height=110 + LANE * (len(shown) + len(set(_questions(table, shown)))),
                      label="Each effect in standard deviations of its null.")],
        columns=[
            *(Column(name=name, label=name.replace("_", " "), cells=table.text(name))
              for name in WORDS),
            *(Column(name=name, label=name.replace("_", " "), cells=table.number(name),
                     signed=name == "effect") for name in NUMBERS),
        ],
        tells=("hypothesis", "effect", "low", "high", "null_mean", "q", "verdict"),
    )  # fmt: skip


def _questions(table: Table, rows: np.ndarray) -> list[str]:
    questions = table.text("question")
    return [questions[row] for row in rows]


def _by_question(table: Table, rows: np.ndarray) -> np.ndarray:
    """Rows of one question beside each other, questions in the order of the table."""
    first = {question: at for at, question in reversed(list(enumerate(table.text("question"))))}
    asked = np.array([first[question] for question in _questions(table, rows)], dtype=int)
    return rows[np.argsort(asked, kind="stable")]


def _scaled(table: Table, name: str) -> np.ndarray:
    """A column in standard deviations of each row's null, cut at the edge of the drawing."""
    sd = table.number("null_sd")
    away = table.number(name) - table.number("null_mean")
    return np.clip(away / np.where(sd > 0, sd, np.nan), -MOST, MOST)


def _draw(axes: Axes, *, table: Table, rows: np.ndarray) -> Marks:
    frame(axes, across="effect, in standard deviations of its null", up="", signed="x")
    value, low, high = (_scaled(table, name)[rows] for name in ("effect", "low", "high"))
    questions = _questions(table, rows)
    new = np.array(
        [row == 0 or questions[row - 1] != asked for row, asked in enumerate(questions)], dtype=bool
    )
    y = np.arange(len(rows)) + np.cumsum(new)  # each question has a lane of its own above its rows
    axes.axvspan(-BAND, BAND, color=LIGHT["null"], zorder=0, linewidth=0)
    axes.hlines(y, low, high, color=LIGHT["accent"], linewidth=1.6, zorder=2)
    held = np.array([table.text("verdict")[row] == "supported" for row in rows], dtype=bool)
    for mask, face in ((held, LIGHT["accent"]), (~held, LIGHT["paper"])):
        axes.plot(value[mask], y[mask], "o", ms=6, color=face, mec=LIGHT["accent"], mew=1.3,
                  zorder=3)  # fmt: skip
    names = [_wrapped(name) for name in _names(table, rows)]
    headings = [_wrapped(asked) for asked, here in zip(questions, new, strict=True) if here]
    axes.set_yticks([*y, *(y[new] - 1)], names + headings, fontsize=10.5)
    for label in axes.get_yticklabels()[len(names) :]:
        label.set(fontweight="bold", color=LIGHT["ink"])
    axes.set_ylim(y.max(initial=0) + 0.6, -0.6)
    axes.set_xlim(-MOST - 0.4, MOST + 0.4)
    axes.grid(visible=False, axis="y")
    return Marks(x=value, y=y, rows=rows)


def _names(table: Table, rows: np.ndarray) -> list[str]:
    """What is claimed, and of which measure where it is claimed of several."""
    claims, measures = table.text("hypothesis"), table.text("measure")
    asked = Counter(claims[row] for row in rows)
    return [
        f"{claims[row]}, {measures[row].replace('_', ' ')}" if asked[claims[row]] > 1
        else claims[row].replace("_", " ")
        for row in rows
    ]  # fmt: skip


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
