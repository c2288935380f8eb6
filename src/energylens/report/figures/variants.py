"""Does the way of correlating matter? Other correlations of activation and force, on request."""

from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table
from energylens.results.format import fixed, percent, several

NAMES = {
    "within": "within documents", "active": "active tokens alone", "ranks": "ranks (Spearman)",
    "information": "excess information",
}  # fmt: skip
LABELS = {
    "n_features": "features", "undefined": "undefined", "rate_at_05": "share with p < .05",
    "rate_low": "95 % from", "rate_high": "to", "rate_permuted": "share, rows permuted",
    "below_q_05": "q < .05", "rank_agreement": "rank correlation with Pearson's",
    "same_sign": "same sign as Pearson's",
}  # fmt: skip


def figure(records: Records) -> Figure | None:
    summary = records.table("variant_summary")
    if summary is None:
        return None
    return Figure(
        name="variants",
        question="Does the way of correlating matter?",
        short="Variants",
        answer=_answer(summary),
        notes=[
            f"n = up to {several(int(summary.number('n_features').max()), 'feature')}, on half of "
            "the held-out documents; information: those that were intervened on",
            "unit: document",
            "null (grey mark): decoder rows permuted; dashed: the 5 % that noise gives",
        ],
        method=("method-efas", "EFAS"),
        panels=[Panel(draw=partial(_draw, summary=summary), height=96 + 44 * summary.rows,
                      label="Share of features with p below .05, by way of correlating.")],
        columns=[
            Column(name="variant", label="variant", cells=_names(summary)),
            *(Column(name=name, label=label, cells=summary.number(name))
              for name, label in LABELS.items()),
        ],
        tells=("variant", "rate_at_05", "rate_permuted", "rank_agreement"),
    )  # fmt: skip


def _names(summary: Table) -> list[str]:
    return [NAMES.get(name, name) for name in summary.text("variant")]


def _draw(axes: Axes, *, summary: Table) -> Marks:
    frame(axes, across="features with p < .05 (%)", up="")
    axes.grid(visible=False)
    y = np.arange(summary.rows)
    rate, low, high, null = (
        100 * summary.number(name)
        for name in ("rate_at_05", "rate_low", "rate_high", "rate_permuted")
    )
    axes.axvline(5, color=LIGHT["muted"], linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)
    axes.plot(null, y, "|", ms=16, mew=3, color=LIGHT["null"], zorder=1)
    axes.hlines(y, low, high, color=LIGHT["accent"], linewidth=1.3, zorder=2)
    axes.plot(rate, y, "o", ms=6, mec=LIGHT["paper"], mew=0.6, color=LIGHT["accent"], zorder=3)
    axes.set_yticks(y, _names(summary))
    axes.set_ylim(summary.rows - 0.5, -0.5)
    axes.set_xlim(left=0)
    return Marks(x=rate, y=y.astype(float), rows=y)


def _answer(summary: Table) -> str:
    told = []
    for row, name in enumerate(_names(summary)):
        rate, null, agree = (
            float(summary.number(column)[row])
            for column in ("rate_at_05", "rate_permuted", "rank_agreement")
        )
        text = f"{name}: {percent(rate)} of features have p < .05"
        if np.isfinite(null):
            text += f" ({percent(null)} with decoder rows permuted)"
        told.append(text + f", ranks as Pearson's to {fixed(agree, 2)}")
    return "; ".join(told)[:1].upper() + "; ".join(told)[1:] + "."
