"""Which classes does a feature raise and lower? What its ablation did to every logit."""

from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame
from energylens.report.feature_table import names
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table
from energylens.results.format import interval, number, percent, several

MOST_FEATURES, MOST_CLASSES = 20, 20
LARGEST = 15  # points across, of the largest change
COLUMNS: tuple[tuple[str, str, bool], ...] = (
    ("n_images", "images", False), ("change", "change of centred logit (nats)", True),
    ("low", "95 % from", True), ("high", "to", True), ("random", "random step, mean size", False),
    ("p", "p", False), ("q", "q", False),
)  # fmt: skip


def figure(records: Records) -> Figure | None:
    table = records.table("class_effects")
    if table is None:
        return None
    shown = _strongest(table)
    classes = list(dict.fromkeys(table.text("class")))[:MOST_CLASSES]
    features = list(dict.fromkeys(names(table.where(shown))))
    return Figure(
        name="classes",
        question="Which classes does a feature speak for?",
        short="Classes",
        answer=_answer(table, records.table("accuracy_contrast")),
        notes=[
            "blue circle: raises the class (ablating the feature lowers its logit against the mean "
            "of all); vermilion square: lowers it; filled: q ≤ .05 over all pairs; area: size",
            f"the {len(features)} features of largest effect of "
            f"{several(len(set(names(table))), 'feature')} ablated",
            "unit: image in which the feature is active; null: signs flipped by image",
            "mean size of a change: "
            f"{number(float(np.abs(table.number('change')).mean()), digits=2)} nats; by a random "
            f"step of the same size {number(float(table.number('random').mean()), digits=2)}",
        ],
        method=("method-classes", "classes"),
        panels=[
            Panel(draw=partial(_draw, table=table, shown=shown, classes=classes, features=features),
                  height=90 + 22 * len(features),
                  label="Change of every class's logit by ablating each feature.")
        ],
        columns=_columns(table),
        tells=("name", "class", "change", "low", "high", "random", "q"),
    )  # fmt: skip


def _columns(table: Table) -> list[Column]:
    return [
        Column(name="name", label="feature", cells=names(table)),
        Column(name="site", label="site", cells=table.text("site")),
        Column(name="class", label="class", cells=table.text("class")),
        *(Column(name=name, label=label, cells=table.number(name), signed=signed)
          for name, label, signed in COLUMNS),
        Column(name="verdict", label="verdict", cells=table.text("verdict")),
    ]  # fmt: skip


def _strongest(table: Table) -> np.ndarray:
    """Rows of the features with the largest change of any class, layer by layer."""
    own, size = names(table), np.abs(table.number("change"))
    largest: dict[str, float] = {}
    for name, change in zip(own, size, strict=True):
        largest[name] = max(largest.get(name, 0.0), float(change))
    kept = sorted(largest, key=lambda name: -largest[name])[:MOST_FEATURES]
    return np.flatnonzero([name in kept for name in own])


def _draw(
    axes: Axes, *, table: Table, shown: np.ndarray, classes: list[str], features: list[str]
) -> Marks:
    frame(axes, across="class", up="")
    axes.grid(visible=False)
    own, of = names(table), table.text("class")
    rows = np.array([row for row in shown if of[row] in classes])
    x = np.array([classes.index(of[row]) for row in rows])
    y = np.array([features.index(own[row]) for row in rows])
    change, sure = table.number("change")[rows], table.number("q")[rows] <= 0.05
    area = (LARGEST**2) * np.abs(change) / max(1e-12, float(np.abs(change).max()))
    for raises, color, marker in ((True, "attractor", "o"), (False, "repulsor", "s")):
        for filled in (True, False):
            some = ((change < 0) == raises) & (sure == filled)
            axes.scatter(x[some], y[some], s=np.maximum(area[some], 4), marker=marker, zorder=3,
                         color=LIGHT[color] if filled else "none", edgecolor=LIGHT[color],
                         linewidth=0.8)  # fmt: skip
    axes.set_xlim(-0.6, len(classes) - 0.4)
    axes.set_ylim(len(features) - 0.4, -0.6)
    long = max(map(len, classes), default=0) > 3
    axes.set_xticks(range(len(classes)), [name[:14] for name in classes],
                    rotation=40 if long else 0, ha="right" if long else "center")  # fmt: skip
    axes.set_yticks(range(len(features)), features)
    for line in range(len(features)):
        axes.axhline(line, color=LIGHT["hairline"], linewidth=0.7, zorder=0)
    return Marks(x=x, y=y, rows=rows)


def _answer(table: Table, contrast: Table | None) -> str:
    sure = np.flatnonzero(table.number("q") <= 0.05)
    every = len(set(names(table)))
    if not len(sure):
        text = f"No class is moved beyond chance by ablating any of {several(every, 'feature')}."
    else:
        change = table.number("change")
        best = int(sure[np.abs(change[sure]).argmax()])
        told = interval(*(float(table.number(n)[best]) for n in ("change", "low", "high")),
                        signed=True)  # fmt: skip
        text = (
            f"{len(sure):,} of {table.rows:,} pairs of feature and class move beyond chance, of "
            f"{len({names(table)[row] for row in sure})} of {several(every, 'feature')}. The "
            f"largest: ablating {names(table)[best]} changes the logit of class "
            f"{table.text('class')[best]} against the mean by {told} nats."
        )
    if contrast is None:
        return text
    row = contrast.text("quantity").index("accuracy lost")
    top, matched, p = (float(contrast.number(n)[row]) for n in ("top", "matched", "p"))
    return text + (
        f" Ablating one of the strongest features costs {percent(top)} of accuracy on average, "
        f"one that matches it {percent(matched)}"
        + (f" (p {number(p, digits=2)})." if np.isfinite(p) else ".")
    )
