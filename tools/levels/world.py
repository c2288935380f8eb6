"""What a world without an effect is, and what the run says of one: the parts of the level table."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from energylens.stats.rates import clustered_rate_interval

LEVELS = (0.05, 0.01)
SETS, PLANTED_SETS = 200, 40


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One inference that a table or the report shows.

    Attributes:
        columns: `table.column` of every place that shows it, or a count of it.
        function: What computes it.
        null: What it must not reject.
        family: Whether any rejection in a data set counts, rather than each test by itself.
        levels: Nominal rates; a verdict that has one rate alone is given as p of 0 or 1.
    """

    name: str
    columns: tuple[str, ...]
    function: str
    null: str
    family: bool = False
    levels: tuple[float, ...] = LEVELS


@dataclass(frozen=True, kw_only=True)
class World:
    """A way to make data without an effect, and what is claimed of them.

    Attributes:
        says: How the data are made, and what is planted to see the power.
        draw: One data set: p-values by claim; with `planted`, of the planted ones alone.
        note: What is to be said of how it came out.
    """

    name: str
    says: str
    claims: tuple[Claim, ...]
    draw: Callable[[torch.Generator, bool], Mapping[str, Tensor]]
    note: str = ""


def measure(
    world: World, *, sets: int = SETS, planted_sets: int = PLANTED_SETS
) -> dict[str, dict[str, Any]]:
    """How often each claim of a world is made where nothing is, and where something is."""
    null = [world.draw(_generator(world, number), False) for number in range(sets)]
    found = [world.draw(_generator(world, -1 - number), True) for number in range(planted_sets)]
    return {claim.name: _measured(claim, null, found) for claim in world.claims}


def _generator(world: World, number: int) -> torch.Generator:
    """Its own stream for each data set, so that worlds and numbers of sets do not touch."""
    return torch.Generator().manual_seed(zlib.crc32(f"{world.name} {number}".encode()))


def _measured(
    claim: Claim, null: list[Mapping[str, Tensor]], found: list[Mapping[str, Tensor]]
) -> dict[str, Any]:
    tests, undefined, _ = _counts(claim, null, claim.levels[0])
    levels = {}
    for level in claim.levels:
        n, _, hits = _counts(claim, null, level)
        rate = clustered_rate_interval(hits, n)
        levels[f"{level:g}"] = {
            "rate": _rounded(rate.estimate), "low": _rounded(rate.low),
            "high": _rounded(rate.high),
        }  # fmt: skip
    n, _, hits = _counts(claim, found, claim.levels[0])
    power = float(hits.sum() / n.sum()) if float(n.sum()) else None
    return {
        "tests": int(tests.sum()), "undefined": int(undefined.sum()), "sets": len(null),
        "levels": levels, "power": None if power is None else round(power, 3),
        "planted": int(n.sum()),
    }  # fmt: skip


def _counts(
    claim: Claim, sets: list[Mapping[str, Tensor]], level: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Tests, undefined tests and rejections of every data set."""
    rows = []
    for found in sets:
        p = found[claim.name].double().flatten()
        known = p[~p.isnan()]
        hits = known <= level
        if claim.family:
            rows.append([float(len(known) > 0), float(len(known) == 0), float(hits.any())])
        else:
            rows.append([len(known), len(p) - len(known), int(hits.sum())])
    tests, undefined, hits = torch.tensor(rows, dtype=torch.float64).T
    return tests, undefined, hits


def _rounded(value: Tensor) -> float | None:
    number = float(value)
    return None if number != number else round(number, 4)


def verdict(measured: Mapping[str, Any], level: float) -> str:
    """What the interval of a rate says of its nominal level."""
    found = measured["levels"][f"{level:g}"]
    if found["low"] is None:
        return "undefined"
    if found["low"] > level:
        return "too liberal"
    return "conservative" if found["high"] < level else "holds"
