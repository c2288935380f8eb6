"""The figures at a glance: value, interval as a bar, null as a grey band, all on one scale."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from energylens.results.record import estimate_of
from energylens.results.show import Bar, on_one_scale


@dataclass(frozen=True, kw_only=True)
class Card:
    """One figure of the summary as the page shows it."""

    label: str
    value: str
    unit: str
    note: str
    bar: Bar
    """Places on the card's scale, 0 to 100."""
    told: tuple[str, ...]
    """The bar in words."""


def cards(summary: Mapping[str, Any]) -> list[Card]:
    """The cards that the summary names; a figure without a value or without its null is none."""
    figures = summary.get("figures", {})
    named = [figures[name] for name in summary.get("cards", []) if name in figures]
    return [
        _card(figure)
        for figure in named
        if figure.get("value") is not None and figure.get("null_mean") is not None
    ]


def _card(figure: Mapping[str, Any]) -> Card:
    estimate = estimate_of(figure)
    value, unit = estimate.value_and_unit
    return Card(
        label=estimate.label, value=value, unit=unit, note=estimate.note,
        bar=on_one_scale([estimate.bar])[0], told=estimate.told,
    )  # fmt: skip
