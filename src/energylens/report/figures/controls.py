"""Would noise pass too? The share of features with p < .05, the real thing beside its controls."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import HEADLINES, Records, Table
from energylens.results.format import percent, several

NOMINAL = 0.05
REAL = "the real features"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One analysis of one site: the real one or a control."""

    what: str
    energy: str
    site: str
    layer: float
    scored: float
    discoveries: float
    rate: float
    low: float
    high: float
    largest: float
    verdict: str


def figure(records: Records) -> Figure | None:
    controls = records.table("controls")
    if controls is None:
        return None
    rows = [*_real(records.table("layers")), *_controls(controls)]
    shown = [i for i, row in enumerate(rows) if row.energy in HEADLINES]
    kinds = list(dict.fromkeys(rows[i].what for i in shown))
    height = 96 + 44 * len(kinds)
    panels = [
        Panel(draw=partial(_draw_rates, rows=rows, shown=shown, kinds=kinds), height=height,
              label="Share of features with p below .05, by analysis."),
        Panel(draw=partial(_draw_counts, rows=rows, shown=shown, kinds=kinds), height=height,
              label="Features beyond chance, by analysis."),
    ]  # fmt: skip
    return Figure(
        name="controls",
        question="Would noise pass as well?",
        short="Noise",
        answer=_answer([rows[i] for i in shown]),
        notes=[
            "one mark a site; bars: 95 %",
            "dashed: the 5 % that noise gives at p < .05",
            "every control runs through the same code as the real thing",
            f"{_energy(rows, shown)}; other energies in the table ({several(len(rows), 'row')})",
        ],
        method=("method-controls", "controls"),
        panels=panels,
        columns=_columns(rows),
        tells=("what", "site", "rate", "discoveries", "scored"),
        wide=True,
    )


def _energy(rows: Sequence[Row], shown: Sequence[int]) -> str:
    name = rows[shown[0]].energy if shown else "no"
    return f"{name.replace('_', ' ')}{'' if name.startswith('class') else ' energy'}"


def _real(layers: Table | None) -> list[Row]:
    if layers is None:
        return []
    low, high = (
        layers.number(name) if name in layers.columns else np.full(layers.rows, np.nan)
        for name in ("rate_low", "rate_high")
    )
    return [
        Row(
            what=REAL, energy=layers.text("energy")[i], site=layers.text("site")[i],
            layer=layers.number("layer")[i], scored=layers.number("scored")[i],
            discoveries=layers.number("beyond")[i], rate=layers.number("rate_at_05")[i],
            low=low[i], high=high[i], largest=abs(layers.number("largest_efas")[i]), verdict="",
        )
        for i in range(layers.rows)
    ]  # fmt: skip


def _controls(controls: Table) -> list[Row]:
    verdict = {1.0: "passed", 0.0: "failed"}
    return [
        Row(
            what=controls.text("control")[i], energy=controls.text("energy")[i],
            site=controls.text("site")[i], layer=controls.number("layer")[i],
            scored=controls.number("scored")[i], discoveries=controls.number("discoveries")[i],
            rate=controls.number("rate_at_05")[i], low=controls.number("rate_low")[i],
            high=controls.number("rate_high")[i], largest=controls.number("largest")[i],
            verdict=verdict.get(controls.number("passed")[i], "no verdict"),
        )
        for i in range(controls.rows)
    ]  # fmt: skip


def _columns(rows: Sequence[Row]) -> list[Column]:
    labels = {
        "what": "analysis", "energy": "energy", "site": "site", "layer": "layer",
        "scored": "scored", "discoveries": "beyond chance", "rate": "share with p < .05",
        "low": "95 % from", "high": "to", "largest": "largest |EFAS|", "verdict": "verdict",
    }  # fmt: skip
    return [
        Column(name=name, label=label, cells=[getattr(row, name) for row in rows])
        for name, label in labels.items()
    ]


def _heights(rows: Sequence[Row], shown: Sequence[int], kinds: Sequence[str]) -> np.ndarray:
    """One line a kind, its sites fanned out around it, the first kind on top."""
    heights = np.zeros(len(shown))
    for line, kind in enumerate(kinds):
        members = [k for k, i in enumerate(shown) if rows[i].what == kind]
        fan = np.linspace(-0.24, 0.24, len(members)) if len(members) > 1 else np.zeros(1)
        heights[members] = line + fan
    return heights


def _colors(rows: Sequence[Row], shown: Sequence[int]) -> list[str]:
    return [LIGHT["accent" if rows[i].what == REAL else "dot"] for i in shown]


def _dress(axes: Axes, kinds: Sequence[str], *, across: str) -> None:
    frame(axes, across=across, up="")
    axes.grid(visible=False)
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.set_yticks(range(len(kinds)), kinds)
    for kind, text in zip(kinds, axes.get_yticklabels(), strict=True):
        if kind == REAL:
            text.set(color=LIGHT["accent"], fontweight="bold")
    for line in range(len(kinds) - 1):
        axes.axhline(line + 0.5, color=LIGHT["hairline"], linewidth=0.8, zorder=0)


def _draw_rates(
    axes: Axes, *, rows: Sequence[Row], shown: Sequence[int], kinds: Sequence[str]
) -> Marks:
    _dress(axes, kinds, across="features with p < .05 (%)")
    y, colors = _heights(rows, shown, kinds), _colors(rows, shown)
    x = np.array([100 * rows[i].rate for i in shown])
    axes.axvline(
        100 * NOMINAL, color=LIGHT["muted"], linewidth=0.9, linestyle=(0, (3, 3)), zorder=1
    )
    low, high = (np.array([100 * getattr(rows[i], end) for i in shown]) for end in ("low", "high"))
    axes.hlines(y, low, high, color=colors, linewidth=1.3, zorder=2)
    axes.scatter(x, y, s=26, color=colors, edgecolor=LIGHT["paper"], linewidth=0.6, zorder=3)
    axes.set_xlim(left=0)
    return Marks(x=x, y=y, rows=shown)


def _draw_counts(
    axes: Axes, *, rows: Sequence[Row], shown: Sequence[int], kinds: Sequence[str]
) -> Marks:
    from matplotlib.ticker import MaxNLocator

    _dress(axes, kinds, across="features beyond chance (count)")
    y, colors = _heights(rows, shown, kinds), _colors(rows, shown)
    x = np.array([rows[i].discoveries for i in shown])
    axes.hlines(y, 0, x, color=colors, linewidth=1.3, zorder=2)
    axes.scatter(x, y, s=26, color=colors, edgecolor=LIGHT["paper"], linewidth=0.6, zorder=3)
    axes.set_xlim(-0.02 * max(1, x.max()), 1.1 * max(1, x.max()))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    return Marks(x=x, y=y, rows=shown)


def _answer(rows: Sequence[Row]) -> str:
    real = [row for row in rows if row.what == REAL]
    controls = [row for row in rows if row.what != REAL]
    if not controls:
        return "No control was run for the energy of the finding."
    rates = [row.rate for row in controls]
    found = int(sum(row.discoveries for row in controls))
    kinds = len({row.what for row in controls})
    text = (
        f"In {several(kinds, 'control')}, {_range(rates)} of features have p < .05 (5 % is chance) "
        f"and {found or 'none'} {'is' if found == 1 else 'are'} beyond chance."
    )
    if real:
        beyond = int(sum(row.discoveries for row in real))
        text += f" Among the real features: {_range([row.rate for row in real])}, and {beyond:,}."
    return text


def _range(shares: Sequence[float]) -> str:
    known = [share for share in shares if np.isfinite(share)]
    if not known:
        return "an undefined share"
    low, high = percent(min(known)), percent(max(known))
    return low if low == high else f"{low.removesuffix(' %')} to {high}"
