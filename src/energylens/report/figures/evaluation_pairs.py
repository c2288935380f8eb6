"""Decoder rows among themselves, and dictionaries beside one another."""

from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame
from energylens.report.figure import Figure, Marks, Panel
from energylens.report.figures.evaluation import METHOD, numbers, words
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table, finite
from energylens.results.format import fixed, number, percent, several

LANES = (
    ("stable_rank", "stable_rank_isotropic", "stable rank (÷ isotropic)"),
    ("participation_ratio", "participation_ratio_isotropic", "participation ratio (÷ isotropic)"),
)
NEIGHBOURS = (("nearest", "nearest decoder row"), ("encoder_decoder", "own encoder row"))
NULL = {"nearest": "nearest_random", "encoder_decoder": "encoder_dealt"}


def weights(records: Records) -> Figure | None:
    """How decoder rows lie: spectrum, nearest neighbours, encoder beside decoder."""
    table = records.table("evaluation_weights")
    if table is None:
        return None
    names = table.text("dictionary")
    height = 110 + 54 * len(names)
    return Figure(
        name="evaluation_weights", question="How do its directions lie?", short="Directions",
        answer=_weights_answer(table),
        notes=[
            "left: 1 is what as many isotropic rows have (Marchenko–Pastur); circle: stable rank,"
            " square: participation ratio",
            "right: median and 5 to 95 % of features; circle: cosine with the nearest other decoder"
            " row, square: with the feature's own encoder row",
            "null (grey): as many random rows; decoder rows dealt out among features",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_spectrum, table=table), height=height,
                  label="Dimensions that decoder rows span, over those of isotropic rows."),
            Panel(draw=partial(_draw_cosines, table=table), height=height,
                  label="Cosines with the nearest decoder row and with the own encoder row."),
        ],
        columns=[*words(table, "dictionary"),
                 *numbers(table, *(c for c in table.columns if c != "dictionary"))],
        tells=("dictionary", "stable_rank", "participation_ratio", "nearest_50"), wide=True,
    )  # fmt: skip


def matches(records: Records) -> Figure | None:
    """Which dictionaries have the same directions, and which do the same on the same text?"""
    table, seen = records.table("evaluation_matches"), records.table("evaluation_universality")
    if table is None and seen is None:
        return None
    some = table or seen
    assert some is not None
    panels = []
    if table is not None:
        draw = partial(_draw_matrix, table=table, column="mean_max_cosine", null="alike_mean",
                       both=True)  # fmt: skip
        label = "Mean max cosine of decoder rows, by pair."
        panels.append(Panel(draw=draw, height=_side(table), label=label))
    if seen is not None:
        draw = partial(_draw_matrix, table=seen, column="correlation",
                       null="correlation_dealt_mean", both=False)  # fmt: skip
        label = "Correlation of partners, by pair."
        panels.append(Panel(draw=draw, height=_side(seen), label=label))
    names = [c for c in some.columns if isinstance(some.columns[c], np.ndarray)]
    return Figure(
        name="evaluation_matches", question="Do dictionaries find the same?", short="Matches",
        answer=_matches_answer(table, seen),
        notes=_matches_notes(table, seen), method=METHOD, panels=panels,
        columns=[*words(some, "dictionary", "other"), *numbers(some, *names)],
        tells=("dictionary", "other", *names[:4]), wide=True,
    )  # fmt: skip


def _lanes(axes: Axes, names: list[str]) -> np.ndarray:
    axes.grid(visible=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    return np.arange(len(names), dtype=float)


def _draw_spectrum(axes: Axes, *, table: Table) -> Marks:
    frame(axes, across="dimensions over those of isotropic rows", up="")
    lane = _lanes(axes, table.text("dictionary"))
    axes.axvline(1, color=LIGHT["null"], linewidth=5, zorder=0)
    x, y = [], []
    for (name, null, _), marker, shift in zip(LANES, "os", (-0.15, 0.15), strict=True):
        ratio = table.number(name) / table.number(null)
        axes.plot(ratio, lane + shift, marker, ms=6, color=LIGHT["accent"], mec=LIGHT["paper"],
                  linestyle="none", zorder=3)  # fmt: skip
        x.append(ratio)
        y.append(lane + shift)
    axes.set_xlim(0, 1.1 * max(1.0, float(np.nanmax(np.concatenate(x)))))
    return Marks(x=np.concatenate(x), y=np.concatenate(y), rows=[*range(table.rows)] * 2)


def _draw_cosines(axes: Axes, *, table: Table) -> Marks:
    frame(axes, across="cosine", up="")
    lane = _lanes(axes, table.text("dictionary"))
    x, y = [], []
    for (name, _), marker, shift in zip(NEIGHBOURS, "os", (-0.15, 0.15), strict=True):
        for kind, color, width in ((NULL[name], "null", 7), (name, "accent", 1.5)):
            low, middle, high = (table.number(f"{kind}_{q}") for q in ("05", "50", "95"))
            axes.hlines(lane + shift, low, high, color=LIGHT[color], linewidth=width,
                        zorder=1 if color == "null" else 3)  # fmt: skip
        axes.plot(middle, lane + shift, marker, ms=6, color=LIGHT["accent"], mec=LIGHT["paper"],
                  linestyle="none", zorder=4)  # fmt: skip
        x.append(middle)
        y.append(lane + shift)
    axes.axvline(0, color=LIGHT["dot"], linewidth=0.8, zorder=0)
    return Marks(x=np.concatenate(x), y=np.concatenate(y), rows=[*range(table.rows)] * 2)


def _names(table: Table) -> list[str]:
    return list(dict.fromkeys([*table.text("dictionary"), *table.text("other")]))


def _side(table: Table) -> int:
    return 150 + 46 * len(_names(table))


def _draw_matrix(axes: Axes, *, table: Table, column: str, null: str, both: bool) -> Marks:
    """A cell a pair, its colour and number the value, under it the null in small type."""
    names = _names(table)
    value, chance = table.number(column), table.number(null)
    across = "mean max cosine of decoder rows" if both else "correlation with the partner"
    frame(axes, across="is found in", up=f"{across} (small: null)")
    axes.grid(visible=False)
    x, y = [], []
    for row in range(table.rows):
        i, j = (names.index(table.text(c)[row]) for c in ("dictionary", "other"))
        for a, b in ((i, j), *([] if both else [(j, i)])):
            shade = float(np.nan_to_num(np.clip(value[row], 0, 1)))
            axes.barh(a, 0.96, left=b - 0.48, height=0.94, color=LIGHT["accent"],
                      alpha=0.45 * shade, linewidth=0, zorder=0)  # fmt: skip
            axes.text(b, a - 0.06, fixed(float(value[row]), 2), ha="center", va="center",
                      color=LIGHT["ink"], fontsize=12)  # fmt: skip
            axes.text(b, a + 0.24, fixed(float(chance[row]), 2), ha="center", va="center",
                      color=LIGHT["muted"], fontsize=10.5)  # fmt: skip
        x.append(float(j))
        y.append(float(i))
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axes.set_yticks(range(len(names)), names)
    return Marks(x=x, y=y, rows=list(range(table.rows)))


def _mean(table: Table, column: str) -> str:
    known = finite(table.number(column))
    return number(float(known.mean()), digits=2) if len(known) else "undefined"


def _weights_answer(table: Table) -> str:
    told = []
    for row, label in enumerate(table.text("dictionary")):
        rank, flat, d, near, chance = (
            number(float(table.number(name)[row]), digits=2)
            for name in ("stable_rank", "stable_rank_isotropic", "d_out", "nearest_50",
                         "nearest_random_50")
        )  # fmt: skip
        told.append(
            f"{label}: stable rank {rank} of {d} dimensions, isotropic rows {flat}; median cosine"
            f" with the nearest row {near}, of random rows {chance}"
        )
    return "; ".join(told) + "."


def _matches_answer(table: Table | None, seen: Table | None) -> str:
    told = []
    if table is not None:
        share = float(finite(table.number("found_again")).mean())
        told.append(
            f"Of one site, a decoder row's nearest in another dictionary has a cosine of"
            f" {_mean(table, 'mean_max_cosine')} on average, where random rows with the same"
            f" covariance have {_mean(table, 'alike_mean')} and random directions"
            f" {_mean(table, 'random_mean')}; {percent(share)} are found again (cosine above .7)."
        )
    if seen is not None:
        told.append(
            f"On the same text partners correlate {_mean(seen, 'correlation')} on average, on"
            f" documents that did not choose them; with documents dealt out anew"
            f" {fixed(float(finite(seen.number('correlation_dealt_mean')).mean()), 2)}."
        )
    return " ".join(told)


def _matches_notes(table: Table | None, seen: Table | None) -> list[str]:
    notes = []
    if table is not None:
        notes.append("cosines: null in small type: random rows with the mean, covariance and norms"
                     " of the dictionary's own")  # fmt: skip
    if seen is not None:
        documents = several(int(seen.number("n_documents")[0]), "document")
        notes.append(f"correlations: partners are chosen on half of {documents} and judged on the"
                     " other half; null in small type: documents dealt out anew")  # fmt: skip
    return notes
