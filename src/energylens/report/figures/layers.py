"""Where in the network do features follow the energy? EFAS by layer beside permuted decoders."""

from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame, room, sites_across, zero
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.places import depths, site_label
from energylens.report.records import HEADLINES, Records, Table, finite
from energylens.results.format import number, several

COLUMNS: tuple[tuple[str, str, bool], ...] = (
    ("layer", "layer", False), ("scored", "scored", False), ("undefined", "undefined", False),
    ("beyond", "beyond chance", False), ("attractors", "attractors", False),
    ("repulsors", "repulsors", False), ("replicated", "replicated", False),
    ("largest_efas", "largest EFAS", True), ("largest_low", "95 % from", True),
    ("largest_high", "to", True), ("quantile_05", "5 %", True), ("quantile_25", "25 %", True),
    ("quantile_50", "median", True), ("quantile_75", "75 %", True), ("quantile_95", "95 %", True),
    ("null_05", "null 5 %", True), ("null_95", "null 95 %", True),
    ("rate_at_05", "share with p < .05", False),
)  # fmt: skip


def figure(records: Records) -> Figure | None:
    table = records.table("layers")
    if table is None:
        return None
    rows = np.flatnonzero([energy in HEADLINES for energy in table.text("energy")])
    if not len(rows):
        return None
    headline = table.where(rows)
    features = records.table("features")
    return Figure(
        name="layers",
        question="Where in the network do they sit?",
        short="Layers",
        answer=_answer(headline),
        notes=[
            "bars: middle 50 % and middle 90 % of the scored features",
            "points: single features beyond chance (family-wise .05)",
            "null (grey): middle 90 % with decoder rows permuted among features",
            f"n = {several(int(headline.number('scored').sum()), 'feature')}",
        ],
        method=("method-efas", "energy–feature alignment"),
        panels=[
            Panel(draw=partial(_draw, layers=headline, rows=rows, features=features), height=340,
                  label="Quantiles of EFAS by layer, the permuted decoders' in grey.")
        ],
        columns=_columns(table),
        tells=("site", "beyond", "attractors", "repulsors", "largest_efas"),
    )  # fmt: skip


def _columns(table: Table) -> list[Column]:
    words = [Column(name=name, label=name, cells=table.text(name)) for name in ("energy", "site")]
    return words + [
        Column(name=name, label=label, cells=table.number(name), signed=signed)
        for name, label, signed in COLUMNS
        if name in table.columns
    ]


def _draw(axes: Axes, *, layers: Table, rows: np.ndarray, features: Table | None) -> Marks:
    frame(axes, across="layer", up="EFAS (correlation) · grey: permuted decoders", signed="y")
    axes.use_sticky_edges = False  # a band that ends at the frame looks as if it went on
    x = sites_across(axes, layers.text("site"))
    half = room(x)
    for row in range(layers.rows):
        _band(axes, layers, row, x[row], half)
    zero(axes, up=True)
    if features is not None:
        _points(axes, features)
    return Marks(x=x, y=layers.number("quantile_50"), rows=rows)


def _band(axes: Axes, layers: Table, row: int, x: float, half: float) -> None:
    def span(low: str, high: str, width: float, **paint: object) -> None:
        bottom, top = layers.number(low)[row], layers.number(high)[row]
        axes.bar(x, top - bottom, width=2 * width, bottom=bottom, linewidth=0, **paint)

    span("null_05", "null_95", half, color=LIGHT["null"], zorder=2)
    span("quantile_05", "quantile_95", half * 0.22, color=LIGHT["accent"], alpha=0.35, zorder=3)
    span("quantile_25", "quantile_75", half * 0.22, color=LIGHT["accent"], zorder=3)
    middle = layers.number("quantile_50")[row]
    axes.plot([x - half * 0.3, x + half * 0.3], [middle, middle], color=LIGHT["paper"], zorder=4)


def _points(axes: Axes, features: Table) -> None:
    where = depths(features.text("site"))
    for name, marker in (("attractor", "o"), ("repulsor", "s")):
        some = features.equal("verdict", name)
        places = [where[site] for site in some.text("site")]
        axes.plot(places, some.number("efas"), marker, ms=5, mec=LIGHT["paper"],
                  mew=0.6, color=LIGHT[name], alpha=0.9, zorder=5)  # fmt: skip


def _answer(layers: Table) -> str:
    beyond = layers.number("beyond")
    wider = layers.number("quantile_95") - layers.number("quantile_05")
    null = layers.number("null_95") - layers.number("null_05")
    ratio = finite(wider / np.where(null > 0, null, np.nan))
    spread = (
        f"The bulk of EFAS is {number(float(np.median(ratio)), digits=2)} times as wide as with "
        f"permuted decoders (median over {several(len(ratio), 'layer')})."
        if len(ratio)
        else "The spread of EFAS is undefined."
    )
    if not beyond.sum():
        return f"Nowhere beyond chance. {spread}"
    most = int(beyond.argmax())
    share = f"{int(beyond[most]):,} of {int(beyond.sum()):,}"
    return f"Layer {site_label(layers.text('site')[most])} holds the most, {share}. {spread}"
