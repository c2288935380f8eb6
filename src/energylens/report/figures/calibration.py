"""Does the slope predict what ablation does? Predicted against measured change of the loss."""

from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame, zero
from energylens.report.feature_table import names
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.places import site_label
from energylens.report.records import Records, Table, finite
from energylens.results.format import fixed, interval, several

COLUMNS: tuple[tuple[str, str, bool], ...] = (
    ("n_contexts", "contexts", False), ("n_documents", "documents", False),
    ("predicted", "predicted ΔE (nats)", True), ("measured", "measured ΔE (nats)", True),
    ("low", "95 % from", True), ("high", "to", True), ("kl", "KL (nats)", False),
    ("predicted_surprisal", "predicted, surprisal", True),
    ("measured_surprisal", "measured, surprisal", True),
    ("predicted_free_energy", "predicted, free energy", True),
    ("measured_free_energy", "measured, free energy", True),
    ("predicted_entropy", "predicted, entropy", True),
    ("measured_entropy", "measured, entropy", True),
    ("predicted_tuned", "predicted, tuned lens", True),
    ("measured_tuned", "measured, tuned lens", True),
    ("predicted_class_margin", "predicted, margin", True),
    ("measured_class_margin", "measured, margin", True),
)  # fmt: skip
MOST_PANELS = 9
RULES = {"efas": "EFAS", "random": "chance"}
LEVEL, Z95 = 0.05, 1.96


def figure(records: Records) -> Figure | None:
    effects, calibration = records.table("effects"), records.table("calibration")
    if effects is None or calibration is None:
        return None
    ablated = effects.equal("intervention", "ablate")
    if not ablated.rows:
        return None
    panels = [_panel(effects, calibration, i) for i in range(min(calibration.rows, MOST_PANELS))]
    return Figure(
        name="calibration",
        question="Does the slope predict what ablation does?",
        short="Ablation",
        answer=_answer(calibration, records.table("calibration_pooled"))
        + _by_rule(records.table("calibration_rules")),
        notes=_notes(ablated, calibration, records.unit),
        method=("method-intervention", "interventions"),
        panels=panels,
        columns=_columns(effects),
        tells=("name", "intervention", "predicted", "measured", "low", "high"),
        wide=len(panels) > 1,
    )


def _columns(effects: Table) -> list[Column]:
    words = [
        Column(name="name", label="feature", cells=names(effects)),
        Column(name="site", label="site", cells=effects.text("site")),
        Column(name="layer", label="layer", cells=effects.number("layer")),
        Column(name="feature", label="index", cells=effects.number("feature")),
        Column(name="intervention", label="intervention", cells=effects.text("intervention")),
        Column(name="chosen_by", label="chosen by", cells=effects.text("chosen_by")),
    ]
    return words + [
        Column(name=name, label=label, cells=effects.number(name), signed=signed)
        for name, label, signed in COLUMNS
        if name in effects.columns
    ]


def _panel(effects: Table, calibration: Table, row: int) -> Panel:
    site = calibration.text("site")[row]
    here = np.array([cell == site for cell in effects.text("site")])
    layer = site_label(site)
    slope, r = (_interval(calibration, name, row) for name in ("slope", "correlation"))
    one = calibration.rows == 1
    return Panel(
        draw=partial(
            _draw, effects=effects, here=np.flatnonzero(here),
            slope=float(calibration.number("slope")[row]), told=f"slope {slope}\nr {r}",
            title="" if one else f"Layer {layer}",
        ),
        label=f"Measured against predicted effect of ablation, layer {layer}: slope {slope}, r {r}",
        height=340 if one else 330,
    )  # fmt: skip


def _interval(table: Table, name: str, row: int) -> str:
    value, low, high = (float(table.number(n)[row]) for n in (name, f"{name}_low", f"{name}_high"))
    return interval(value, low, high)


def _draw(
    axes: Axes, *, effects: Table, here: np.ndarray, slope: float, told: str, title: str
) -> Marks:
    kind = np.array(effects.text("intervention"))
    ablated = here[kind[here] == "ablate"]
    random = here[kind[here] == "random direction"]
    predicted, measured = effects.number("predicted"), effects.number("measured")
    frame(axes, across="predicted ΔE = Σ a·F (nats)", up="measured ΔE (nats)", title=title,
          signed="xy")  # fmt: skip
    zero(axes, across=True, up=True)
    _bars(axes, effects, random, color=LIGHT["dot"], marker="D", size=4.6, alpha=0.3)
    _bars(axes, effects, ablated, color=LIGHT["accent"], marker="o", size=6.0, alpha=0.6)
    rows = np.concatenate([ablated, random])
    reach = 1.12 * float(finite(np.abs([predicted[rows], measured[rows]])).max(initial=1e-9))
    # One scale for both axes, set by the points: a bar of few documents may leave it.
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
    axes.plot([-reach, reach], [-reach, reach], color=LIGHT["dot"], linewidth=0.9,
              linestyle=(0, (4, 3)), zorder=2)  # fmt: skip
    _fit(axes, predicted[ablated], measured[ablated], slope)
    axes.text(
        0.03,
        0.97,
        told,
        transform=axes.transAxes,
        va="top",
        fontsize=11,
        zorder=7,
        color=LIGHT["accent"],
        linespacing=1.4,
        bbox={"facecolor": LIGHT["paper"], "edgecolor": "none", "alpha": 0.85, "pad": 2},
    )
    return Marks(x=predicted[rows], y=measured[rows], rows=rows)


def _bars(
    axes: Axes, effects: Table, rows: np.ndarray, *, color: str, marker: str, size: float,
    alpha: float,
) -> None:  # fmt: skip
    x, y = effects.number("predicted")[rows], effects.number("measured")[rows]
    axes.vlines(x, effects.number("low")[rows], effects.number("high")[rows], color=color,
                linewidth=1, alpha=alpha, zorder=3)  # fmt: skip
    axes.plot(x, y, marker, ms=size, mec=LIGHT["paper"], mew=0.6, color=color, zorder=4)


def _fit(axes: Axes, predicted: np.ndarray, measured: np.ndarray, slope: float) -> None:
    """The least-squares line: through the mean point, as far as there are points."""
    both = np.isfinite(predicted) & np.isfinite(measured)
    if not both.any():
        return
    x = np.array([predicted[both].min(), predicted[both].max()])
    line = measured[both].mean() + slope * (x - predicted[both].mean())
    axes.plot(x, line, color=LIGHT["accent"], zorder=2)


def _answer(calibration: Table, pooled: Table | None) -> str:
    known = np.flatnonzero(np.isfinite(calibration.number("correlation")))
    if not len(known):
        return "Undefined: too few features or contexts to compare predicted with measured."
    whole = pooled if pooled is not None else calibration if calibration.rows == 1 else None
    text = ""
    if whole is not None and np.isfinite(whole.number("correlation")[0]):
        text = (
            f"Slope {_interval(whole, 'slope', 0)} (1 is a perfect prediction), correlation "
            f"{_interval(whole, 'correlation', 0)}{_in_rank(whole)} over "
            f"{several(int(whole.number('n_features')[0]), 'feature')}."
        )
    if calibration.rows == 1:
        return text
    clear = sum(_clear_of_null(calibration, int(row)) for row in known)
    r, site = calibration.number("correlation"), calibration.text("site")
    best, worst = int(np.nanargmax(r)), int(np.nanargmin(r))
    apart = (
        f" Beyond its null at {clear} of {several(calibration.rows, 'site')}: best at layer "
        f"{site_label(site[best])}, r {_interval(calibration, 'correlation', best)}; worst at "
        f"layer {site_label(site[worst])}, r {_interval(calibration, 'correlation', worst)}."
    )
    return (text + apart).strip()


def _in_rank(whole: Table) -> str:
    if "rank_correlation" not in whole.columns:
        return ""
    return f" (of ranks {_interval(whole, 'rank_correlation', 0)})"


def _by_rule(rules: Table | None) -> str:
    """The correlation of features chosen by one rule: a few odd ones of one rule can decide the
    whole."""
    if rules is None:
        return ""
    known = np.flatnonzero(np.isfinite(rules.number("correlation")))
    chosen_by = rules.text("chosen_by")
    told = [f"by {_rule(chosen_by[row])} {_interval(rules, 'correlation', int(row))}"
            for row in known]  # fmt: skip
    return f" By how features were chosen, r: {', '.join(told)}." if told else ""


def _rule(name: str) -> str:
    return RULES.get(name, name)


def _clear_of_null(calibration: Table, row: int) -> bool:
    """Whether the correlation is positive and beyond that of shuffled predictions."""
    if "null_correlation_p" in calibration.columns:
        p = calibration.number("null_correlation_p")[row]
        return bool(p < LEVEL and calibration.number("correlation")[row] > 0)
    low, mean, sd = (
        float(calibration.number(name)[row])
        for name in ("correlation_low", "null_correlation_mean", "null_correlation_sd")
    )
    return low > mean + Z95 * sd


def _notes(ablated: Table, calibration: Table, unit: str) -> list[str]:
    rules = ablated.text("chosen_by")
    chosen = " · ".join(f"{rules.count(rule)} by {_rule(rule)}" for rule in sorted(set(rules)))
    null = finite(calibration.number("null_correlation_sd"))
    return [
        f"n = {several(ablated.rows, 'feature')} ({chosen}), chosen on one half of the {unit}s "
        "and intervened on in the other",
        f"a point: mean over the {unit}s it is changed in, 95 % bar over {unit}s"
        if unit == "image"
        else "a point: mean over the feature's contexts, 95 % bar over documents",
        "dashed: measured = predicted; line: least squares",
        "both axes share one scale, and a bar may leave it",
        "grey diamonds: a step of the same size along a random direction",
        "null: correlation with predictions permuted among features, sd "
        + (f"up to {fixed(float(null.max()), 2)}" if len(null) else "undefined"),
    ]
