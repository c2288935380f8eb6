"""The laws of a sweep: FVU by width and tokens at each site and k, beside what has no features."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from energylens.stats.interval import Interval
from energylens.stats.scaling import ScalingLaw, log_slope, scaling_law

Row = dict[str, Any]
AXES = ("width", "tokens")


def law_rows(points: Sequence[Row]) -> list[Row]:
    """A law for each site and k, in the sizes that vary; undefined with a sentence, if it is."""
    return [
        {"site": site, "k": k, "axes": " and ".join(axes) or "none", **_columns(axes, law)}
        for (site, k), rows in grouped(points, "site", "k")
        for axes, law in [_law(rows)]
    ]


def slope_rows(points: Sequence[Row], shuffled: Sequence[Row]) -> list[Row]:
    """The slope of ln FVU on ln width at each site, k and amount of text, beside both nulls."""
    least = min(row["tokens"] for row in points)
    rows = []
    for (site, k, tokens), mine in grouped(points, "site", "k", "tokens"):
        null = [row for row in shuffled if (row["site"], row["k"]) == (site, k)]
        rows.append({
            "site": site, "k": k, "tokens": tokens, "points": len(mine),
            **_slope("slope", mine, "fvu"), **_slope("random", mine, "fvu_null"),
            **_slope("shuffled", null if tokens == least else [], "fvu"),
        })  # fmt: skip
    return rows


def grouped(rows: Sequence[Row], *names: str) -> Iterator[tuple[tuple[Any, ...], list[Row]]]:
    """Rows that agree in some columns, in the order in which they come."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    yield from found.items()


def _law(rows: Sequence[Row]) -> tuple[list[str], ScalingLaw]:
    axes = [name for name in AXES if len({row[name] for row in rows}) > 1]
    known = [row for row in rows if math.isfinite(row["fvu"]) and row["fvu"] > 0]
    sizes = _tensor([[row[name] for name in axes or AXES[:1]] for row in known])
    fvu = _tensor([row["fvu"] for row in known])
    return axes, scaling_law(fvu, sizes, block=_block(known))


def _block(rows: Sequence[Row]) -> Tensor | None:
    """The seed, whose text and held-out documents its dictionaries share. Where the text of one
    ran out earlier, seeds cannot be taken to one level."""
    places = {str(sorted((row["width"], row["tokens"]) for row in mine))
              for _, mine in grouped(rows, "seed")}  # fmt: skip
    return torch.tensor([row["seed"] for row in rows]) if len(places) == 1 else None


def _columns(axes: Sequence[str], law: ScalingLaw) -> Row:
    row = {
        "points": law.points, **_ends("floor", law.floor), "error": law.error,
        "explained": law.explained, "misfit_p": law.misfit_p, "why": law.why,
    }  # fmt: skip
    for name in AXES:
        at = axes.index(name) if name in axes else None
        ends = (law.exponent.estimate, law.exponent.low, law.exponent.high)
        parts = (*ends, law.amplitude, law.unit)
        keys = ("exponent", "exponent_low", "exponent_high", "amplitude", "unit")
        row |= {
            f"{name}_{key}": math.nan if at is None else float(part[at])
            for key, part in zip(keys, parts, strict=True)
        }
    return row


def _slope(name: str, rows: Sequence[Row], value: str) -> Row:
    known = [row for row in rows if row[value] > 0]
    found = log_slope(
        _tensor([row[value] for row in known]), _tensor([row["width"] for row in known]),
        block=_block(known) if known else None,
    )  # fmt: skip
    return _ends(name, found)


def _ends(name: str, found: Interval) -> Row:
    return {
        name: float(found.estimate), f"{name}_low": float(found.low),
        f"{name}_high": float(found.high),
    }  # fmt: skip


def _tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
