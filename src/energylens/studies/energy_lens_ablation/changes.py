"""What a change of one choice does to each outcome, beside what a change of the seed does."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from energylens.results.compare import difference
from energylens.results.record import Estimate
from energylens.stats.multiplicity import benjamini_hochberg
from energylens.stats.spread import Change, change_from_repeats, change_in_pairs
from energylens.studies.children import Outcome
from energylens.studies.energy_lens_ablation.outcomes import OUTCOMES, share_beyond

Row = dict[str, Any]
LEVEL = 0.05
BASE = "base"
ENERGY, SITE = "energy", "site"
HEADLINE = "downstream"
COUNTS, SHARES = ("beyond", "covarying"), ("beyond_share", "rate_at_05")


def change_rows(runs: Sequence[Row], outcomes: Sequence[Outcome]) -> list[Row]:
    """One row a change and outcome; q is over all rows.

    Args:
        runs: Rows of `ablation_runs`.
        outcomes: The runs themselves, in the order of those rows.
    """
    seeds = {row["run"] for row in runs if row["factor"] == BASE}
    repeats = [outcome for outcome in outcomes if outcome.name in seeds]
    rows = [*_options(runs), *_energies(repeats), *_sites(repeats)]
    q = benjamini_hochberg(torch.tensor([row["p"] for row in rows], dtype=torch.float64))
    return [{**row, "q": float(one), "exceeds": bool(row["p"] < LEVEL)}
            for row, one in zip(rows, q, strict=True)]  # fmt: skip


def _options(runs: Sequence[Row]) -> Iterator[Row]:
    """An option changed: one run against the base point's runs with other seeds."""
    for outcome in OUTCOMES:
        mine = [row for row in runs if row["outcome"] == outcome]
        base = [row for row in mine if row["factor"] == BASE]
        repeats = _tensor([row["value"] for row in base])
        for row in (row for row in mine if row["factor"] != BASE):
            change = change_from_repeats(
                _tensor(row["value"]), repeats, least=_counting(outcome, [row, *base])
            )
            # The base run with the same seed read the same documents.
            twin = next(b for b in base if b["seed"] == row["seed"])
            by_documents = difference(outcome, _estimate(twin), _estimate(row))
            yield _row(
                row["factor"], str(row["level"]), outcome, row["value"], repeats, change,
                documents=(by_documents.low, by_documents.high),
            )  # fmt: skip


def _counting(outcome: str, rows: Sequence[Row]) -> float:
    """Standard deviation of a count or share that counting alone gives, were all runs alike."""
    mean = math.fsum(row["value"] for row in rows) / len(rows)
    if outcome in COUNTS:
        return math.sqrt(mean)
    if outcome in SHARES:
        return _counting_share(mean, math.fsum(row["n"] for row in rows) / len(rows))
    return 0.0


def _counting_share(share: float, n: float) -> float:
    return math.sqrt(share * (1 - share) / n) if n and math.isfinite(share) else 0.0


def _energies(repeats: Sequence[Outcome]) -> Iterator[Row]:
    """Another energy than the headline one, read in the same runs."""
    found = {energy: [share_beyond(run, energy=energy) for run in repeats]
             for energy in _distinct(repeats, "energy")}  # fmt: skip
    yield from _in_pairs(ENERGY, found, found[HEADLINE], skip=HEADLINE)


def _sites(repeats: Sequence[Outcome]) -> Iterator[Row]:
    """One site against all of them together, read in the same runs."""
    sites = _distinct(repeats, "site")
    if len(sites) > 1:
        found = {site: [share_beyond(run, site=site) for run in repeats] for site in sites}
        yield from _in_pairs(SITE, found, [share_beyond(run) for run in repeats])


def _in_pairs(
    factor: str,
    found: Mapping[str, Sequence[Estimate]],
    reference: Sequence[Estimate],
    *,
    skip: str = "",
) -> Iterator[Row]:
    against = _tensor([one.value for one in reference])
    for level, estimates in found.items():
        if level == skip:
            continue
        values = _tensor([one.value for one in estimates])
        share = float(torch.cat([values, against]).mean())
        least = math.hypot(*(_counting_share(share, sum(one.n for one in side) / len(side))
                             for side in (estimates, reference)))  # fmt: skip
        change = change_in_pairs(values, against, least=least)
        yield _row(factor, level, "beyond_share", float(values.mean()), against, change)


def _row(
    factor: str,
    level: str,
    outcome: str,
    value: float,
    repeats: Tensor,
    change: Change,
    *,
    documents: tuple[float | int, float | int] = (math.nan, math.nan),
) -> Row:
    label, unit = OUTCOMES[outcome]
    return {
        "factor": factor, "level": level, "outcome": outcome, "label": label, "unit": unit,
        "value": value, "reference": float(repeats.mean()), "reference_sd": float(repeats.std()),
        "change": float(change.interval.estimate), "low": float(change.interval.low),
        "high": float(change.interval.high), "spread": float(change.error),
        "documents_low": float(documents[0]), "documents_high": float(documents[1]),
        "p": float(change.p), "n_seeds": len(repeats),
    }  # fmt: skip


def _estimate(row: Row) -> Estimate:
    return Estimate(row["value"], row["unit"], low=row["low"], high=row["high"])


def _distinct(repeats: Sequence[Outcome], column: str) -> list[str]:
    return list(dict.fromkeys(repeats[0].tables["layers"].column(column).to_pylist()))


def _tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
