"""What each run of the ablation came out with: seven figures, each beside its own null."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from energylens.results.record import Estimate
from energylens.stats.rates import wilson_interval
from energylens.studies.children import Outcome

Row = dict[str, Any]
# By name: label and unit, as the report shows them.
OUTCOMES: Mapping[str, tuple[str, str]] = {
    "beyond": ("features beyond chance", "count"),
    "beyond_share": ("features beyond chance", "share of scored features"),
    "covarying": ("features covarying with the force", "count"),
    "rate_at_05": ("features with p < .05", "share of scored features"),
    "largest_efas": ("largest |EFAS|", "correlation"),
    "calibration": ("rank correlation of predicted with measured ablation", "correlation"),
    "fvu": ("variance unexplained, FVU", "share"),
    "loss_recovered": ("loss recovered", "share"),
}  # fmt: skip


def run_rows(run: str, factor: str, level: int, seed: int, outcome: Outcome) -> Iterator[Row]:
    """One row an outcome of a run."""
    for name, estimate in outcomes_of(outcome).items():
        label, unit = OUTCOMES[name]
        yield {
            "run": run, "factor": factor, "level": level, "seed": seed, "outcome": name,
            "label": label, "unit": unit, "value": float(estimate.value),
            "low": float(estimate.low), "high": float(estimate.high),
            "null_mean": float(estimate.null_mean), "null_sd": float(estimate.null_sd),
            "n": estimate.n, "n_unit": estimate.n_unit,
        }  # fmt: skip


def outcomes_of(outcome: Outcome) -> dict[str, Estimate]:
    """The outcomes of one run, from its summary and tables."""
    figures = outcome.summary.figures
    beyond = figures["features_beyond_chance.downstream"]
    return {
        "beyond": beyond,
        "beyond_share": share_beyond(outcome),
        "covarying": figures["features_covarying.downstream"],
        "rate_at_05": figures["rate_at_05.downstream"],
        "largest_efas": figures["efas_max.downstream"],
        "calibration": figures["calibration_rank_correlation"],
        **_dictionaries(outcome.tables["dictionaries"].to_pylist()),
    }  # fmt: skip


def share_beyond(outcome: Outcome, *, energy: str = "downstream", site: str = "") -> Estimate:
    """Features beyond chance as a share of those scored, at all sites or one."""
    rows = [row for row in outcome.tables["layers"].to_pylist()
            if row["energy"] == energy and site in ("", row["site"])]  # fmt: skip
    found, scored = (sum(row[name] for row in rows) for name in ("beyond", "scored"))
    rate = wilson_interval(torch.tensor(found), torch.tensor(scored))
    # Max-T lets one family in twenty have a discovery.
    null = 0.05 / scored if scored else math.nan
    return Estimate(
        float(rate.estimate), "share of scored features", low=float(rate.low),
        high=float(rate.high), null_mean=null, null_sd=math.sqrt(null) / math.sqrt(scored)
        if scored else math.nan, n=scored, n_unit="features",
    )  # fmt: skip


def _dictionaries(rows: Sequence[Row]) -> dict[str, Estimate]:
    """Means over the sites; the sites share their documents, so ends are averaged as well."""

    def mean(name: str) -> float:
        return math.fsum(_number(row[name]) for row in rows) / len(rows)

    return {
        "fvu": Estimate(mean("fvu"), "share", low=mean("fvu_low"), high=mean("fvu_high"),
                        null_mean=mean("fvu_null"), null_sd=0.0, n=len(rows), n_unit="sites"),
        # Nothing is recovered where the mean state stands in.
        "loss_recovered": Estimate(mean("loss_recovered"), "share", null_mean=0.0, null_sd=0.0,
                                   n=len(rows), n_unit="sites"),
    }  # fmt: skip


def _number(value: float | int | None) -> float:
    return math.nan if value is None else float(value)
