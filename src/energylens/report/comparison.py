"""Two runs side by side, as lines for a terminal."""

from collections.abc import Sequence

from energylens.results.compare import Comparison, Difference
from energylens.results.format import interval, number

WIDEST_VALUE = 40


def lines(found: Comparison, names: tuple[str, str]) -> list[str]:
    """What differs first, what agrees as a count; `names` are what a person calls the runs."""
    known = sum(d.known for d in found.differences)
    text = [found.study, f"  first   {names[0]}: {found.subjects[0]}",
            f"  second  {names[1]}: {found.subjects[1]}"]  # fmt: skip
    text += ["", "changed"]
    text += [f"  {name}: {_short(a)} → {_short(b)}" for name, (a, b) in found.changed.items()]
    if not found.changed:
        text.append("  nothing: same options, inputs and versions")
    text += [
        "",
        f"{len(found.beyond)} of {known} figures differ by more than their intervals allow;"
        f" {number(found.by_chance, digits=2)} would by chance",
    ]
    text += _table(found.beyond)
    judged = [d for d in found.differences if not d.undefined]
    if unsure := [d for d in judged if not d.known and d.value]:
        text += ["", f"{len(unsure)} differ and have no interval to judge by"]
        text += _table(unsure)
    text += [
        "",
        f"{sum(d.known and not d.exceeds for d in found.differences)} agree within their intervals",
    ]
    if undefined := sorted(d.name for d in found.differences if d.undefined):
        text.append(f"undefined in one or both: {', '.join(undefined)}")
    text += [
        f"control {label}: {_verdict(before)} → {_verdict(after)}"
        for label, (before, after) in found.verdicts.items()
    ]
    for which, alone in (("first", found.only_first), ("second", found.only_second)):
        if alone:
            text.append(f"only in the {which}: {', '.join(alone)}")
    return text


def _table(differences: Sequence[Difference]) -> list[str]:
    rows = [
        (d.name, interval(d.first.value, d.first.low, d.first.high),
         interval(d.second.value, d.second.low, d.second.high),
         interval(d.value, d.low, d.high, signed=True), _unit(d))
        for d in sorted(differences, key=lambda d: d.name)
    ]  # fmt: skip
    if not rows:
        return []
    head = ("figure", "first", "second", "difference", "unit")
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    return [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]


def _unit(found: Difference) -> str:
    first, second = found.first.unit, found.second.unit
    return first if first == second else f"{first} → {second}"


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= WIDEST_VALUE else f"{text[: WIDEST_VALUE - 1]}…"


def _verdict(passed: bool) -> str:
    return "passed" if passed else "failed"
