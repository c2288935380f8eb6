"""Claimed, reproduced, corrected: one row a quantity, each with a sentence on what differs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from energylens.results.format import number, percent, several
from energylens.results.record import Estimate
from energylens.stats.interval import Interval
from energylens.stats.rates import clustered_rate_interval
from energylens.studies.ndt_import.published import CLAIMS, PUBLISHED

Row = dict[str, Any]
NOWHERE = math.nan


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One quantity: what was claimed of it, what its definition gives, and what is so.

    Attributes:
        quantity: Name, by which the claim is looked up.
        label, unit: For a person.
        reproduced: By the original's definition on what it stored; nan if it has none.
        corrected: What is so; `how` says by which definition.
        ends: 95 % interval of `corrected`.
        null_mean, null_sd: Of `corrected`, where `null` is all there is.
        n, n_unit: Independent units.
        sentence: What differs, in words.
    """

    quantity: str
    label: str
    unit: str
    corrected: float | int
    how: str
    sentence: str
    reproduced: float | int = NOWHERE
    ends: tuple[float, float] = (NOWHERE, NOWHERE)
    null_mean: float = NOWHERE
    null_sd: float = NOWHERE
    null: str = ""
    n: int
    n_unit: str = "runs"

    def row(self) -> Row:
        """A row of the table `comparison`, with the claim."""
        claim = CLAIMS.get(self.quantity)
        return {
            "quantity": self.quantity, "label": self.label, "unit": self.unit,
            "claimed": float(claim.value) if claim else NOWHERE,
            "claim": claim.words if claim else "", "claimed_in": claim.file if claim else "",
            "reproduced": float(self.reproduced), "corrected": float(self.corrected),
            "low": self.ends[0], "high": self.ends[1], "null_mean": self.null_mean,
            "null_sd": self.null_sd, "null": self.null, "how": self.how, "n": self.n,
            "n_unit": self.n_unit, "sentence": self.sentence,
        }  # fmt: skip

    def estimate(self) -> Estimate:
        """A figure of the summary."""
        return Estimate(
            float(self.corrected), self.unit, low=self.ends[0], high=self.ends[1],
            null_mean=self.null_mean, null_sd=self.null_sd, n=self.n, n_unit=self.n_unit,
            undefined=int(math.isnan(self.corrected)), label=self.label,
            note=f"{self.how}; null: {self.null}" if self.null else self.how,
        )  # fmt: skip


def rate(successes: Tensor, trials: Tensor) -> Interval:
    """A share with its interval over runs; without ends where there is but one run."""
    if len(trials) >= 2 and bool((trials > 0).any()):
        return clustered_rate_interval(successes, trials)
    share = successes.double().sum() / trials.double().sum()
    nowhere = torch.tensor(NOWHERE, dtype=torch.float64)
    return Interval(estimate=share, low=nowhere, high=nowhere, level=0.95)


def ends_of(interval: Interval, scale: float = 1.0) -> tuple[float, float]:
    return float(interval.low) * scale, float(interval.high) * scale


def spread(draws: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of a null's draws."""
    values = torch.tensor(draws, dtype=torch.float64)
    return float(values.mean()), float(values.std()) if len(values) > 1 else NOWHERE


def with_null(share: float | int, ends: tuple[float, float], null: float | int) -> str:
    """A share in words with its interval and its null.

    Example:
        >>> with_null(0.325, (0.29, 0.36), 0.28)
        '33 % [29 %, 36 %], under the null 28 %'
    """
    inside = ""
    if all(math.isfinite(end) for end in ends):
        inside = f" [{percent(ends[0])}, {percent(ends[1])}]"
    beside = f", under the null {percent(null)}" if math.isfinite(null) else ""
    return f"{percent(share)}{inside}{beside}"


def beside_claim(quantity: str, value: float | int, names: Sequence[str], *, share: bool) -> str:
    """What was reproduced beside what was claimed; of fewer runs a claim says nothing.

    Example:
        >>> beside_claim("jumps", 12, ["mlp_wide_mnist"], share=False)
        '12 by its own definition (claimed of all 55 runs: 2,991)'
    """
    claim = CLAIMS[quantity].value
    shown, said = ((percent(value), percent(claim)) if share
                   else (number(value), number(claim)))  # fmt: skip
    if set(names) != set(PUBLISHED):
        return f"{shown} by its own definition (claimed of all {len(PUBLISHED)} runs: {said})"
    same = math.isclose(value, claim, rel_tol=5e-3, abs_tol=5e-4)
    return f"{shown} by its own definition, {'as' if same else 'where ' + said + ' was'} claimed"


def runs_of(count: int) -> str:
    """A number of runs in words.

    Example:
        >>> runs_of(1), runs_of(14)
        ('1 run', '14 runs')
    """
    return several(count, "run")
