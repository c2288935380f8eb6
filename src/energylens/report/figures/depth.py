"""How does the energy change with depth? Each energy's mean by layer, beside a uniform guess."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from energylens.report.axes import Axes, Curve, frame, name_curves, sites_across
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.places import depth as blocks_below
from energylens.report.places import site_label
from energylens.report.records import Records, Table, finite
from energylens.results.format import interval, number, several

# Times the median norm from which the first position is worth a word.
MASSIVE = 3
NAMES = {
    "surprisal": "surprisal through the lens",
    "downstream": "downstream: the model's own loss",
    "free_energy": "free energy through the lens",
    "tuned": "surprisal, tuned lens",
    "entropy": "entropy through the lens",
}

GROUPS = (("surprisal", "tuned", "downstream"), ("free_energy",), ("entropy",))
MARKERS = {"downstream": "s", "tuned": "D"}


def figure(records: Records) -> Figure | None:
    depth = records.table("depth")
    if depth is None:
        return None
    uniform = records.summary.get("figures", {}).get("uniform_surprisal", {}).get("value")
    there = set(depth.text("energy"))
    groups = [[name for name in group if name in there] for group in GROUPS]
    panels = [
        Panel(draw=partial(_draw, depth=depth, energies=group,
                           uniform=uniform if "surprisal" in group else None),
              label=f"Mean {' and '.join(NAMES[e] for e in group)} by layer.")
        for group in groups if group
    ]  # fmt: skip
    return Figure(
        name="depth",
        question="How does the energy change with depth?",
        short="Depth",
        answer=_answer(depth, uniform),
        notes=_notes(depth, records.table("token_sites") or records.table("sink")),
        method=("method-energy", "energies"),
        panels=panels,
        columns=_columns(depth),
        tells=("energy", "site", "mean", "low", "high"),
        wide=True,
    )


def _columns(depth: Table) -> list[Column]:
    return [
        Column(name="energy", label="energy", cells=depth.text("energy")),
        Column(name="site", label="site", cells=depth.text("site")),
        Column(name="layer", label="layer", cells=depth.number("layer")),
        Column(name="mean", label="mean (nats)", cells=depth.number("mean")),
        Column(name="low", label="95 % from", cells=depth.number("low")),
        Column(name="high", label="to", cells=depth.number("high")),
        Column(name="n_documents", label="documents", cells=depth.number("n_documents")),
    ]


def _draw(axes: Axes, *, depth: Table, energies: Sequence[str], uniform: float | None) -> Marks:
    frame(axes, across="layer", up="mean energy (nats per token)", pad=0.1)
    energy = np.array(depth.text("energy"))
    rows = [np.flatnonzero(energy == name) for name in energies]
    kept = np.concatenate(rows)
    mean = depth.number("mean")
    x = sites_across(axes, depth.text("site"))
    curves = [_curve(axes, depth, x, some, name) for name, some in zip(energies, rows, strict=True)]
    if uniform is not None:
        curves.append(_uniform(axes, uniform))
    name_curves(axes, curves)
    return Marks(x=x[kept], y=mean[kept], rows=kept)


def _uniform(axes: Axes, uniform: float) -> Curve:
    axes.axhline(uniform, color=LIGHT["dot"], linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    return Curve(
        text=f"uniform guess, ln V = {number(uniform)}", x=np.array(axes.get_xlim()),
        y=np.full(2, uniform), color=LIGHT["muted"],
    )  # fmt: skip


def _curve(axes: Axes, depth: Table, across: np.ndarray, rows: np.ndarray, name: str) -> Curve:
    rows = rows[np.argsort(across[rows], kind="stable")]
    x, y = across[rows], depth.number("mean")[rows]
    color = LIGHT["muted"] if name == "downstream" else LIGHT["accent"]
    marker = MARKERS.get(name, "o")
    axes.vlines(x, depth.number("low")[rows], depth.number("high")[rows], color=color, zorder=3)
    axes.plot(x, y, marker=marker, ms=6, mec=LIGHT["paper"], mew=0.6, color=color, zorder=4)
    known = np.isfinite(y)
    return Curve(text=NAMES[name], x=x[known], y=y[known], color=color)


def _answer(depth: Table, uniform: float | None) -> str:
    lens = depth.equal("energy", "surprisal")
    lens = lens.where(np.isfinite(lens.number("mean")))
    if not lens.rows:
        return "The surprisal through the lens is undefined: nothing to compare with."
    order = np.argsort([blocks_below(site) for site in lens.text("site")], kind="stable")
    lens = lens.where(order)
    mean, layer = lens.number("mean"), [site_label(site) for site in lens.text("site")]
    falls = bool((np.diff(mean) < 0).all())
    first, last = _point(lens, 0), _point(lens, -1)
    shape = "falls at every step" if falls else "is not monotone in depth"
    text = (
        f"Read through the model's final norm and unembedding, surprisal {shape}: from {first} "
        f"nats at layer {layer[0]} to {last} at layer {layer[-1]}."
    )
    worse = int((mean > uniform).sum()) if uniform is not None else 0
    if worse:
        text += f" At {worse} of {several(lens.rows, 'site')} it is worse than a uniform guess."
    return text + _tuned(depth)


def _tuned(depth: Table) -> str:
    tuned = depth.equal("energy", "tuned")
    tuned = tuned.where(np.isfinite(tuned.number("mean")))
    if not tuned.rows:
        return ""
    order = np.argsort([blocks_below(site) for site in tuned.text("site")], kind="stable")
    tuned = tuned.where(order)
    return f" Through the tuned lens: from {_point(tuned, 0)} to {_point(tuned, -1)}."


def _point(lens: Table, row: int) -> str:
    mean, low, high = (float(lens.number(name)[row]) for name in ("mean", "low", "high"))
    return interval(mean, low, high)


def _notes(depth: Table, sinks: Table | None) -> list[str]:
    documents = int(finite(depth.number("n_documents")).max(initial=0))
    notes = [
        f"n = {documents:,} held-out documents",
        "unit: document",
        "bars: 95 % over documents",
        "null: a uniform guess over the vocabulary",
    ]
    if sinks is not None:
        times = finite(sinks.number("norm_first") / sinks.number("norm_median"))
        if len(times) and times.max() > MASSIVE:
            notes.append(
                f"the first position's norm is up to {number(float(times.max()), digits=2)} times "
                "the median: it is left out of dictionaries and statistics"
            )
    return notes
