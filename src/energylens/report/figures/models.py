"""What do models share? Their shares beyond chance, |EFAS| by depth and size, features matched."""

from functools import partial

import numpy as np

from energylens.report.axes import Axes, Curve, frame, name_curves
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table, finite
from energylens.results.format import number, percent, several

TRAINED, RANDOM = "trained", "random weights"
MARKERS = "os^DvPX*"


def shares(records: Records) -> Figure | None:
    """Features beyond chance of each model, beside the same with random weights."""
    table = records.table("models")
    if table is None:
        return None
    height = 120 + 46 * len(_models(table))
    return Figure(
        name="models_shares", question="Does training put them there?", short="Training",
        answer=_shares_answer(table),
        notes=[
            "null (grey): the same model with random weights, same text, same sites",
            "bars: 95 %, of counts (Poisson) over scored features",
            f"n = {several(int(table.number('n_documents')[0]), 'held-out document')}",
        ],
        method=("method-models", "models and controls"),
        panels=[Panel(draw=partial(_draw_shares, table=table), height=height,
                      label="Share of features beyond chance, by model.")],
        columns=[
            *_words(table, "model", "weights"),
            *_numbers(table, "parameters", "n_layers", "d_model", "loss", "scored", "beyond",
                      "beyond_low", "beyond_high"),
        ],
        tells=("model", "weights", "beyond", "scored"),
    )  # fmt: skip


def sizes(records: Records) -> Figure | None:
    """Median |EFAS| over depth and over size."""
    table = records.table("models_depth")
    if table is None or not len(finite(table.number("efas_50"))):
        return None
    trained = table.equal("weights", TRAINED)
    return Figure(
        name="models_sizes", question="Does |EFAS| change with depth and with size?",
        short="Depth, size", answer=_sizes_answer(trained),
        notes=[
            "median over features; bars: 95 % over documents (jackknife)",
            "null (grey): signs flipped by document, mean ± 1.96 sd",
            f"n = {several(int(trained.number('n_documents')[0]), 'document')}",
        ],
        method=("method-models", "models and controls"),
        panels=[
            Panel(draw=partial(_draw_depth, table=trained, column="relative_depth"),
                  label="Median |EFAS| by relative depth, a line a model."),
            Panel(draw=partial(_draw_depth, table=trained, column="parameters"),
                  label="Median |EFAS| by number of parameters, a point a site."),
        ],
        columns=[
            *_words(table, "model", "weights", "site"),
            *_numbers(table, "relative_depth", "parameters", "features", "efas_50", "efas_50_low",
                      "efas_50_high", "efas_50_null_mean", "efas_50_null_sd", "efas_90",
                      "efas_90_low", "efas_90_high", "efas_90_null_mean"),
        ],
        tells=("model", "site", "efas_50", "efas_50_null_mean"), wide=True,
    )  # fmt: skip


def matching(records: Records) -> Figure | None:
    """Do two models have the same features?"""
    table = records.table("models_matching")
    if table is None:
        return None
    height = 120 + 40 * len(_pairs(table))
    panels = (
        ("correlation", "correlation with the partner"),
        ("efas_rank_correlation", "rank correlation of partners' EFAS"),
    )
    return Figure(
        name="models_matching", question="Do models have the same features?", short="Matching",
        answer=_matching_answer(table),
        notes=[
            "partners are chosen on half of the documents and judged on the other half",
            "null (grey band): documents dealt out anew, mean ± 1.96 sd; grey tick: segments turned"
            " within documents",
            "one mark a pair of sites; hollow: both models with random weights",
            f"n = {several(int(table.number('n_documents')[0]), 'document')}; bars: 95 % over them",
        ],
        method=("method-matching", "matching features"),
        panels=[Panel(draw=partial(_draw_pairs, table=table, column=column, across=across),
                      height=height, label=f"{across}, by pair of models")
                for column, across in panels],
        columns=[
            *_words(table, "model", "other", "weights", "site", "other_site"),
            *_numbers(table, "features", "others", "mutual", "correlation", "low", "high",
                      "correlation_dealt_mean", "correlation_dealt_p", "correlation_turned_mean",
                      "correlation_turned_p", "efas_rank_correlation",
                      "efas_rank_correlation_dealt_mean", "efas_rank_correlation_dealt_p",
                      "same_sign", "same_sign_dealt_mean", "same_sign_dealt_p"),
        ],
        tells=("model", "other", "weights", "site", "correlation"), wide=True,
    )  # fmt: skip


def _words(table: Table, *names: str) -> list[Column]:
    return [Column(name=n, label=n.replace("_", " "), cells=table.text(n)) for n in names]


def _numbers(table: Table, *names: str) -> list[Column]:
    return [Column(name=n, label=n.replace("_", " "), cells=table.number(n)) for n in names]


def _models(table: Table) -> list[str]:
    return list(dict.fromkeys(table.text("model")))


def _share(table: Table, row: int, column: str = "beyond") -> float:
    scored = table.number("scored")[row]
    return float(table.number(column)[row] / scored) if scored else float("nan")


def _lines(axes: Axes, names: list[str]) -> None:
    axes.grid(visible=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)


def _draw_shares(axes: Axes, *, table: Table) -> Marks:
    names = _models(table)
    frame(axes, across="features beyond chance (%) · grey: random weights", up="")
    _lines(axes, names)
    x, y = [], []
    for row in range(table.rows):
        line = names.index(table.text("model")[row])
        share, low, high = (100 * _share(table, row, column)
                            for column in ("beyond", "beyond_low", "beyond_high"))  # fmt: skip
        if table.text("weights")[row] == TRAINED:
            axes.hlines(line, low, high, color=LIGHT["accent"], linewidth=1.6, zorder=3)
            axes.plot(share, line, "o", ms=6, color=LIGHT["accent"], mec=LIGHT["paper"], zorder=4)
        else:
            axes.barh(line, high - low, left=low, height=0.7, color=LIGHT["null"], linewidth=0,
                      zorder=1)  # fmt: skip
            axes.plot(share, line, "|", ms=16, color=LIGHT["dot"], zorder=2)
        x.append(share)
        y.append(float(line))
    widest = float(np.nanmax([axes.get_xlim()[1], 1e-9]))
    axes.set_xlim(-0.02 * widest, widest)  # a point at 0 is seen whole
    return Marks(x=x, y=y, rows=list(range(table.rows)))


def _shares_answer(table: Table) -> str:
    told = []
    for name in _models(table):
        rows = [i for i, model in enumerate(table.text("model")) if model == name]
        real = next(i for i in rows if table.text("weights")[i] == TRAINED)
        null = next((i for i in rows if table.text("weights")[i] == RANDOM), None)
        text = f"{name} {percent(_share(table, real))}"
        told.append(text + (f" ({percent(_share(table, null))})" if null is not None else ""))
    return f"Scored features beyond chance (in brackets with random weights): {', '.join(told)}."


def _draw_depth(axes: Axes, *, table: Table, column: str) -> Marks:
    by_size = column == "parameters"
    across = "parameters (log scale)" if by_size else "relative depth (share of blocks)"
    frame(axes, across=across, up="median |EFAS| (correlation) · grey: signs flipped")
    x = np.log10(table.number(column)) if by_size else table.number(column)
    y, low, high = (table.number(f"efas_50{end}") for end in ("", "_low", "_high"))
    null, sd = table.number("efas_50_null_mean"), table.number("efas_50_null_sd")
    axes.vlines(x, null - 1.96 * sd, null + 1.96 * sd, color=LIGHT["null"], linewidth=9, zorder=1)
    axes.vlines(x, low, high, color=LIGHT["accent"], linewidth=1.3, zorder=3)
    curves = []
    for number_, name in enumerate(_models(table)):
        mine = np.flatnonzero([model == name for model in table.text("model")])
        style = "none" if by_size else "-"
        axes.plot(x[mine], y[mine], marker=MARKERS[number_ % len(MARKERS)], ms=6, linestyle=style,
                  color=LIGHT["accent"], mec=LIGHT["paper"], mew=0.6, zorder=4)  # fmt: skip
        curves.append(Curve(text=name, x=x[mine], y=y[mine], color=LIGHT["accent"]))
    if by_size:
        sizes = sorted(set(table.number(column)))
        axes.set_xticks(np.log10(sizes), [_short(size) for size in sizes])
        axes.margins(x=0.2)
    axes.set_ylim(bottom=0)
    name_curves(axes, curves)
    return Marks(x=x, y=y, rows=_rows_of(table))


def _short(size: float) -> str:
    """A count of parameters as people say it.

    Example:
        >>> _short(134_515_008.0), _short(28_000.0)
        ('135 M', '28 k')
    """
    unit, scale = next(((u, s) for u, s in (("B", 1e9), ("M", 1e6)) if size >= s), ("k", 1e3))
    return f"{number(size / scale, digits=3)} {unit}"


def _rows_of(table: Table) -> list[int]:
    return list(range(table.rows))


def _sizes_answer(table: Table) -> str:
    excess = table.number("efas_50") - table.number("efas_50_null_mean")
    told = []
    for name in _models(table):
        mine = np.array([model == name for model in table.text("model")])
        low, high = (f(finite(excess[mine])) for f in (np.min, np.max))
        told.append(f"{name} {number(float(low), digits=2)} to {number(float(high), digits=2)}")
    return f"Above what flipped signs give, the median |EFAS| of the sites is: {', '.join(told)}."


def _pairs(table: Table) -> list[str]:
    return list(dict.fromkeys(_pair(table, i) for i in range(table.rows)))


def _pair(table: Table, row: int) -> str:
    return f"{table.text('model')[row]} – {table.text('other')[row]}"


def _draw_pairs(axes: Axes, *, table: Table, column: str, across: str) -> Marks:
    names = _pairs(table)
    frame(axes, across=f"{across} · grey: documents dealt out", up="", signed="x")
    _lines(axes, names)
    value = table.number(column)
    mean, sd = table.number(f"{column}_dealt_mean"), table.number(f"{column}_dealt_sd")
    turned = table.number(f"{column}_turned_mean")
    y = np.zeros(table.rows)
    for weights, shift in ((TRAINED, -0.18), (RANDOM, 0.18)):
        for line, name in enumerate(names):
            mine = [i for i in range(table.rows)
                    if _pair(table, i) == name and table.text("weights")[i] == weights]  # fmt: skip
            y[mine] = line + shift + np.linspace(-0.11, 0.11, len(mine)) if mine else 0
    axes.barh(y, 2 * 1.96 * sd, left=mean - 1.96 * sd, height=0.1, color=LIGHT["null"],
              linewidth=0, zorder=1)  # fmt: skip
    axes.plot(turned, y, "|", ms=6, color=LIGHT["dot"], zorder=2)
    trained = np.array([w == TRAINED for w in table.text("weights")])
    if column == "correlation":
        axes.hlines(y, table.number("low"), table.number("high"), linewidth=1.1, zorder=3,
                    color=np.where(trained, LIGHT["accent"], LIGHT["dot"]))  # fmt: skip
    axes.scatter(value, y, s=26, zorder=4, linewidth=1.1,
                 facecolor=np.where(trained, LIGHT["accent"], LIGHT["paper"]),
                 edgecolor=np.where(trained, LIGHT["accent"], LIGHT["dot"]))  # fmt: skip
    axes.axvline(0, color=LIGHT["dot"], linewidth=0.8, zorder=1)
    return Marks(x=value, y=y, rows=_rows_of(table))


def _matching_answer(table: Table) -> str:
    trained, random = (table.equal("weights", kind) for kind in (TRAINED, RANDOM))

    def mean(some: Table, column: str) -> str:
        known = finite(some.number(column))
        return number(float(known.mean()), digits=2) if len(known) else "undefined"

    text = (
        f"On text that did not choose them, partners correlate {mean(trained, 'correlation')} on"
        f" average; with documents dealt out anew {mean(trained, 'correlation_dealt_mean')}, with"
        f" segments turned within documents {mean(trained, 'correlation_turned_mean')}"
    )
    if random.rows:
        text += f", and between random-weight models {mean(random, 'correlation')}"
    sure = int((trained.number("efas_rank_correlation_dealt_p") < 0.05).sum())
    return (
        f"{text}. Their EFAS agree in rank beyond chance at {number(sure)} of"
        f" {several(trained.rows, 'pair')} of sites."
    )
