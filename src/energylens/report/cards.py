"""The figures at a glance: value, interval as a bar, null as a grey band, all on one scale."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from energylens.results.format import fixed, interval, number, p_value

NAN = float("nan")
Z95 = 1.96  # half-width of a 95 % band of a normal null, in standard deviations


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Places on the card's scale, 0 to 100; nan where there is none."""

    value: float
    low: float
    high: float
    null_low: float
    null_high: float


@dataclass(frozen=True, kw_only=True)
class Card:
    """One figure of the summary as the page shows it."""

    label: str
    value: str
    unit: str
    note: str
    bar: Bar
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
    value, low, high, null, sd = (
        NAN if figure.get(name) is None else float(figure[name])
        for name in ("value", "low", "high", "null_mean", "null_sd")
    )
    counted = bool(figure.get("n")) and figure.get("unit") == figure.get("n_unit")
    shown = interval(value, low, high).split(" [")[0]
    return Card(
        label=figure.get("label", ""),
        value=shown,
        unit=f"of {figure['n']:,} {figure['n_unit']}" if counted else figure.get("unit", ""),
        note=figure.get("note", ""),
        bar=_bar(value, low, high, null, 0.0 if math.isnan(sd) else sd),
        told=_told(figure, value, low, high, null, sd),
    )


def _told(
    figure: Mapping[str, Any], value: float, low: float, high: float, null: float, sd: float
) -> tuple[str, ...]:
    words = []
    if math.isfinite(low) and math.isfinite(high):
        words.append(f"95 % [{interval(value, low, high).split(' [')[1]}")
    spread = f" ± {number(sd, digits=2)}" if math.isfinite(sd) else ""
    words.append(f"null {_to_the_place_of(null, sd)}{spread}")
    if figure.get("p") is not None:
        words.append(f"p {p_value(float(figure['p']))}")
    if figure.get("n") and figure.get("unit") != figure.get("n_unit"):
        words.append(f"n = {figure['n']:,} {figure.get('n_unit', '')}".strip())
    return tuple(words)


def _to_the_place_of(null: float, sd: float) -> str:
    """A null's mean, no finer than its spread."""
    if not sd > 0:
        return number(null, digits=2)
    return fixed(null, max(0, 1 - math.floor(math.log10(sd))))


def _bar(value: float, low: float, high: float, null: float, sd: float) -> Bar:
    places = [value, low, high, null - Z95 * sd, null + Z95 * sd]
    known = [place for place in places if math.isfinite(place)]
    start, width = min(known), (max(known) - min(known)) or 1.0
    on_scale = [4 + 92 * (place - start) / width for place in places]
    narrow = max(0.0, 2 - (on_scale[4] - on_scale[3])) / 2  # a null without spread still shows
    return Bar(
        value=on_scale[0], low=on_scale[1], high=on_scale[2],
        null_low=on_scale[3] - narrow, null_high=on_scale[4] + narrow,
    )  # fmt: skip
