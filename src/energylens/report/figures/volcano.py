"""Which features follow the energy? EFAS against its t, with the max-T threshold in grey."""

from functools import partial
from typing import Any

import numpy as np

from energylens.report.axes import Axes, Label, frame, place, zero
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table, finite
from energylens.report.text import several
from energylens.results.format import interval, number

LEVEL = 0.05
LABELLED = 7
COLUMNS: tuple[tuple[str, str, bool], ...] = (
    ("efas", "EFAS", True), ("low", "95 % from", True), ("high", "to", True), ("t", "t", True),
    ("p", "p", False), ("q", "q", False), ("p_max_t", "p, max-T", False),
    ("attribution", "attribution (nats/token)", True), ("density", "density", False),
    ("n_active", "active tokens", False), ("n_documents", "documents", False),
)  # fmt: skip


def figure(records: Records) -> Figure | None:
    features = records.table("features")
    if features is None:
        return None
    ordered = by_strength(features)
    scored = ordered.where(np.isfinite(ordered.number("t")))
    peaks = peak_tokens(records.table("contexts"))
    return Figure(
        name="volcano",
        question="Which features follow the energy?",
        short="Alignment",
        answer=_answer(scored),
        notes=_notes(ordered, scored),
        method=("method-efas", "energy–feature alignment"),
        panels=[Panel(draw=partial(_draw, scored=scored, peaks=peaks), height=340,
                      label="EFAS of every scored feature against its absolute t.")],
        columns=columns(ordered),
        tells=("layer", "feature", "efas", "t", "p_max_t"),
    )  # fmt: skip


def by_strength(features: Table) -> Table:
    """Features with the surest alignment first, undefined ones last."""
    t = np.abs(features.number("t"))
    return features.where(np.argsort(-np.nan_to_num(t, nan=-1.0), kind="stable"))


def columns(features: Table) -> list[Column]:
    """The numbers of a feature as the table view and the browser have them."""
    names = [
        Column(name="site", label="site", cells=features.text("site")),
        Column(name="layer", label="layer", cells=features.number("layer")),
        Column(name="feature", label="feature", cells=features.number("feature")),
    ]
    numbers = [
        Column(name=name, label=label, cells=features.number(name), signed=signed)
        for name, label, signed in COLUMNS
    ]
    return [*names, *numbers, Column(name="verdict", label="verdict", cells=verdicts(features))]


def verdicts(features: Table) -> list[str]:
    """The verdict, with the reason where there is none."""
    return [
        verdict if status == "scored" else f"undefined: {status}"
        for verdict, status in zip(features.text("verdict"), features.text("status"), strict=True)
    ]


def peak_tokens(contexts: Table | None) -> dict[tuple[str, int], str]:
    """The token on which each feature peaks most often in its top contexts."""
    if contexts is None:
        return {}
    top = contexts.equal("group", "top")
    seen: dict[tuple[str, int], list[str]] = {}
    cells = (top.text("site"), top.number("feature"), top.lists("tokens"), top.number("peak"))
    for site, feature, tokens, peak in zip(*cells, strict=True):
        if 0 <= int(peak) < len(tokens):
            seen.setdefault((site, int(feature)), []).append(tokens[int(peak)].strip())
    return {key: max(peaks, key=peaks.count) for key, peaks in seen.items()}


def threshold(t: np.ndarray, p_max_t: np.ndarray) -> float:
    """The |t| at which max-T reaches .05; nan if no feature is beyond it.

    It lies between the weakest feature beyond and the strongest within, where the p of the two
    says.
    """
    size = np.abs(t)
    beyond = p_max_t < LEVEL
    if not beyond.any():
        return float("nan")
    above = int(np.flatnonzero(beyond)[size[beyond].argmin()])
    within = ~beyond & (size < size[above])
    if not within.any():
        return float(size[above])
    below = int(np.flatnonzero(within)[size[within].argmax()])
    share = (LEVEL - p_max_t[above]) / (p_max_t[below] - p_max_t[above])
    return float(size[above] + share * (size[below] - size[above]))


def _draw(axes: Axes, *, scored: Table, peaks: dict[tuple[str, int], str]) -> Marks:
    efas, size = scored.number("efas"), np.abs(scored.number("t"))
    verdict = np.array(scored.text("verdict"))
    limit = threshold(size, scored.number("p_max_t"))
    frame(axes, across="EFAS (correlation)", up="|t|, clustered by document", signed="x")
    axes.grid(visible=False)
    top = max(size.max(initial=1.0) * 1.08, 0 if np.isnan(limit) else limit * 1.15)
    axes.set_ylim(0, top)
    axes.axhspan(0, top if np.isnan(limit) else limit, color=LIGHT["null"], linewidth=0, zorder=0)
    reach = 1.22 * float(np.abs(efas).max(initial=0.01))
    axes.set_xlim(-reach, reach)
    zero(axes, across=True)
    _name_threshold(axes, limit, top, reach)
    within = ~np.isin(verdict, ("attractor", "repulsor"))
    axes.plot(efas[within], size[within], "o", ms=3, mec="none", color=LIGHT["dot"], alpha=0.45,
              gid="dots-within", zorder=2)  # fmt: skip
    for name, marker in (("attractor", "o"), ("repulsor", "s")):
        some = verdict == name
        axes.plot(efas[some], size[some], marker, ms=6, mec=LIGHT["paper"], mew=0.7,
                  color=LIGHT[name], zorder=4)  # fmt: skip
    place(axes, _labels(scored, efas, size, ~within, peaks),
          around=np.column_stack([efas, size])[~within])  # fmt: skip
    return Marks(x=efas, y=size, rows=np.arange(scored.rows))


def _name_threshold(axes: Axes, limit: float, top: float, reach: float) -> None:
    within = np.isnan(limit)
    if not within:
        axes.axhline(limit, color=LIGHT["muted"], linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)
    axes.annotate(
        "all within max-T .05" if within else "max-T .05", (reach, top if within else limit),
        xytext=(-2, -12 if within else 4), textcoords="offset points", ha="right", fontsize=11,
        color=LIGHT["muted"],
    )  # fmt: skip


def _labels(
    scored: Table, efas: Any, size: Any, beyond: Any, peaks: dict[tuple[str, int], str]
) -> list[Label]:
    rows = np.flatnonzero(beyond)[:LABELLED]
    sites, layers, ids = scored.text("site"), scored.number("layer"), scored.number("feature")
    labels = []
    for row in rows:
        token = peaks.get((sites[row], int(ids[row])), "")
        quoted = f" “{token[:14]}{'…' * (len(token) > 14)}”" if token else ""
        text = f"{feature_name(layers[row], ids[row])}{quoted}"
        labels.append(Label(text=text, x=float(efas[row]), y=float(size[row])))
    return labels


def feature_name(layer: float, feature: float) -> str:
    """Example:
    >>> feature_name(15.0, 2904.0)
    'L15·2904'
    """
    return f"L{int(layer)}·{int(feature)}"


def _answer(scored: Table) -> str:
    if not scored.rows:
        return "None could be scored: no feature was active often enough, in enough documents."
    verdict = scored.text("verdict")
    attractors, repulsors = verdict.count("attractor"), verdict.count("repulsor")
    if not attractors + repulsors:
        return f"None of {several(scored.rows, 'scored feature')} is beyond chance (max-T .05)."
    efas = np.abs(scored.number("efas"))
    beyond = np.flatnonzero([v in ("attractor", "repulsor") for v in verdict])
    top = beyond[efas[beyond].argmax()]
    value, low, high = (float(scored.number(name)[top]) for name in ("efas", "low", "high"))
    name = feature_name(scored.number("layer")[top], scored.number("feature")[top])
    return (
        f"{attractors + repulsors:,} of {scored.rows:,} scored features: {attractors:,} attract "
        f"(●, active where they lower the energy) and {repulsors:,} repel (■). The strongest is "
        f"{name} with EFAS {interval(value, low, high, signed=True)}."
    )


def _notes(features: Table, scored: Table) -> list[str]:
    sites = len(set(features.text("site")))
    documents = scored.number("n_documents")
    replicated = scored.where(np.isfinite(scored.number("replicated")))
    notes = [
        f"n = {several(scored.rows, 'feature')} of {several(sites, 'site')}, each active in up to "
        f"{number(float(finite(documents).max(initial=0)))} held-out documents",
        f"{features.rows - scored.rows:,} undefined (dead, or too few active tokens or documents)",
        "unit: document",
        "null (grey): multiplier bootstrap over documents, max-T over all features of all sites",
    ]
    if replicated.rows:
        again = int(replicated.number("replicated").sum())
        notes.append(
            f"{again:,} of {replicated.rows:,} found again in the other half of the documents"
        )
    return notes
