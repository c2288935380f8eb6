"""Does it depend on the kind of text? Each kind beside as many documents drawn blindly."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame, zero
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.places import depth as blocks_below
from energylens.report.records import Records, Table
from energylens.results.format import interval, several

LEVEL = 0.05
BAND = 5.0  # points


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A quantity of the table, in words and with its unit."""

    name: str
    words: str
    across: str
    signed: bool = False


DRAWN = (
    Quantity(name="downstream", words="the model's own loss",
             across="downstream energy (nats per token)"),
    Quantity(name="fvu", words="variance unexplained by the dictionary",
             across="variance unexplained (share)"),
    Quantity(name="ablation", words="effect of ablations",
             across="change of the loss by an ablation (nats)", signed=True),
)  # fmt: skip
NAMES = {quantity.name: quantity.words for quantity in DRAWN} | {
    "tuned": "surprisal through the tuned lens",
    "l0": "active features per token",
    "ablation of the same feature": "effect of ablations beside the same features' mean",
}
COLUMNS: tuple[tuple[str, str, bool], ...] = (
    ("n_documents", "documents", False), ("mean", "mean", False), ("low", "95 % from", False),
    ("high", "to", False), ("null_low", "drawn blindly from", False), ("null_high", "to", False),
    ("rest", "all others", False), ("difference", "difference", True),
    ("difference_low", "95 % from", True), ("difference_high", "to", True), ("p", "p", False),
    ("q", "q", False),
)  # fmt: skip


def figure(records: Records) -> Figure | None:
    table = records.table("text_classes")
    if table is None:
        return None
    kinds = list(dict.fromkeys(table.text("class")))
    there = set(table.text("quantity"))
    height = 96 + 34 * len(kinds)
    return Figure(
        name="text_classes",
        question="Does it depend on the kind of text?",
        short="Text",
        answer=_answer(table, records.table("feature_classes")),
        notes=_notes(table),
        method=("method-text-classes", "kinds of text"),
        panels=[
            Panel(draw=partial(_draw, table=table, quantity=quantity, kinds=kinds), height=height,
                  label=f"Mean by kind of text: {quantity.words}.")
            for quantity in DRAWN if quantity.name in there
        ],
        columns=_columns(table),
        tells=("quantity", "site", "class", "mean", "low", "high", "difference", "q"),
        wide=True,
    )  # fmt: skip


def _columns(table: Table) -> list[Column]:
    words = [
        Column(name=name, label=label, cells=table.text(name))
        for name, label in (("quantity", "quantity"), ("site", "site"), ("class", "text"))
    ]
    return words + [
        Column(name=name, label=label, cells=table.number(name), signed=signed)
        for name, label, signed in COLUMNS
    ]


def _notes(table: Table) -> list[str]:
    documents = table.equal("quantity", "downstream").number("n_documents")
    least = int(documents.min()) if len(documents) else 0
    return [
        f"n = {int(documents.sum()):,} held-out documents, {least} or more a kind; "
        "ablations in half of them",
        "unit: document",
        "a mark a site; bars: 95 % over documents; no mark where a kind has fewer than 5",
        "null (grey): where the mean of as many documents lies that are drawn from all blindly",
        "q: permutation of kinds among documents, Benjamini–Hochberg over all rows of the table",
        "other quantities in the table",
    ]


def _draw(axes: Axes, *, table: Table, quantity: Quantity, kinds: Sequence[str]) -> Marks:
    frame(axes, across=quantity.across, up="", signed="x" if quantity.signed else "")
    axes.grid(visible=False)
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.set_yticks(range(len(kinds)), kinds)
    axes.locator_params(axis="x", nbins=5)  # two decimals need room
    if quantity.signed:
        zero(axes, across=True)
    rows = np.flatnonzero([name == quantity.name for name in table.text("quantity")])
    here = table.where(rows)
    y = _heights(here, kinds)
    axes.hlines(y, here.number("null_low"), here.number("null_high"), color=LIGHT["null"],
                linewidth=BAND, zorder=1)  # fmt: skip
    beyond = here.number("q") <= LEVEL
    colors = np.where(beyond, LIGHT["accent"], LIGHT["dot"])
    axes.hlines(y, here.number("low"), here.number("high"), color=colors, linewidth=1.3, zorder=2)
    x = here.number("mean")
    axes.scatter(x, y, s=26, color=colors, edgecolor=LIGHT["paper"], linewidth=0.6, zorder=3)
    return Marks(x=x, y=y, rows=rows)


def _heights(here: Table, kinds: Sequence[str]) -> np.ndarray:
    """One line a kind, its sites fanned out around it by depth."""
    sites = sorted(set(here.text("site")), key=blocks_below)
    fan = np.linspace(-0.3, 0.3, len(sites)) if len(sites) > 1 else np.zeros(1)
    return np.array([
        kinds.index(kind) + fan[sites.index(site)]
        for kind, site in zip(here.text("class"), here.text("site"), strict=True)
    ])  # fmt: skip


def _answer(table: Table, features: Table | None) -> str:
    return " ".join(filter(None, [_loss(table), _beyond(table), _features(features)]))


def _loss(table: Table) -> str:
    """Which kind's loss is furthest from that of all others."""
    loss = table.equal("quantity", "downstream")
    difference = np.abs(loss.number("difference"))
    if not np.isfinite(difference).any():
        return "The losses of the kinds of text cannot be compared."
    row = int(np.nanargmax(difference))
    value, low, high = (
        float(loss.number(name)[row])
        for name in ("difference", "difference_low", "difference_high")
    )
    verdict = "beyond chance" if loss.number("q")[row] <= LEVEL else "within chance"
    return (
        f"The loss differs most on {loss.text('class')[row]}: {interval(value, low, high)} nats"
        f" per token from that on all other text, {verdict}."
    )


def _beyond(table: Table) -> str:
    """How many comparisons of each quantity are beyond chance."""
    quantity, q = np.array(table.text("quantity")), table.number("q")
    told = []
    for name in dict.fromkeys(quantity):
        here = q[quantity == name]
        defined = int(np.isfinite(here).sum())
        if defined:
            told.append(f"{int((here <= LEVEL).sum())} of {defined} in {NAMES.get(name, name)}")
    if not told:
        return ""
    return f"Comparisons of one kind with all others that are beyond chance: {', '.join(told)}."


def _features(features: Table | None) -> str:
    """Features with a page that are active more on one kind than on the others."""
    if features is None:
        return ""
    more = features.number("density") > features.number("density_rest")
    found = more & (features.number("q") <= LEVEL)
    each = list(zip(features.text("site"), features.number("feature").tolist(), strict=True))
    tested = {which for which, q in zip(each, features.number("q"), strict=True) if np.isfinite(q)}
    if not tested:
        return ""
    drawn = {which for which, more_here in zip(each, found, strict=True) if more_here}
    text = (
        f"{len(drawn):,} of {several(len(tested), 'feature')} with a page"
        f" {'is' if len(drawn) == 1 else 'are'} active more often on a kind of text than elsewhere"
    )
    if not drawn:
        return text + "."
    kinds = np.array(features.text("class"))[found].tolist()
    most = max(sorted(set(kinds)), key=kinds.count)
    return f"{text}, most often on {most} ({kinds.count(most):,})."
