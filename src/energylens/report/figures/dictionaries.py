"""How much of the state do the dictionaries keep? FVU and loss recovered by layer."""

from functools import partial

import numpy as np

from energylens.report.axes import Axes, Curve, frame, name_curves, sites_across
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.places import site_label
from energylens.report.records import Records, Table, finite
from energylens.results.format import interval, number, several

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
        notes=_notes(table, records.unit, records.place),
        method=("method-dictionaries", "dictionaries"),
        panels=[
            Panel(draw=partial(draw, table=table), label=label, height=280)
            for draw, label in zip(draws, labels, strict=False)
        ],
        columns=_columns(table),
        tells=("model", "site", "fvu", "fvu_null", "loss_recovered"),
        wide=True,
    )


def _columns(table: Table) -> list[Column]:
    return [
        Column(name="model", label="model", cells=table.text("model")),
        Column(name="site", label="site", cells=table.text("site")),
        *(
            Column(name=name, label=label, cells=table.number(name))
            for name, label in COLUMNS
            if name in table.columns
        ),
    ]


def _draw_fvu(axes: Axes, *, table: Table) -> Marks:
    frame(axes, across="layer", up="variance unexplained, FVU (share)")
    fvu, x = table.number("fvu"), sites_across(axes, table.text("site"))
    model = np.array(table.text("model"))
    trained = np.flatnonzero(model == TRAINED)
    null = table.number("fvu_null")[trained]
    axes.plot(x[trained], null, "_", ms=22, mew=5, color=LIGHT["null"], zorder=1)
    axes.set_ylim(0, 1.08 * max(1.0, float(finite(null).max(initial=0.0))))
    curves = _curves(axes, table, x, fvu, intervals=True)
    known = np.isfinite(null)
    chance = Curve(text="random dictionary", x=x[trained][known], y=null[known],
                   color=LIGHT["muted"])  # fmt: skip
    name_curves(axes, [*curves, chance])
    return Marks(x=x, y=fvu, rows=np.arange(table.rows))


def _draw_recovered(axes: Axes, *, table: Table) -> Marks:
    frame(axes, across="layer", up="loss recovered (share; 0 = mean-ablated, 1 = untouched)")
    value, x = table.number("loss_recovered"), sites_across(axes, table.text("site"))
    rows = np.flatnonzero(np.isfinite(value))
    curves = _curves(axes, table, x, value, intervals=False)
    axes.axhline(1, color=LIGHT["dot"], linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.set_ylim(min(0.0, float(value[rows].min()) * 1.1), 1.08)
    name_curves(axes, curves)
    return Marks(x=x[rows], y=value[rows], rows=rows)


def _curves(
    axes: Axes, table: Table, across: np.ndarray, y: np.ndarray, *, intervals: bool
) -> list[Curve]:
    model = np.array(table.text("model"))
    curves = []
    for name in dict.fromkeys(table.text("model")):
        rows = np.flatnonzero((model == name) & np.isfinite(y))
        rows = rows[np.argsort(across[rows], kind="stable")]
        x, color = across[rows], LIGHT["accent" if name == TRAINED else "muted"]
        if intervals:
            low, high = table.number("fvu_low")[rows], table.number("fvu_high")[rows]
            axes.vlines(x, low, high, color=color, linewidth=1.3, zorder=3)
        axes.plot(x, y[rows], marker="o" if name == TRAINED else "s", ms=5.5, color=color,
                  mec=LIGHT["paper"], mew=0.6, zorder=4)  # fmt: skip
        curves.append(Curve(text=f"model: {name}", x=x, y=y[rows], color=color))
    return curves


def _answer(table: Table) -> str:
    fvu = table.number("fvu")
    if not len(finite(fvu)):
        return "How much they leave unexplained is undefined at every layer."
    best, worst = int(np.nanargmin(fvu)), int(np.nanargmax(fvu))
    layer = [site_label(site) for site in table.text("site")]
    text = (
        f"They leave {_fvu(table, best)} of the variance unexplained at layer {layer[best]} "
        f"and {_fvu(table, worst)} at layer {layer[worst]}; a random dictionary of the same "
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


def _notes(table: Table, unit: str, place: str) -> list[str]:
    trained = table.equal("model", TRAINED)
    some = trained if trained.rows else table
    width, k, tokens = (
        number(float(some.number(n)[0]), digits=9) for n in ("width", "k", "tokens")
    )
    dead = float(finite(some.number("dead_share")).max(initial=0.0))
    return [
        f"n = {several(some.rows, 'dictionary', 'dictionaries')}: TopK, {width} features, k = {k}, "
        f"trained on {tokens} {place}s",
        f"measured on held-out {unit}s; bars: 95 % over {unit}s",
        f"dead features: at most {number(100 * dead, digits=2)} %",
        "null (grey): a random dictionary of the same width and k",
    ]
