"""Is a dictionary better than nothing? Its measures beside baselines of as many numbers."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from energylens.report.axes import Axes, Curve, Label, frame, name_curves, place
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table, finite
from energylens.results.format import interval, number, percent, several

ITSELF, RANDOM, ELSEWHERE = "dictionary", "random", "random_weights"
CALLED = {
    ITSELF: "dictionary", "short": "short training", "ica": "ICA", "pca": "PCA",
    "pca_subspace": "PCA, k dimensions", "shuffled": "shuffled activations",
    RANDOM: "random directions", ELSEWHERE: "random-weight model",
}  # fmt: skip
MARKERS = "osD^vPX*"
MOST_DRAWN = 6
METHOD = ("method-evaluation", "evaluation of dictionaries")
MEASURES = ("fvu", "fvu_all", "l0", "cosine", "norm_ratio", "scale", "loss_recovered_ce",
            "loss_recovered_ce_zero", "loss_recovered_kl", "loss_recovered_kl_zero")  # fmt: skip
PLAIN = ("dead_share", "dense_share", "loss_clean", "loss_mean", "loss_zero", "loss", "kl_mean",
         "kl_zero", "kl")  # fmt: skip


def quality(records: Records) -> Figure | None:
    """Reconstruction of the rows: FVU and cosine beside every baseline."""
    table = records.table("evaluation")
    if table is None:
        return None
    return Figure(
        name="evaluation", question="Is it better than what costs no training?", short="Quality",
        answer=_quality_answer(table),
        notes=[
            "every baseline has as many active features; PCA and ICA take the k largest of all"
            " their components, “k dimensions” the same k for every row",
            "grey band: random directions of the same width and k, 95 %",
            "the random-weight model's dictionary is judged on that model's own rows",
            *_counts(table),
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_lanes, table=table, column=column, across=across),
                  height=_height(table), label=f"{across}, by baseline")
            for column, across in (("fvu", "variance unexplained, FVU (share)"),
                                   ("cosine", "cosine with the row"))
        ],
        columns=_columns(table, MEASURES, PLAIN),
        tells=("dictionary", "contender", "l0", "fvu", "cosine"), wide=True,
    )  # fmt: skip


def losses(records: Records) -> Figure | None:
    """What the model loses when reconstructions are put in place of its states."""
    table = records.table("evaluation")
    if table is None or not len(finite(table.number("loss_recovered_kl"))):
        return None
    measures = MEASURES[6:]
    return Figure(
        name="evaluation_losses", question="Does the model still work with it?",
        short="Loss recovered", answer=_losses_answer(table),
        notes=[
            "0: the site's mean is put in; 1: the site as it is",
            "grey band: random directions of the same width and k, 95 %; not drawn: undefined,"
            " where mean ablation does not cost loss",
            "the first position and massive activations keep their own state",
            f"n = {several(int(table.number('n_loss_documents')[0]), 'held-out document')};"
            " bars: 95 % over them",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_lanes, table=table, column=column, across=across),
                  height=_height(table), label=f"{across}, by baseline")
            for column, across in (("loss_recovered_ce", "loss recovered (share of mean ablation)"),
                                   ("loss_recovered_kl", "KL recovered (share of mean ablation)"))
        ],
        columns=_columns(table, measures, PLAIN[2:]),
        tells=("dictionary", "contender", "loss_recovered_ce", "loss_recovered_kl"), wide=True,
    )  # fmt: skip


def frontier(records: Records) -> Figure | None:
    """FVU against L0, baselines included."""
    table = records.table("evaluation")
    if table is None or not len(finite(table.number("fvu"))):
        return None
    return Figure(
        name="evaluation_frontier", question="What do so many numbers buy?", short="FVU and L0",
        answer=_frontier_answer(table),
        notes=[
            "lower and further left is better; baselines have the L0 of their dictionary, rounded",
            "null (grey): random directions of the same width and k",
            *_counts(table),
        ],
        method=METHOD,
        panels=[Panel(draw=partial(_draw_frontier, table=table), height=360,
                      label="Variance unexplained by active features a row.")],
        columns=_columns(table, ("l0", "fvu"), ()),
        tells=("dictionary", "contender", "l0", "fvu"),
    )  # fmt: skip


def densities(records: Records) -> Figure | None:
    """How often features fire."""
    table, measured = records.table("evaluation_densities"), records.table("evaluation")
    if table is None or measured is None:
        return None
    names = list(dict.fromkeys(table.text("dictionary")))
    return Figure(
        name="evaluation_densities", question="How often do features fire?", short="Density",
        answer=_densities_answer(measured),
        notes=[
            "share of the features by the share of tokens on which they are active, four bins a"
            " tenfold; those that never fire are on the left, apart",
            "null (grey): random directions of the same width and k",
            *(["the first six dictionaries are drawn, the rest is in the table"]
              if len(names) > MOST_DRAWN else []),
            *_counts(measured),
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_densities, table=table.equal("dictionary", name), title=name),
                  height=300, label=f"Features by density: {name}.")
            for name in names[:MOST_DRAWN]
        ],
        columns=[*words(table, "dictionary", "contender"),
                 *numbers(table, "log10_low", "log10_high", "features")],
        tells=("dictionary", "contender", "log10_low", "features"), wide=len(names) > 1,
    )  # fmt: skip


def words(table: Table, *names: str) -> list[Column]:
    return [Column(name=n, label=n.replace("_", " "), cells=table.text(n)) for n in names]


def numbers(table: Table, *names: str) -> list[Column]:
    return [Column(name=n, label=n.replace("_", " "), cells=table.number(n)) for n in names]


def _columns(table: Table, measures: Sequence[str], plain: Sequence[str]) -> list[Column]:
    names = [f"{m}{end}" for m in measures for end in ("", "_low", "_high")]
    return [*words(table, "dictionary", "contender"), *numbers(table, "width", "k", *names, *plain)]


def _counts(table: Table) -> list[str]:
    documents = several(int(table.number("n_documents")[0]), "held-out document")
    rows, massive = (int(table.number(name)[0]) for name in ("rows", "massive_rows"))
    return [
        f"n = {documents}, {rows:,} tokens; bars: 95 % over documents",
        f"{several(massive, 'massive row')} of the first dictionary left out, and in FVU_all of the"
        " table not",
    ]  # fmt: skip


def labels_of(table: Table) -> list[str]:
    return list(dict.fromkeys(table.text("dictionary")))


def _height(table: Table) -> int:
    lanes = max(26, 9 * len(labels_of(table)) + 14)
    return 90 + lanes * len(CALLED)


def _draw_lanes(axes: Axes, *, table: Table, column: str, across: str) -> Marks:
    frame(axes, across=across, up="")
    kinds, labels = list(CALLED), labels_of(table)
    axes.grid(visible=False)
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.set_yticks(range(len(kinds)), [CALLED[kind] for kind in kinds])
    contender, dictionary = table.text("contender"), table.text("dictionary")
    value, low, high = (table.number(f"{column}{end}") for end in ("", "_low", "_high"))
    spread = np.linspace(-0.3, 0.3, len(labels)) if len(labels) > 1 else np.zeros(1)
    y = np.array([kinds.index(c) + spread[labels.index(d)]
                  for c, d in zip(contender, dictionary, strict=True)])  # fmt: skip
    null = np.array([c == RANDOM for c in contender]) & np.isfinite(low)
    if null.any():
        axes.axvspan(low[null].min(), high[null].max(), color=LIGHT["null"], linewidth=0, zorder=0)
    for row in range(table.rows):
        itself = contender[row] == ITSELF
        color = LIGHT["accent" if itself else "dot"]
        axes.hlines(y[row], low[row], high[row], color=color, linewidth=1.5, zorder=3)
        axes.plot(value[row], y[row], MARKERS[labels.index(dictionary[row]) % len(MARKERS)],
                  ms=6 if itself else 4.5, color=color, mec=LIGHT["paper"], mew=0.6,
                  zorder=4)  # fmt: skip
    axes.margins(x=0.06)
    rows = np.flatnonzero(np.isfinite(value))
    return Marks(x=value[rows], y=y[rows], rows=rows)


def _draw_frontier(axes: Axes, *, table: Table) -> Marks:
    frame(axes, across="L0 (active features a row)", up="variance unexplained, FVU (share)",
          pad=0.12)  # fmt: skip
    x, y = table.number("l0"), table.number("fvu")
    low, high = table.number("fvu_low"), table.number("fvu_high")
    contender, dictionary, labels = (
        table.text("contender"),
        table.text("dictionary"),
        labels_of(table),
    )
    texts: dict[str, tuple[bool, Label]] = {}  # what several dictionaries share is named once
    for row in range(table.rows):
        itself, null = contender[row] == ITSELF, contender[row] == RANDOM
        color = LIGHT["accent"] if itself else LIGHT["dot"]
        axes.vlines(x[row], low[row], high[row], color=color, linewidth=1.2, zorder=3)
        axes.plot(x[row], y[row], MARKERS[labels.index(dictionary[row]) % len(MARKERS)],
                  ms=7 if itself else 5, color=LIGHT["null"] if null else color,
                  mec=LIGHT["dot"] if null else LIGHT["paper"], mew=0.7, zorder=4)  # fmt: skip
        if np.isfinite(x[row]) and np.isfinite(y[row]):
            text = dictionary[row] if itself else CALLED[contender[row]]
            label = Label(text=text, x=float(x[row]), y=float(y[row]),
                          color=LIGHT["accent" if itself else "muted"])  # fmt: skip
            texts.setdefault(text, (not itself, label))
    axes.set_ylim(0, 1.1 * float(np.nanmax(np.append(high, y))))
    middle = float(np.nanmedian(x))
    widest = max(float(np.nanmax(x) - np.nanmin(x)), middle / 2)
    axes.set_xlim(max(0.0, float(np.nanmin(x)) - 0.7 * widest), float(np.nanmax(x)) + 0.9 * widest)
    known = np.isfinite(x) & np.isfinite(y)
    place(axes, [label for _, label in sorted(texts.values(), key=lambda pair: pair[0])],
          around=np.column_stack([x, y])[known])  # fmt: skip
    rows = np.flatnonzero(known)
    return Marks(x=x[rows], y=y[rows], rows=rows)


def _draw_densities(axes: Axes, *, table: Table, title: str) -> None:
    frame(axes, across="log₁₀ share of tokens on which it is active", up="features (share)",
          title=title, signed="")  # fmt: skip
    curves = []
    for kind, color in ((RANDOM, "null"), ("short", "dot"), (ITSELF, "accent")):
        mine = table.equal("contender", kind)
        low, high = mine.number("log10_low"), mine.number("log10_high")
        share = mine.number("features") / max(1.0, float(mine.number("features").sum()))
        bins = np.isfinite(low)
        edges = np.append(low[bins], high[bins][-1:])
        if kind == RANDOM:
            axes.stairs(share[bins], edges, fill=True, color=LIGHT[color], zorder=1)
        else:
            axes.stairs(share[bins], edges, color=LIGHT[color], linewidth=1.6, zorder=3)
        never = float(share[~bins].sum())
        axes.plot([edges[0] - 0.5], [never], "o", ms=5 if kind == ITSELF else 4,
                  color=LIGHT["dot" if kind == RANDOM else color],
                  mfc=LIGHT["null"] if kind == RANDOM else LIGHT[color], zorder=4)  # fmt: skip
        curves.append(Curve(text=CALLED[kind], x=(edges[:-1] + edges[1:]) / 2, y=share[bins],
                            color=LIGHT["muted" if kind == RANDOM else color]))  # fmt: skip
    busy = [c for c in curves if c.y.max(initial=0.0) > 0]
    first = min((float(c.x[c.y > 0].min()) for c in busy), default=-3.0)
    axes.set_xlim(min(first, -3.0) - 1.2, 0.05)
    for line in axes.lines:  # those that never fire stand at the left, whatever the range
        line.set_xdata([axes.get_xlim()[0] + 0.25])
    axes.annotate("never", (axes.get_xlim()[0] + 0.25, 0), xytext=(0, 4), ha="center",
                  textcoords="offset points", fontsize=10.5, color=LIGHT["muted"])  # fmt: skip
    axes.set_ylim(bottom=0)
    name_curves(axes, [Curve(text=c.text, x=c.x[c.y > 0], y=c.y[c.y > 0], color=c.color)
                       for c in busy])  # fmt: skip


def _row(table: Table, label: str, contender: str) -> int:
    pairs = zip(table.text("dictionary"), table.text("contender"), strict=True)
    return next(i for i, pair in enumerate(pairs) if pair == (label, contender))


def _quality_answer(table: Table) -> str:
    told = []
    for label in labels_of(table):
        fvu = {kind: _value(table, label, "fvu", kind) for kind in CALLED}
        free = {k: fvu[k] for k in ("pca", "pca_subspace", "ica") if np.isfinite(fvu[k])}
        best = min(free, key=lambda kind: free[kind]) if free else "pca"
        told.append(
            f"{label} leaves {_told(table, label, 'fvu')} of the variance unexplained, the best"
            f" untrained baseline ({CALLED[best]}) {number(fvu[best], digits=2)}, random directions"
            f" {number(fvu[RANDOM], digits=2)}"
        )  # fmt: skip
    return "; ".join(told) + "."


def _losses_answer(table: Table) -> str:
    told = [
        f"{label} recovers {_told(table, label, 'loss_recovered_ce')} of the loss and"
        f" {_told(table, label, 'loss_recovered_kl')} of the KL that mean ablation costs, random"
        f" directions"
        f" {number(_value(table, label, 'loss_recovered_kl', RANDOM), digits=2)}"
        " of the KL" for label in labels_of(table)
    ]  # fmt: skip
    return "; ".join(told) + "."


def _frontier_answer(table: Table) -> str:
    told = [
        f"{label}: {number(_value(table, label, 'l0'), digits=3)} numbers a row of"
        f" {number(_value(table, label, 'd_out'))} leave {percent(_value(table, label, 'fvu'))} of"
        " the variance"
        for label in labels_of(table)
    ]
    return "; ".join(told) + "."


def _densities_answer(table: Table) -> str:
    told = []
    for label in labels_of(table):
        dead, dense = (_value(table, label, name) for name in ("dead_share", "dense_share"))
        told.append(f"{label}: {percent(dead)} never fire, {percent(dense)} on more than a tenth of"
                    " the tokens")  # fmt: skip
    return "; ".join(told) + "."


def _value(table: Table, label: str, column: str, contender: str = ITSELF) -> float:
    return float(table.number(column)[_row(table, label, contender)])


def _told(table: Table, label: str, measure: str) -> str:
    return interval(*(_value(table, label, f"{measure}{end}") for end in ("", "_low", "_high")))
