"""A whole dictionary at a glance: labels, densities, and how alike its features are."""

from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table, finite
from energylens.results.format import number, percent, several

BINS = 40
METHOD = ("method-browse", "labels, partners, neighbours")


def labels(records: Records) -> Figure | None:
    table, whole = records.table("browse_labels"), records.table("browse_dictionary")
    if table is None or whole is None:
        return None
    shown = table.where(np.argsort(-table.number("features"), kind="stable"))
    tested = int(whole.number("tested")[0])
    return Figure(
        name="browse_labels",
        question="Which classes of tokens do features tell apart?",
        short="Labels",
        answer=_labels_answer(shown, tested),
        notes=[
            f"n = {several(tested, 'feature')} with enough evidence, each under its best class;"
            f" {several(int(whole.number('sample_documents')[0]), 'document')}",
            "unit: feature",
            "null (grey): as many judged after classes are turned within documents and kinds of"
            " text dealt out",
            "named where q ≤ .05",
        ],
        method=METHOD,
        panels=[Panel(draw=partial(_draw_labels, table=shown), height=60 + 22 * shown.rows,
                      label="Features named by each class, beside those under the null.")],
        columns=[
            Column(name="class", label="class", cells=_names(shown)),
            *(Column(name=name, label=label, cells=shown.number(name)) for name, label in (
                ("tokens", "tokens"), ("share", "share of tokens"), ("features", "features"),
                ("features_null", "features, null"),
            )),
        ],
        tells=("class", "features", "features_null", "share"),
    )  # fmt: skip


def _names(table: Table) -> list[str]:
    each = zip(table.text("class"), table.text("family"), strict=True)
    return [f"text: {name}" if family == "text" else name for name, family in each]


def _draw_labels(axes: Axes, *, table: Table) -> Marks:
    frame(axes, across="features", up="")
    axes.grid(visible=False)
    y, found = np.arange(table.rows), table.number("features")
    axes.barh(y, table.number("features_null"), height=0.78, color=LIGHT["null"], zorder=1)
    axes.barh(y, found, height=0.46, color=LIGHT["accent"], zorder=2)
    axes.set_ylim(table.rows - 0.5, -0.5)
    axes.set_yticks(y, _names(table))
    axes.set_xlim(0, max(1.0, 1.05 * float(found.max())))
    return Marks(x=found, y=y, rows=y)


def _labels_answer(table: Table, tested: int) -> str:
    found, null = int(table.number("features").sum()), int(table.number("features_null").sum())
    if not found:
        return f"None of {several(tested, 'feature')} tells a class apart beyond chance."
    each = list(zip(_names(table), table.number("features"), strict=True))[:3]
    three = [f"“{name}” ({int(count):,})" for name, count in each if count]
    return (
        f"{found:,} of {several(tested, 'feature')} are named by a class, most often"
        f" {', '.join(three)}; under the null {several(null, 'feature') if null else 'none is'}."
    )


def densities(records: Records) -> Figure | None:
    whole, features = records.table("browse_dictionary"), records.stored.get("browse_features")
    if whole is None or features is None:
        return None
    density = features.table("density").number("density")
    active = np.log10(density[density > 0])
    counts, edges = np.histogram(active, bins=BINS)
    even = float(whole.number("l0")[0] / whole.number("width")[0])
    return Figure(
        name="browse_densities",
        question="How often is a feature active?",
        short="Density",
        answer=_density_answer(density, even),
        notes=[
            f"n = {several(len(density), 'feature')},"
            f" {several(int(whole.number('tokens')[0]), 'token')}",
            "unit: feature",
            "null: the density that each would have if all were equally often active (line)",
            "those that are never active are not drawn",
        ],
        method=METHOD,
        panels=[Panel(draw=partial(_draw_density, counts=counts, edges=edges, even=even),
                      height=300, label="Histogram of the share of tokens on which features are"
                      " active.")],
        columns=_bins(counts, 10**edges),
        tells=("from", "to", "features"),
    )  # fmt: skip


def _bins(counts: np.ndarray, edges: np.ndarray) -> list[Column]:
    return [
        Column(name="from", label="from", cells=edges[:-1]),
        Column(name="to", label="to", cells=edges[1:]),
        Column(name="features", label="features", cells=counts.astype(float)),
    ]


def _draw_density(axes: Axes, *, counts: np.ndarray, edges: np.ndarray, even: float) -> Marks:
    frame(axes, across="share of tokens on which it is active", up="features")
    axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=LIGHT["dot"],
             edgecolor=LIGHT["paper"], linewidth=0.6, zorder=2)  # fmt: skip
    axes.axvline(np.log10(even), color=LIGHT["muted"], linewidth=0.9, linestyle=(0, (3, 3)))
    ticks = [power for power in range(-7, 1) if edges[0] - 0.3 <= power <= edges[-1] + 0.3]
    axes.set_xticks(ticks, [percent(10.0**power, digits=1) for power in ticks])
    return Marks(x=(edges[:-1] + edges[1:]) / 2, y=counts, rows=np.arange(len(counts)))


def _density_answer(density: np.ndarray, even: float) -> str:
    dead = int((density == 0).sum())
    middle = percent(float(np.median(density[density > 0]))) if dead < len(density) else "undefined"
    return (
        f"The median feature that is ever active is so on {middle} of the tokens (evenly spread:"
        f" {percent(even)}); {dead:,} of {len(density):,} never are."
    )


def likeness(records: Records) -> Figure | None:
    whole, features = records.table("browse_dictionary"), records.stored.get("browse_features")
    pairs = records.stored.get("browse_coactivations")
    if whole is None or features is None or pairs is None:
        return None
    cosines = features.table("neighbour_cosines").lists("neighbour_cosines")
    nearest = finite(np.array([row[0] if row else np.nan for row in cosines], dtype=np.float64))
    joint = pairs.table("rank", "phi", "phi_null")
    first = joint.number("rank") == 0
    phi, null = joint.number("phi")[first], finite(joint.number("phi_null")[first])
    limit = float(whole.number("cosine_null")[0])
    edges = np.linspace(min(0.0, float(min(nearest, default=0.0))), 1.0, BINS + 1)
    counts = [np.histogram(values, bins=edges)[0] for values in (nearest, phi, null)]
    middle = (edges[:-1] + edges[1:]) / 2
    return Figure(
        name="browse_likeness",
        question="How alike are features, in direction and in when they are active?",
        short="Likeness",
        answer=_likeness_answer(nearest, limit, phi, joint.number("phi_null")[first]),
        notes=[
            f"n = {several(len(nearest), 'decoder row')}; {several(len(phi), 'feature')} active"
            " often enough to have a partner",
            "unit: feature",
            "left: line, below which 95 % of random directions find their nearest neighbour",
            "right, grey: the largest φ with all other features' tokens turned within documents",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_counts, middle=middle, counts=counts[0], null=None,
                               limit=limit, across="cosine with the nearest decoder row"),
                  label="Histogram of the cosine of each decoder row with its nearest."),
            Panel(draw=partial(_draw_counts, middle=middle, counts=counts[1], null=counts[2],
                               limit=None, across="φ with the strongest partner"),
                  label="Histogram of the largest φ of each feature, and of that under the null."),
        ],
        columns=[
            *_bins(counts[0], edges)[:2],
            *(Column(name=name, label=label, cells=cells.astype(float)) for (name, label), cells in
              zip((("cosine", "nearest cosine"), ("phi", "largest φ"),
                   ("phi_null", "largest φ, turned")), counts, strict=True)),
        ],
        tells=("from", "to", "cosine", "phi", "phi_null"),
        wide=True,
    )  # fmt: skip


def _draw_counts(
    axes: Axes,
    *,
    middle: np.ndarray,
    counts: np.ndarray,
    null: np.ndarray | None,
    limit: float | None,
    across: str,
) -> Marks:
    frame(axes, across=across, up="features")
    width = float(middle[1] - middle[0])
    if null is not None:
        axes.bar(middle, null, width=width, color=LIGHT["null"], zorder=1)
    axes.bar(middle, counts, width=0.7 * width, color=LIGHT["accent"], zorder=2)
    if limit is not None:
        axes.axvline(limit, color=LIGHT["muted"], linewidth=0.9, linestyle=(0, (3, 3)), zorder=3)
    return Marks(x=middle, y=counts, rows=np.arange(len(counts)))


def _likeness_answer(nearest: np.ndarray, limit: float, phi: np.ndarray, null: np.ndarray) -> str:
    if not len(nearest):
        return "Undefined: no decoder row has a length."
    text = (
        f"The median decoder row has cosine {number(float(np.median(nearest)), digits=2)} with its"
        f" nearest; {percent(float((nearest > limit).mean()))} are nearer than 19 in 20 random"
        f" directions ({number(limit, digits=2)})."
    )
    if not len(phi):
        return f"{text} None is active often enough to have a partner."
    middle = number(float(np.median(phi)), digits=2)
    beyond = percent(float((phi > np.nan_to_num(null)).mean()))
    return (
        f"{text} The median φ with the strongest partner is {middle}, and {beyond} of features have"
        " one closer than any turned feature comes to them."
    )
