"""Claim by claim: what was claimed, what its definition gives, what is so, and why they differ."""

import math
from dataclasses import dataclass

from energylens.report.records import Records, Table
from energylens.results.format import interval, number, percent


@dataclass(frozen=True, kw_only=True)
class ClaimRow:
    """One quantity, its numbers ready to be read."""

    label: str
    claimed: str
    reproduced: str
    corrected: str
    null: str
    sentence: str


def claim_rows(records: Records) -> list[ClaimRow]:
    """Rows of the section; none without a table of claims."""
    table = records.table("original_comparison")
    return [] if table is None else [_row(table, place) for place in range(table.rows)]


def _row(table: Table, place: int) -> ClaimRow:
    share = table.text("unit")[place].startswith("of ")
    value, low, high, mean = (float(table.number(name)[place])
                              for name in ("corrected", "low", "high", "null_mean"))  # fmt: skip
    return ClaimRow(
        label=table.text("label")[place],
        claimed=_shown(float(table.number("claimed")[place]), share=share),
        reproduced=_shown(float(table.number("reproduced")[place]), share=share),
        corrected=_with_ends(value, low, high, share=share), null=_shown(mean, share=share),
        sentence=table.text("sentence")[place],
    )  # fmt: skip


def _shown(value: float | int, *, share: bool) -> str:
    if not math.isfinite(value):
        return "–"
    return percent(value, digits=3) if share else number(_whole(value))


def _with_ends(value: float | int, low: float | int, high: float | int, *, share: bool) -> str:
    if not (math.isfinite(low) and math.isfinite(high)):
        return _shown(value, share=share)
    if share:
        return f"{percent(value, digits=3)} [{_bare(low)}, {_bare(high)}]"
    return interval(_whole(value), low, high)


def _bare(share: float | int) -> str:
    return percent(share).removesuffix(" %")


def _whole(value: float | int) -> float | int:
    """Counts without a fraction that only an interval or a null has."""
    return round(value) if abs(value) >= 100 else value
