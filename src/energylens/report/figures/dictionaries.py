"""How much of the state do the dictionaries keep? FVU and loss recovered by layer."""

from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame, layers_across
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table, finite
from energylens.report.text import several
from energylens.results.format import interval, number

COLUMNS: tuple[tuple[str, str], ...] = (
    ("layer", "layer"), ("d_in", "d_in"), ("width", "width"), ("k", "k"), ("tokens", "tokens"),
    ("steps", "steps"), ("fvu", "FVU"), ("fvu_low", "95 % from"), ("fvu_high", "to"),
    ("fvu_null", "FVU, random dictionary"), ("l0", "L0"), ("dead_share", "dead share"),
    ("loss_recovered", "loss recovered"), ("loss_clean", "loss, clean"),
    ("loss_ablated", "loss, ablated"), ("loss_reconstructed", "loss, reconstructed"),
)  # fmt: skip
TRAINED = "trained"


def figure(records: Records) -> Figure | None:
    table = records.table("dictionaries")
    if table is None:
        return None
    trained = table.equal("model", TRAINED)
    recovered = np.isfinite(table.number("loss_recovered")).any()
    draws = [_draw_fvu, *([_draw_recovered] if recovered else [])]
    labels = ("Variance unexplained by layer.", "Loss recovered by layer.")
    return Figure(
        name="dictionaries",
        question="How much of the state do the dictionaries keep?",
        short="Dictionaries",
        answer=_answer(trained if trained.rows else table),
        notes=_notes(table),
        method=("method-dictionaries", "dictionaries"),
        panels=[
            Panel(draw=partial(draw, table=table), label=label, height=280)
            for draw, label in zip(draws, labels, strict=False)
        ],
        columns=_columns(table),
        tells=("model", "layer", "fvu", "fvu_null", "loss_recovered"),
        wide=True,
    )


def _columns(table: Table) -> list[Column]:
    return [
        Column(name="model", label="model", cells=table.text("model")),
        Column(name="site", label="site", cells=table.text("site")),
        *(Column(name=name, label=label, cells=table.number(name)) for name, label in COLUMNS),
    ]


def _draw_fvu(axes: Axes, *, table: Table) -> Marks:
    frame(axes, across="layer", up="variance unexplained, FVU (share)")
    layer, fvu = table.number("layer"), table.number("fvu")
    layers_across(axes, layer)
    model = np.array(table.text("model"))
    trained = np.flatnonzero(model == TRAINED)
    null = table.number("fvu_null")[trained]
    axes.plot(layer[trained], null, "_", ms=22, mew=5, color=LIGHT["null"], zorder=1)
    _curves(axes, table, fvu, intervals=True)
    if len(trained):
        _tell(axes, layer[trained], null, "random dictionary", LIGHT["muted"])
    axes.set_ylim(0, 1.08 * max(1.0, float(finite(null).max(initial=0.0))))
    return Marks(x=layer, y=fvu, rows=np.arange(table.rows))


def _draw_recovered(axes: Axes, *, table: Table) -> Marks:
    frame(axes, across="layer", up="loss recovered (share; 0 = mean-ablated, 1 = untouched)")
    layer, value = table.number("layer"), table.number("loss_recovered")
    rows = np.flatnonzero(np.isfinite(value))
    layers_across(axes, layer)
    _curves(axes, table, value, intervals=False)
    axes.axhline(1, color=LIGHT["dot"], linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.set_ylim(min(0.0, float(value[rows].min()) * 1.1), 1.08)
    return Marks(x=layer[rows], y=value[rows], rows=rows)


def _curves(axes: Axes, table: Table, y: np.ndarray, *, intervals: bool) -> None:
    model = np.array(table.text("model"))
    for name in dict.fromkeys(table.text("model")):
        rows = np.flatnonzero((model == name) & np.isfinite(y))
        if not len(rows):
            continue
        x = table.number("layer")[rows]
        color = LIGHT["accent" if name == TRAINED else "muted"]
        if intervals:
            low, high = table.number("fvu_low")[rows], table.number("fvu_high")[rows]
            axes.vlines(x, low, high, color=color, linewidth=1.3, zorder=3)
        axes.plot(x, y[rows], marker="o" if name == TRAINED else "s", ms=5.5, color=color,
                  mec=LIGHT["paper"], mew=0.6, zorder=4)  # fmt: skip
        _tell(axes, x, y[rows], f"{name} model", color)


def _tell(axes: Axes, x: np.ndarray, y: np.ndarray, text: str, color: str) -> None:
    axes.annotate(text, (x[0], y[0]), xytext=(-8, -10), textcoords="offset points", va="top",
                  fontsize=11, color=color, zorder=5)  # fmt: skip


def _answer(table: Table) -> str:
    fvu = table.number("fvu")
    if not len(finite(fvu)):
        return "How much they leave unexplained is undefined at every layer."
    best, worst = int(np.nanargmin(fvu)), int(np.nanargmax(fvu))
    layer = table.number("layer")
    text = (
        f"They leave {_fvu(table, best)} of the variance unexplained at layer {int(layer[best])} "
        f"and {_fvu(table, worst)} at layer {int(layer[worst])}; a random dictionary of the same "
        f"k leaves {number(_median(table, 'fvu_null'), digits=2)}."
    )
    recovered = finite(table.number("loss_recovered"))
    if len(recovered):
        least, most = float(recovered.min()), float(recovered.max())
        text += (
            f" Put in place of the state they recover {number(100 * least, digits=2)} to "
            f"{number(100 * most, digits=2)} % of the loss."
        )
    return text


def _median(table: Table, name: str) -> float:
    known = finite(table.number(name))
    return float(np.median(known)) if len(known) else float("nan")


def _fvu(table: Table, row: int) -> str:
    fvu, low, high = (float(table.number(name)[row]) for name in ("fvu", "fvu_low", "fvu_high"))
    return interval(fvu, low, high)


def _notes(table: Table) -> list[str]:
    trained = table.equal("model", TRAINED)
    some = trained if trained.rows else table
    width, k, tokens = (
        number(float(some.number(n)[0]), digits=9) for n in ("width", "k", "tokens")
    )
    dead = float(finite(some.number("dead_share")).max(initial=0.0))
    return [
        f"n = {several(some.rows, 'dictionary', 'dictionaries')}: TopK, {width} features, k = {k}, "
        f"trained on {tokens} tokens",
        "measured on held-out documents; bars: 95 % over documents",
        f"dead features: at most {number(100 * dead, digits=2)} %",
        "null (grey): a random dictionary of the same width and k",
    ]
