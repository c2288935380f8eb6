"""The original NDT experiments: what was claimed, what its definitions give, and what is so."""

from collections.abc import Sequence
from functools import partial
from textwrap import fill

import numpy as np

from energylens.report.axes import Axes, Curve, frame, name_curves
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table
from energylens.results.format import number, percent, several

METHOD = ("method-original", "the original's definitions")
STORED, TRUE, OURS = "global_z_stored", "global_z", "energylens"
FAMILIES = ("transformer", "cnn", "mlp")
WORDS = ("label", "unit", "claim", "claimed_in", "how", "null", "sentence")
NUMBERS = ("claimed", "reproduced", "corrected", "low", "high", "null_mean", "null_sd", "n")
BINS = 20
BAND = 1.96
NAMES = {
    STORED: "stored rank", "stable_rank": "true stable rank",
    "participation_ratio_sigma": "participation ratio", "energy_rank_90": "90 % energy rank",
    "nuclear_norm_ratio": "nuclear-norm ratio",
}  # fmt: skip


def claims(records: Records) -> Figure | None:
    """Every share that was claimed, beside what it is."""
    table = _compared(records)
    if table is None:
        return None
    table = table.where([i for i, unit in enumerate(table.text("unit"))
                         if unit.startswith("of ") and _drawn(table, i)])  # fmt: skip
    if not table.rows:
        return None
    return Figure(
        name="original_claims", question="What was claimed, and what do the same data say?",
        short="Claims", answer=_claims_answer(table),
        notes=[
            "square: claimed of all 55 runs; circle: the original's definition on these files;"
            " filled: the true stable rank in training steps",
            "bars: 95 % over runs; null (grey): as the table names it, ± 1.96 sd",
            f"n = {several(int(table.number('n').max()), 'run')}",
        ],
        method=METHOD,
        panels=[Panel(draw=partial(_draw_claims, table=table), height=120 + 42 * table.rows,
                      label="Shares claimed, reproduced and corrected, each beside its null.")],
        columns=_columns(table), tells=("label", "claimed", "reproduced", "corrected", "null_mean"),
    )  # fmt: skip


def counts(records: Records) -> Figure | None:
    """Jumps a layer by family and by measure, beside noise."""
    layers, measures = records.table("original_layers"), records.table("original_measures")
    runs = records.table("runs")
    if layers is None or measures is None or runs is None:
        return None
    table = _by_family(layers, runs, measures)
    return Figure(
        name="original_counts", question="Are there more jumps than noise has?", short="Counts",
        answer=_counts_answer(measures),
        notes=[
            "circle: of the rank that was stored; filled: of the true rank, same detector",
            "null (grey): increments of Gaussian noise beyond two standard deviations",
            f"n = {several(runs.rows, 'run')}, {several(layers.rows // 2, 'layer')}",
        ],
        method=METHOD,
        panels=[
            Panel(draw=partial(_draw_counts, table=table.equal("kind", "family")), height=230,
                  label="Jumps a layer by family of networks."),
            Panel(draw=partial(_draw_counts, table=table.equal("kind", "measure")), height=230,
                  label="Jumps a layer by measure."),
        ],
        columns=[
            Column(name="name", label="of", cells=table.text("name")),
            *(Column(name=name, label=name, cells=table.number(name))
              for name in ("stored", "true", "noise")),
        ],
        tells=("name", "stored", "true", "noise"),
    )  # fmt: skip


def phases(records: Records) -> Figure | None:
    """When jumps happen: by the original's unit, and by the right one."""
    jumps, runs = records.table("jumps"), records.table("runs")
    if jumps is None or runs is None or STORED not in jumps.text("detector"):
        return None
    curves = _phase_curves(jumps, runs)
    edges = np.linspace(0, 1, BINS + 1)
    return Figure(
        name="original_phases", question="When do jumps happen?", short="Phases",
        answer=_phases_answer(curves),
        notes=[
            f"share of jumps in each {100 // BINS} % of the training",
            "thin: the sample index over the number of steps, as the original has it",
            "null (grey): jumps at any time",
            *(f"n = {several(len(phase), 'jump')}, {name}" for name, phase in curves.items()),
        ],
        method=METHOD,
        panels=[Panel(draw=partial(_draw_phases, curves=curves), height=320,
                      label="Share of jumps by their place in the training.")],
        columns=[
            Column(name="from", label="training from", cells=edges[:-1]),
            Column(name="to", label="to", cells=edges[1:]),
            *(Column(name=name, label=name, cells=_shares(phase))
              for name, phase in curves.items()),
        ],
        tells=("from", "to", *curves),
    )  # fmt: skip


def _compared(records: Records) -> Table | None:
    return records.table("original_comparison")


def _drawn(table: Table, row: int) -> bool:
    return bool(np.isfinite(table.number("corrected")[row]))


def _columns(table: Table) -> list[Column]:
    return [
        *(Column(name=name, label=name.replace("_", " "), cells=table.text(name))
          for name in WORDS[:1]),
        *(Column(name=name, label=name.replace("_", " "), cells=table.number(name))
          for name in NUMBERS),
        *(Column(name=name, label=name.replace("_", " "), cells=table.text(name))
          for name in WORDS[1:]),
    ]  # fmt: skip


# ---- drawings


def _draw_claims(axes: Axes, *, table: Table) -> Marks:
    frame(axes, across="share", up="")
    axes.grid(visible=False, axis="y")
    y = np.arange(table.rows)
    claimed, reproduced, corrected, low, high, mean, sd = (
        table.number(name) for name in
        ("claimed", "reproduced", "corrected", "low", "high", "null_mean", "null_sd")
    )  # fmt: skip
    half = np.maximum(BAND * np.nan_to_num(sd), 0.004)
    axes.barh(y, 2 * half, left=mean - half, height=0.62, color=LIGHT["null"], zorder=1)
    axes.hlines(y, low, high, color=LIGHT["accent"], linewidth=1.6, zorder=3)
    axes.scatter(claimed, y, s=64, marker="s", facecolor="none", edgecolor=LIGHT["repulsor"],
                 linewidth=1.5, zorder=4)  # fmt: skip
    axes.scatter(reproduced, y, s=30, facecolor=LIGHT["paper"], edgecolor=LIGHT["ink"],
                 linewidth=1.2, zorder=5)  # fmt: skip
    axes.scatter(corrected, y, s=36, color=LIGHT["accent"], zorder=6)
    axes.set_yticks(y, [fill(label, 30) for label in table.text("label")])
    axes.set_ylim(table.rows - 0.4, -0.6)
    axes.set_xlim(-0.04, 1.04)
    return Marks(x=corrected, y=y, rows=y)


def _by_family(layers: Table, runs: Table, measures: Table) -> Table:
    """Jumps a layer as stored, of the true rank, and of noise: by family, and by measure."""
    family = dict(zip(runs.text("run"), runs.text("family"), strict=True))
    whose = np.array([family[run] for run in layers.text("run")])
    detector, jumps = np.array(layers.text("detector")), layers.number("jumps")
    total = layers.rows // 2
    expected, increments = measures.number("expected")[0], measures.number("increments")[0]
    noise = expected / total
    kind, name, stored, true = [], [], [], []
    for which in [*FAMILIES, *sorted(set(whose) - set(FAMILIES))]:
        if which in whose:
            means = [jumps[(whose == which) & (detector == one)].mean() for one in (STORED, TRUE)]
            kind.append("family")
            name.append(which)
            stored.append(means[0])
            true.append(means[1])
    counted = dict(zip(measures.text("measure"), measures.number("jumps"), strict=True))
    for which, count in counted.items():
        if which != STORED:
            kind.append("measure")
            name.append(NAMES.get(which, which))
            stored.append(counted[STORED] / total if which == "stable_rank" else np.nan)
            true.append(count / total)
    per_layer = np.full(len(name), noise if increments else np.nan)
    cells = {"kind": kind, "name": name, "stored": np.array(stored), "true": np.array(true),
             "noise": per_layer}  # fmt: skip
    return Table(name="original_counts", columns=cells, rows=len(name))


def _draw_counts(axes: Axes, *, table: Table) -> Marks:
    frame(axes, across="jumps a layer", up="")
    axes.grid(visible=False, axis="y")
    y = np.arange(table.rows)
    stored, true, noise = (table.number(name) for name in ("stored", "true", "noise"))
    axes.vlines(noise, y - 0.32, y + 0.32, color=LIGHT["null"], linewidth=7, zorder=1)
    axes.scatter(stored, y, s=34, facecolor=LIGHT["paper"], edgecolor=LIGHT["ink"], zorder=3)
    axes.scatter(true, y, s=38, color=LIGHT["accent"], zorder=4)
    axes.set_yticks(y, table.text("name"))
    axes.set_ylim(table.rows - 0.4, -0.6)
    axes.set_xlim(0, None)
    return Marks(x=true, y=y, rows=y)


def _draw_phases(axes: Axes, *, curves: dict[str, np.ndarray]) -> Marks:
    frame(axes, across="part of the training", up="share of jumps", pad=0.02)
    middle = (np.arange(BINS) + 0.5) / BINS
    axes.axhline(1 / BINS, color=LIGHT["null"], linewidth=4, zorder=1)
    looks = (("repulsor", 1.0), ("ink", 1.6), ("accent", 2.0))
    drawn = []
    for (name, phase), (role, width) in zip(curves.items(), looks, strict=True):
        shares = _shares(phase)
        axes.plot(middle, shares, color=LIGHT[role], linewidth=width, zorder=2)
        drawn.append(Curve(text=name, x=middle, y=shares, color=LIGHT[role]))
    axes.set_ylim(0, None)
    name_curves(axes, drawn)
    shares = _shares(list(curves.values())[-1])
    return Marks(x=middle, y=shares, rows=np.arange(BINS))


def _phase_curves(jumps: Table, runs: Table) -> dict[str, np.ndarray]:
    """Phases of jumps by what they are jumps of, and by whose unit."""
    interval = dict(zip(runs.text("run"), runs.number("interval"), strict=True))
    own = np.array([interval[run] for run in jumps.text("run")])
    detector, phase = np.array(jumps.text("detector")), jumps.number("phase")
    stored, true = detector == STORED, detector == TRUE
    return {
        "stored rank, original unit": phase[stored] / own[stored],
        "stored rank, right unit": phase[stored], "true rank, right unit": phase[true],
    }  # fmt: skip


def _shares(phase: np.ndarray) -> np.ndarray:
    counted = np.histogram(phase, bins=BINS, range=(0, 1))[0]
    return counted / max(1, len(phase))


# ---- words


def _claims_answer(table: Table) -> str:
    """How many claims lie outside the interval of what is so."""
    claimed, low, high = (table.number(name) for name in ("claimed", "low", "high"))
    known = np.isfinite(claimed) & np.isfinite(low)
    outside = known & ((claimed < low) | (claimed > high))
    if not known.any():
        return "With one run nothing has an interval: see the table."
    return (
        f"{int(outside.sum())} of {several(int(known.sum()), 'claimed share')} lie outside the"
        " interval of the share that the true rank has."
    )


def _counts_answer(measures: Table) -> str:
    counted = dict(zip(measures.text("measure"), measures.number("jumps"), strict=True))
    expected = measures.number("expected")[0]
    return (
        f"The stored rank has {number(int(counted[STORED]))} jumps, the true one"
        f" {number(int(counted['stable_rank']))}, and Gaussian noise without a jump"
        f" {number(round(float(expected)))}."
    )


def _phases_answer(curves: dict[str, np.ndarray]) -> str:
    early = {name: float((phase < 0.1).mean()) if len(phase) else float("nan")
             for name, phase in curves.items()}  # fmt: skip
    shares: Sequence[str] = [f"{percent(share)} ({name})" for name, share in early.items()]
    return f"In the first tenth of training: {', '.join(shares)}."
