"""What changed between two runs, and which differences their intervals do not explain."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from energylens.core.errors import BadInput
from energylens.results.record import Estimate, Summary

# Of differences between runs that measure the same thing, so many lie outside their interval.
LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One figure of two runs.

    Attributes:
        value: Second minus first.
        low, high: 95 % interval of the difference; nan where a run gives no interval.
    """

    name: str
    first: Estimate
    second: Estimate
    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether both runs say how sure they are."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def undefined(self) -> bool:
        """Whether a run has no value."""
        return not math.isfinite(self.value)

    @property
    def exceeds(self) -> bool:
        """Whether the interval of the difference leaves out zero."""
        return self.known and not self.low <= 0 <= self.high


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs of one study.

    Attributes:
        changed: What was asked for or computed with, by name, where it differs: first, second.
        differences: Of the figures that both have, in the same unit.
        only_first, only_second: Names of figures that one run has alone or in another unit.
        verdicts: Controls whose verdict differs: passed in the first, passed in the second.
    """

    study: str
    subjects: tuple[str, str]
    changed: Mapping[str, tuple[Any, Any]]
    differences: tuple[Difference, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    verdicts: Mapping[str, tuple[bool, bool]]

    @property
    def beyond(self) -> tuple[Difference, ...]:
        """Differences beyond their intervals."""
        return tuple(d for d in self.differences if d.exceeds)

    @property
    def by_chance(self) -> float:
        """How many differences would be beyond their intervals if nothing had changed."""
        return LEVEL * sum(d.known for d in self.differences)


def compare(
    first: Summary,
    second: Summary,
    first_run: Mapping[str, Any],
    second_run: Mapping[str, Any],
) -> Comparison:
    """Set two runs of one study side by side.

    The interval of a difference is made of those of its two estimates (MOVER: Zou & Donner 2008),
    as of independent runs. Runs on the same documents share their noise, so that their interval is
    too wide rather than too narrow.

    Args:
        first_run, second_run: What `run.json` of each says.

    Raises:
        BadInput: If the runs are of different studies, or have no figure in common.
    """
    if first.study != second.study:
        raise BadInput(
            f"a run of {first.study} and one of {second.study} cannot be compared: their figures"
            " answer different questions"
        )
    shared = [name for name, estimate in first.figures.items()
              if name in second.figures and _like(estimate, second.figures[name])]  # fmt: skip
    if not shared:
        raise BadInput(
            f"the two runs of {first.study} have no figure in common: they were made with other"
            " options or by another version"
        )
    return Comparison(
        study=first.study,
        subjects=(first.subject, second.subject),
        changed=_changed(first_run, second_run),
        differences=tuple(
            difference(name, first.figures[name], second.figures[name]) for name in shared
        ),
        only_first=tuple(name for name in first.figures if name not in shared),
        only_second=tuple(name for name in second.figures if name not in shared),
        verdicts={
            control.label: (control.passed, second.controls[name].passed)
            for name, control in first.controls.items()
            if name in second.controls and control.passed != second.controls[name].passed
        },
    )


def difference(name: str, first: Estimate, second: Estimate) -> Difference:
    """Second minus first, with the interval that theirs give.

    Example:
        >>> a = Estimate(1.0, "nats", low=0.7, high=1.4)
        >>> b = Estimate(2.0, "nats", low=1.6, high=2.3)
        >>> d = difference("x", a, b)
        >>> round(d.low, 6), round(d.high, 6), d.exceeds
        (0.434315, 1.424264, True)
    """
    value = float(second.value) - float(first.value)
    below = math.hypot(second.value - second.low, first.high - first.value)
    above = math.hypot(second.high - second.value, first.value - first.low)
    return Difference(
        name=name, first=first, second=second, value=value, low=value - below, high=value + above
    )


def _like(first: Estimate, second: Estimate) -> bool:
    """Whether two estimates are of one quantity; a unit such as `of 3,790 features` may differ in
    its count."""

    def words(unit: str) -> str:
        return "".join(c for c in unit if not (c.isdigit() or c in ".,"))

    return words(first.unit) == words(second.unit)


def _changed(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Options, inputs and versions that differ, by dotted name."""
    flat = [
        {
            **_flat(run.get("options") or {}),
            **_flat({name: {"name": entry.get("name"), "sha256": entry.get("sha256")}
                     for name, entry in (run.get("inputs") or {}).items()
                     if isinstance(entry, Mapping)}, "input"),
            **_flat(run.get("versions") or {}, "version"),
        }
        for run in (first, second)
    ]  # fmt: skip
    names = dict.fromkeys([*flat[0], *flat[1]])
    return {
        name: (flat[0].get(name), flat[1].get(name))
        for name in names
        if flat[0].get(name) != flat[1].get(name)
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else key
        found |= _flat(value, name) if isinstance(value, Mapping) else {name: value}
    return found
