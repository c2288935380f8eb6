"""What a study says it found: frozen records, without a disk and without a model.

A number never stands alone: beside the value are its unit, its 95 % interval, the null it must
beat, and the count of independent units. What is undefined is nan, and is counted.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from energylens.core.errors import ArtifactRefused
from energylens.results.format import fixed, interval, number, p_value
from energylens.results.plain import decode, encode
from energylens.results.show import Bar, Row, Shown, ShowsItself

SCHEMA = 1
FIGURE_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+){0,2}")

Number: TypeAlias = float | int
Scalar: TypeAlias = float | int | str | bool | None
Grade: TypeAlias = Literal["real", "quick", "control"]

_NUMBERS = ("value", "low", "high", "null_mean", "null_sd", "p", "q")
Z95 = 1.96  # half-width of a 95 % band of a normal null, in standard deviations


@dataclass(frozen=True, repr=False)
class Estimate(ShowsItself):
    """A number with everything that says how far to trust it.

    Attributes:
        value: The estimate; nan where undefined.
        unit: Its unit of measure, as in "nats" or "correlation".
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        null_mean: Mean of the same quantity under the null.
        null_sd: Its standard deviation under the null.
        p: Of the null, one estimate alone.
        q: After control of the false discovery rate.
        n: Independent units behind the estimate.
        n_unit: What one unit is, as in "documents".
        undefined: How many of what was asked for came out undefined.
        label: What a person reads on a card.
        note: One phrase on method or on the null.

    Example:
        >>> Estimate(0.218, "correlation", low=0.17, high=0.26, n=160, n_unit="documents").high
        0.26
    """

    value: Number
    unit: str
    _: KW_ONLY
    low: Number = math.nan
    high: Number = math.nan
    null_mean: Number = math.nan
    null_sd: Number = math.nan
    p: Number = math.nan
    q: Number = math.nan
    n: int = 0
    n_unit: str = ""
    undefined: int = 0
    label: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if any(math.isinf(getattr(self, name)) for name in _NUMBERS):
            raise ValueError(f"an estimate is infinite: {self}")
        if self.low > self.high or self.null_sd < 0 or self.n < 0 or self.undefined < 0:
            raise ValueError(f"an interval is upside down, or a count is negative: {self}")
        if any(p < 0 or p > 1 for p in (self.p, self.q)):
            raise ValueError(f"p and q lie between 0 and 1: {self}")

    @property
    def bar(self) -> Bar:
        """Value, interval and the null's 95 % band, in the estimate's unit."""
        half = 0.0 if math.isnan(self.null_sd) else Z95 * self.null_sd
        return Bar(
            value=self.value, low=self.low, high=self.high,
            null_low=self.null_mean - half, null_high=self.null_mean + half,
        )  # fmt: skip

    @property
    def value_and_unit(self) -> tuple[str, str]:
        """The value to the digits that its interval supports, and what it counts or measures."""
        counted = self.n > 0 and self.unit == self.n_unit
        shown = interval(self.value, self.low, self.high).split(" [")[0]
        return shown, f"of {self.n:,} {self.n_unit}" if counted else self.unit

    @property
    def told(self) -> tuple[str, ...]:
        """The bar in words: interval, null, p and units, each only where it is known."""
        words = []
        if math.isfinite(self.low) and math.isfinite(self.high):
            words.append(f"95 % [{interval(self.value, self.low, self.high).split(' [')[1]}")
        if math.isfinite(self.null_mean):
            spread = f" ± {number(self.null_sd, digits=2)}" if math.isfinite(self.null_sd) else ""
            words.append(f"null {_to_the_place_of(self.null_mean, self.null_sd)}{spread}")
        if math.isfinite(self.p):
            words.append(f"p {p_value(self.p)}")
        if self.n and self.unit != self.n_unit:
            words.append(f"n = {self.n:,} {self.n_unit}".strip())
        return tuple(words)

    def row(self, name: str = "") -> Row:
        """One line of a table; `name` where the estimate has no label."""
        told = self.told if math.isfinite(self.null_mean) else (*self.told, "no null")
        if self.undefined:
            told += (f"{self.undefined:,} undefined",)
        shown, unit = self.value_and_unit
        value = f"{shown} {unit}".strip() if math.isfinite(self.value) else shown
        return Row(label=self.label or name, value=value, bar=self.bar, told=told)

    def shown(self) -> Shown:
        return Shown(rows=[self.row()], notes=[self.note] if self.note else [])


def _to_the_place_of(null: Number, sd: Number) -> str:
    """A null's mean, no finer than its spread."""
    if not sd > 0:
        return number(null, digits=2)
    return fixed(null, max(0, 1 - math.floor(math.log10(sd))))


@dataclass(frozen=True, kw_only=True, repr=False)
class Control(ShowsItself):
    """A check that runs beside the real thing, and whether it came out as it must.

    Attributes:
        label: What a person reads.
        value: What was found.
        expected: What must be found, as a number or in words.
        passed: Whether it was.
        sentence: The same in one sentence.
    """

    label: str
    value: Scalar
    expected: Scalar
    passed: bool
    sentence: str

    def row(self) -> Row:
        verdict = "held" if self.passed else "FAILED"
        return Row(label=self.label, value=verdict, told=(self.sentence,))

    def shown(self) -> Shown:
        return Shown(rows=[self.row()])


_BUDGET = {
    "quick": "A quick budget: read the intervals before the values.",
    "control": "A control only: nothing here is a finding about a real model.",
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Summary(ShowsItself):
    """The finding of a study and the numbers behind it; `summary.json` of a run.

    Attributes:
        study: Name of the study.
        subject: The model and the data, in one line.
        finding: One or two sentences, computed from the records.
        detail: One sentence under it.
        grade: "real" model and data, a "quick" budget, or a "control" only.
        figures: Estimates by name, `quantity[.contender][.condition]` in lower case.
        controls: Controls by name.
        cards: Names of the figures to show first, in order.
        limits: What this run cannot tell, one sentence each.
        suspicious: What deserves a second look, one sentence each; none is said too.
    """

    study: str
    subject: str
    finding: str
    detail: str = ""
    grade: Grade = "real"
    figures: Mapping[str, Estimate] = field(default_factory=dict)
    controls: Mapping[str, Control] = field(default_factory=dict)
    cards: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    suspicious: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (*self.figures, *self.controls):
            check_name(name)
        if unknown := [name for name in self.cards if name not in self.figures]:
            raise ValueError(f"cards {unknown} are not among the figures {sorted(self.figures)}")
        if self.grade not in ("real", "quick", "control"):
            raise ValueError(f"grade {self.grade!r} is not real, quick or control")

    def shown(self) -> Shown:
        named = self.cards or tuple(self.figures)
        more = len(self.figures) - len(named)
        notes = [_BUDGET[self.grade]] if self.grade in _BUDGET else []
        notes += [f"{more} more in `figures`."] if more else []
        return Shown(
            caption=f"{self.study}: {self.subject}",
            says=" ".join(filter(None, (self.finding, self.detail))),
            rows=[
                *(self.figures[name].row(name) for name in named),
                *(control.row() for control in self.controls.values()),
            ],
            notes=[*notes, *self.suspicious, *self.limits],
        )

    def to_json(self) -> bytes:
        """`summary.json`: nan as null; equal summaries give equal bytes."""
        return encode({"schema": SCHEMA, **asdict(self)})

    @classmethod
    def from_json(cls, data: bytes, name: str = "summary.json") -> "Summary":
        """Read `summary.json` back; null where a number belongs is nan again.

        Raises:
            ArtifactRefused: If it is damaged, or was written by a newer version.
        """
        record = decode(data, name)
        if not isinstance(record, dict) or record.pop("schema", None) != SCHEMA:
            raise ArtifactRefused(f"{name} does not follow schema {SCHEMA}: run the study again")
        try:
            return cls(
                **{
                    **record,
                    "figures": {k: estimate_of(v) for k, v in record["figures"].items()},
                    "controls": {k: Control(**v) for k, v in record["controls"].items()},
                    **{k: tuple(record[k]) for k in ("cards", "limits", "suspicious")},
                }
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ArtifactRefused(f"{name} lacks what schema {SCHEMA} asks: {error}") from error


def check_name(name: str) -> None:
    """A figure is named `quantity[.contender][.condition]`, in lower case.

    Raises:
        ValueError: If it is named otherwise.

    Example:
        >>> check_name("features_beyond_chance.downstream.layer_15")
        >>> check_name("EFAS max")
        Traceback (most recent call last):
        ValueError: 'EFAS max' is not of the form quantity[.contender][.condition] in lower case
    """
    if not FIGURE_NAME.fullmatch(name):
        form = "quantity[.contender][.condition] in lower case"
        raise ValueError(f"{name!r} is not of the form {form}")


def estimate_of(record: Mapping[str, Any]) -> Estimate:
    """An estimate as `summary.json` holds it; null where a number belongs is nan."""
    filled: dict[str, Any] = {
        k: math.nan if v is None and k in _NUMBERS else v for k, v in record.items()
    }
    return Estimate(**filled)
