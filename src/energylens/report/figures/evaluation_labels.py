"""What a dictionary knows of labels, and whether changing a few of its features changes them."""

from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame, zero
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.figures.evaluation import (
    ITSELF,
    MOST_DRAWN,
    RANDOM,
    numbers,
    words,
)
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table, finite
from energylens.results.format import interval, number, several

METHOD = ("method-labels", "labels: probes, control, absorption")
SHAPES = {ITSELF: "o", RANDOM: "X", "raw": "s", "pca": "D", "short": "^"}
FEW = 2
LANE = 26


def probes(records: Records) -> Figure | None:
    """Is a label on few features, beyond what words alone tell?"""
    table = records.table("evaluation_probes")
    if table is None or not len(finite(table.number("selectivity"))):
        return None
    names = _dictionaries(table)
    shown = {(name, k): _rows(table, dictionary=name, k=k) for name in names[:MOST_DRAWN]
             for k in (1, 16)}  # fmt: skip
    return Figure(
        name="evaluation_probes", question="Are labels on a few features?", short="Probes",
        answer=_probes_answer(table),
        notes=[
            "logistic regression on the coordinates whose means differ most, trained and judged on"
            " different documents",
            "null (0): control tasks, in which each word type has a label at random",
            "circle: dictionary, with 95 % over documents; square: raw coordinates, diamond:"
            " principal axes, triangle: short training, grey cross: random directions",
            f"n = {several(int(table.number('n_documents')[0]), 'held-out document')}; not drawn:"
            " labels with too few tokens",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_probes, table=table, rows=rows,
                               title=_titled(table, name, several(k, "coordinate"))),
                  height=90 + LANE * len(_lanes_of(table, rows)),
                  label=f"Accuracy above that on control tasks, {name}, {k} coordinates.")
            for (name, k), rows in shown.items() if len(rows)
        ],
        columns=_columns(table, "dictionary", "contender", "labels", "label"),
        tells=("dictionary", "contender", "label", "k", "auroc", "selectivity"), wide=True,
    )  # fmt: skip


def control(records: Records) -> Figure | None:
    """Does changing a few features change the attribute they stand for?"""
    table = records.table("evaluation_control")
    if table is None or not len(finite(table.number("turned"))):
        return None
    return Figure(
        name="evaluation_control", question="Do a few features change an attribute?",
        short="Control", answer=_control_answer(table),
        notes=[
            "of the prompts whose answer patching turns, the share that the edit turns as well",
            "1, 2, 4, 8: features that may be changed at a place; rings: no choice of features",
            "null (grey): a random dictionary of the same width and k, features at random, labels"
            " dealt out to groups of prompts",
            "bars: 95 % over groups; not drawn: attributes that patching does not turn in five"
            " groups, and tasks that the model cannot do",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_control, table=table, rows=rows, title=title, column=column,
                               across=across),
                  height=100 + LANE * len(_methods(table, rows)), label=f"{across}: {title}.")
            for title, rows in _trials(table)[:MOST_DRAWN]
            for column, across in (("turned", "answers turned (share)"),
                                   ("effect", "change (share of patching's)"))
        ],
        columns=_columns(table, "dictionary", "task", "attribute", "contender", "method"),
        tells=("attribute", "contender", "method", "most", "turned", "weight"), wide=True,
    )  # fmt: skip


def absorption(records: Records) -> Figure | None:
    """Are features silent where others say their part?"""
    table = records.table("evaluation_absorption")
    if table is None or not len(finite(table.number("rate"))):
        return None
    return Figure(
        name="evaluation_absorption", question="Do features absorb others?", short="Absorption",
        answer=_absorption_answer(table),
        notes=[
            "share of the words with a first letter that the probe knows of, on which the letter's"
            " features are silent and another one carries it",
            "null (grey): decoder rows permuted among features, mean and two standard deviations",
            "bars: 95 % over words; not drawn: letters for which no feature stands",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_absorption, table=table, rows=rows,
                               title=_titled(table, name, "first letters")),
                  height=90 + LANE * len(rows), label=f"Absorption by letter: {name}.")
            for name in _dictionaries(table)[:MOST_DRAWN]
            if len(rows := _stands(table, name))
        ],
        columns=_columns(table, "dictionary", "contender", "letter"),
        tells=("dictionary", "letter", "words", "recall", "rate", "null_mean"),
    )  # fmt: skip


def _columns(table: Table, *text: str) -> list[Column]:
    return [*words(table, *text), *numbers(table, *(c for c in table.columns if c not in text))]


def _dictionaries(table: Table) -> list[str]:
    return list(dict.fromkeys(table.text("dictionary")))


def _titled(table: Table, dictionary: str, what: str) -> str:
    """The name of the dictionary is left out where there is only one: panels are narrow."""
    return f"{dictionary}, {what}" if len(_dictionaries(table)) > 1 else what


def _rows(table: Table, **wanted: str | int) -> np.ndarray:
    """Numbers of the rows in which columns have these values."""
    keep = np.ones(table.rows, dtype=bool)
    for name, value in wanted.items():
        cells = table.text(name) if isinstance(value, str) else table.number(name)
        keep &= np.array([cell == value for cell in cells])
    return np.flatnonzero(keep)


def _lanes(axes: Axes, names: list[str]) -> None:
    axes.grid(visible=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)


# ---- probes


def _lanes_of(table: Table, rows: np.ndarray) -> list[str]:
    known = np.isfinite(table.number("selectivity"))
    labels = _labels(table)
    return list(dict.fromkeys(labels[row] for row in rows if known[row]))


def _labels(table: Table) -> list[str]:
    """Token classes by their name, kinds of text as such: “code” is both."""
    pairs = zip(table.text("labels"), table.text("label"), strict=True)
    return [label if kind == "token class" else f"text: {label}" for kind, label in pairs]


def _draw_probes(axes: Axes, *, table: Table, rows: np.ndarray, title: str) -> Marks:
    frame(axes, across="accuracy above control tasks", up="", title=title)
    lanes = _lanes_of(table, rows)
    _lanes(axes, lanes)
    zero(axes, across=True)
    value, low, high = (table.number(f"selectivity{end}") for end in ("", "_low", "_high"))
    labels, contender = _labels(table), table.text("contender")
    drawn = [row for row in rows if np.isfinite(value[row])]
    y = np.array([lanes.index(labels[row]) for row in drawn], dtype=float)
    for row, lane in zip(drawn, y, strict=True):
        itself, null = contender[row] == ITSELF, contender[row] == RANDOM
        color = LIGHT["accent" if itself else "null" if null else "dot"]
        if itself:
            axes.hlines(lane, low[row], high[row], color=color, linewidth=1.5, zorder=3)
        axes.plot(value[row], lane, SHAPES[contender[row]], ms=6.5 if itself else 4.5, color=color,
                  mec=LIGHT["dot" if null else "paper"], mew=0.6,
                  zorder=5 if itself else 4)  # fmt: skip
    axes.margins(x=0.06)
    return Marks(x=value[drawn], y=y, rows=drawn)


def _probes_answer(table: Table) -> str:
    told = []
    for name in _dictionaries(table):
        mine = {kind: _rows(table, dictionary=name, contender=kind, k=1) for kind in SHAPES}
        shares = {kind: table.number("selectivity")[rows] for kind, rows in mine.items()}
        known = np.isfinite(shares[ITSELF])
        if not known.any():
            continue
        mean = {
            kind: number(float(np.nanmean(s)), digits=2) for kind, s in shares.items() if len(s)
        }
        above = int((table.number("selectivity_low")[mine[ITSELF]] > 0).sum())
        told.append(
            f"{name}: one feature is right {mean[ITSELF]} more often than on control tasks, mean of"
            f" {several(int(known.sum()), 'label')}, by intervals that lie above 0 for {above}; one"
            " raw coordinate"
            f" {mean['raw']}, one feature of random directions {mean[RANDOM]}"
        )
    return "; ".join(told) + "."


# ---- control


def _trials(table: Table) -> list[tuple[str, np.ndarray]]:
    """Attributes that patching turns, of each dictionary and task, and the edits that are drawn."""
    keys = zip(table.text("dictionary"), table.text("task"), table.text("attribute"), strict=True)
    turned = np.isfinite(table.number("turned"))
    found = dict.fromkeys(key for key, known in zip(keys, turned, strict=True) if known)
    contender, method = table.text("contender"), table.text("method")
    return [
        (_titled(table, name, f"{attribute}, {task}"),
         np.array([row for row in _rows(table, dictionary=name, task=task, attribute=attribute)
                   if contender[row] != RANDOM or method[row] == "greedy"]))
        for name, task, attribute in found
    ]  # fmt: skip


def _methods(table: Table, rows: np.ndarray) -> list[tuple[str, str]]:
    """Pairs of contender and method in the order of the table, dictionaries before labels."""
    contender, method = table.text("contender"), table.text("method")
    found = dict.fromkeys((contender[row], method[row]) for row in rows)
    return sorted(found, key=lambda pair: (pair[0] == "labels", pair[0] != ITSELF))


def _draw_control(
    axes: Axes, *, table: Table, rows: np.ndarray, title: str, column: str, across: str
) -> Marks:
    frame(axes, across=across, up="", title=title)
    methods = _methods(table, rows)
    _lanes(axes, [f"{method}, random" if who == RANDOM else method for who, method in methods])
    value, low, high = (table.number(f"{column}{end}") for end in ("", "_low", "_high"))
    most = table.number("most")
    contender, method = table.text("contender"), table.text("method")
    y = []
    for row in rows:
        who = contender[row], method[row]
        null = who[0] == RANDOM or "random" in who[1] or "shuffled" in who[1] or who[1] == "no edit"
        color = LIGHT["dot" if null else "accent"]
        size = np.log2(most[row]) if most[row] else 0
        lane = methods.index(who) + (0.16 * (size - 1.5) if most[row] else 0.0)
        axes.hlines(lane, low[row], high[row], color=color, linewidth=1, zorder=3)
        axes.plot(value[row], lane, "o", ms=3.5 + size, color=color,
                  mfc=LIGHT["paper"] if not most[row] else color, mew=0.8, zorder=4)  # fmt: skip
        y.append(lane)
    axes.margins(x=0.04)
    known = np.isfinite(value[rows])
    return Marks(x=value[rows][known], y=np.array(y)[known], rows=rows[known])


def _control_answer(table: Table) -> str:
    told = []
    value, low, high = (table.number(f"turned{end}") for end in ("", "_low", "_high"))
    for title, rows in _trials(table):

        def at(who: str, method: str, most: int, rows: np.ndarray = rows) -> int:
            (row,) = np.intersect1d(
                rows, _rows(table, contender=who, method=method, most=most)
            ).tolist()  # fmt: skip
            return int(row)

        own, random = at(ITSELF, "greedy", FEW), at(RANDOM, "greedy", FEW)
        blind, made = at(ITSELF, "random features", FEW), at("labels", "supervised, means", 0)
        turned = interval(*(float(ends[own]) for ends in (value, low, high)))
        told.append(
            f"{title}: changing {FEW} features a place turns {turned} of the answers that patching"
            f" turns, as many features at random {number(value[blind], digits=2)}, a random"
            f" dictionary {number(value[random], digits=2)}, a dictionary made from labels"
            f" {number(value[made], digits=2)}"
        )
    return "; ".join(told) + "."


# ---- absorption


def _stands(table: Table, name: str) -> np.ndarray:
    rows = _rows(table, dictionary=name, contender=ITSELF)
    return rows[np.isfinite(table.number("rate")[rows])]


def _draw_absorption(axes: Axes, *, table: Table, rows: np.ndarray, title: str) -> Marks:
    frame(axes, across="absorbed (share of words known)", up="", title=title)
    letters = table.text("letter")
    _lanes(axes, [letters[row] for row in rows])
    value, low, high = (table.number(f"rate{end}") for end in ("", "_low", "_high"))
    mean, sd = table.number("null_mean"), table.number("null_sd")
    for lane, row in enumerate(rows):
        axes.hlines(lane, max(0.0, mean[row] - 2 * sd[row]), mean[row] + 2 * sd[row],
                    color=LIGHT["null"], linewidth=8, zorder=1)  # fmt: skip
        axes.hlines(lane, low[row], high[row], color=LIGHT["accent"], linewidth=1.5, zorder=3)
        axes.plot(value[row], lane, "o", ms=6, color=LIGHT["accent"], zorder=4)
    axes.set_xlim(left=0)
    return Marks(x=value[rows], y=np.arange(len(rows)), rows=rows)


def _absorption_answer(table: Table) -> str:
    told = []
    for name in _dictionaries(table):
        rows, all_ = _stands(table, name), _rows(table, dictionary=name, contender=ITSELF)
        if not len(rows):
            told.append(f"{name}: no feature stands for any of {len(all_)} first letters")
            continue
        known, gone = (int(table.number(c)[rows].sum()) for c in ("known", "absorbed"))
        null = float(np.average(table.number("null_mean")[rows],
                                weights=np.maximum(table.number("known")[rows], 1)))  # fmt: skip
        told.append(
            f"{name}: of {len(all_)} first letters features stand for {len(rows)}; of {known} words"
            f" known {gone} are absorbed, {number(gone / max(known, 1), digits=2)}, with decoder"
            f" rows permuted {number(null, digits=2)}"
        )
    return "; ".join(told) + "."
