"""Figures of a summary, each an estimate with its interval and null, from scores and tables."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from energylens.results.format import count, interval, number, percent
from energylens.results.record import Control, Estimate
from energylens.stats.rates import poisson_interval, wilson_interval
from energylens.studies.energy_lens.statistics import LEVEL, Inference, SiteScores
from energylens.studies.energy_lens.tables import EXPECTED, allowed


def discoveries_figure(sites: list[SiteScores], *, label: str, unit: str = "document") -> Estimate:
    """Features with family-wise p at most .05; under the null a family has any one time in 20."""
    found = sum(int(scores.beyond.sum()) for scores in sites)
    scored = sum(int(scores.scored.sum()) for scores in sites)
    total = sum(len(scores.scored) for scores in sites)
    bounds = poisson_interval(torch.tensor(found))
    return Estimate(
        found, f"of {scored:,} scored features", low=float(bounds.low), high=float(bounds.high),
        null_mean=LEVEL, null_sd=math.sqrt(LEVEL), n=sites[0].documents, n_unit=f"{unit}s",
        undefined=total - scored, label=label,
        note=f"nulls, max-T at .05 over all sites: signs flipped by {unit}; rows permuted",
    )  # fmt: skip


def covarying_figure(
    sites: Mapping[str, SiteScores], name: str, *, unit: str = "document"
) -> Estimate:
    """Features that beat the first null alone: activation and force covary at all."""
    found = sum(int((scores.p_documents <= LEVEL).sum()) for scores in sites.values())
    scored = sum(int(scores.scored.sum()) for scores in sites.values())
    bounds = poisson_interval(torch.tensor(found))
    return Estimate(
        found, f"of {scored:,} scored features", low=float(bounds.low), high=float(bounds.high),
        null_mean=LEVEL, null_sd=math.sqrt(LEVEL), n=units_scored(sites), n_unit=f"{unit}s",
        label=f"Features covarying with the force, {name}",
        note=f"null: signs flipped by {unit}, max-T at .05; says nothing of the own direction",
    )  # fmt: skip


def units_scored(sites: Mapping[str, SiteScores]) -> int:
    """Independent units behind a family."""
    return max(scores.documents for scores in sites.values())


def rate_figure(sites: Mapping[str, SiteScores], inference: Inference, name: str) -> Estimate:
    """Share of features with p below .05 one by one, beside the same with permuted decoder rows."""
    rate, null = _share(sites), _share(inference.controls["permuted decoder"])
    spread = math.sqrt(max(null[0] * (1 - null[0]), 0) / max(null[3], 1))
    return Estimate(
        rate[0], "share of scored features", low=rate[1], high=rate[2], null_mean=null[0],
        null_sd=spread, n=int(rate[3]), n_unit="features", label=f"Features with p < .05, {name}",
        note="null: permuted decoder rows; features are not independent, intervals are narrow",
    )  # fmt: skip


def _share(sites: Mapping[str, SiteScores]) -> tuple[float, float, float, int]:
    p = torch.cat([scores.p[scores.scored] for scores in sites.values()])
    rate = wilson_interval((p < LEVEL).sum(), torch.tensor(len(p)))
    return float(rate.estimate), float(rate.low), float(rate.high), len(p)


def largest_figure(inference: Inference, energy: str) -> Estimate:
    """Largest |EFAS| of the discoveries, beside what flipped signs make of that feature.

    Where there is none: of all features, beside the largest under permuted decoders.
    """
    sites = inference.energies[energy]
    found = any(bool(scores.beyond.any()) for scores in sites.values())

    def sizes(scores: SiteScores) -> Tensor:
        chosen = scores.beyond if found else scores.scored
        return torch.where(chosen, scores.efas.abs(), -1.0)

    best = max(sites, key=lambda site: float(sizes(sites[site]).max()))
    scores = sites[best]
    f = int(sizes(scores).argmax())
    sign = 1 if float(scores.efas[f]) > 0 else -1
    ends = sorted((sign * float(scores.low[f]), sign * float(scores.high[f])))
    if found:  # by t: features of other spread have other |EFAS| at the same evidence
        mean, spread = 0.0, abs(float(scores.efas[f] / scores.t[f]))
        asked = number(spread * scores.threshold, digits=3)
        null = (
            f"signs flipped by {inference.unit}; beyond chance among all features from {asked} on"
        )
    else:
        mean, spread = _of_permuted(inference)
        null = "largest of permuted decoders"
    return Estimate(
        abs(float(scores.efas[f])), "correlation", low=ends[0], high=ends[1],
        null_mean=mean, null_sd=spread, p=float(scores.p_max_t[f]), n=scores.documents,
        n_unit=f"{inference.unit}s", label="Largest |EFAS|" + (" beyond chance" if found else ""),
        note=f"{best}, feature {f}; null: {null}",
    )  # fmt: skip


def _of_permuted(inference: Inference) -> tuple[float, float]:
    """Mean and spread over sites of the largest |EFAS| under permuted decoders."""
    largest = torch.tensor(
        [float(scores.efas.abs().nan_to_num(0).max())
         for scores in inference.controls["permuted decoder"].values()], dtype=torch.float64,
    )  # fmt: skip
    return float(largest.mean()), float(largest.std()) if len(largest) > 1 else math.nan


def replication_figure(inference: Inference) -> Estimate:
    """Discoveries that each half of the documents finds by itself; chance agrees in 1 of 800."""
    found = again = 0
    for site, scores in inference.headline.items():
        found += int(scores.beyond.sum())
        again += int((scores.beyond & inference.replicated[site]).sum())
    chance = 2 * (LEVEL / 2) ** 2
    rate = wilson_interval(torch.tensor(again), torch.tensor(found))
    return Estimate(
        float(rate.estimate), "share of discoveries", low=float(rate.low), high=float(rate.high),
        null_mean=chance, null_sd=math.sqrt(chance * (1 - chance) / max(found, 1)),
        n=found, n_unit="discoveries", label="Found in both halves",
        note=f"p < .05 with the same sign in each half of the {inference.unit}s",
    )  # fmt: skip


def calibration_figures(
    row: Mapping[str, Any], *, chosen: str = "", unit: str = "document"
) -> dict[str, Estimate]:
    """Agreement of predicted with measured ablation, over all features or those of one rule."""
    shared = {"n": row["n_documents"], "n_unit": f"{unit}s"}
    end, of = (f".{chosen}", f", chosen by {chosen}") if chosen else ("", "")
    ratio = abs(row["slope"] / row["correlation"]) if row["correlation"] else math.nan
    null = "null: predictions shuffled among features; those large in both beat it, any sign"

    def agreement(name: str, label: str) -> Estimate:
        return Estimate(
            row[name], "correlation", low=row[f"{name}_low"], high=row[f"{name}_high"],
            null_mean=row[f"null_{name}_mean"], null_sd=row[f"null_{name}_sd"],
            p=row[f"null_{name}_p"], label=label + of,
            note=f"{row['n_features']} features; {null}", **shared)  # fmt: skip

    return {
        f"calibration_correlation{end}": agreement(
            "correlation", "Predicted against measured ablation"),
        f"calibration_rank_correlation{end}": agreement(
            "rank_correlation", "The same, of ranks"),
        f"calibration_slope{end}": Estimate(
            row["slope"], "measured nats per predicted nat", low=row["slope_low"],
            high=row["slope_high"], null_mean=0.0, null_sd=row["null_correlation_sd"] * ratio,
            label="Slope of measured on predicted" + of, note=f"1 is perfect; {null}", **shared),
    }  # fmt: skip


def control_verdicts(inference: Inference) -> dict[str, Control]:
    """Every control with its verdict."""
    controls = {}
    for name, sites in inference.controls.items():
        found = sum(int(scores.beyond.sum()) for scores in sites.values())
        scored = sum(int(scores.scored.sum()) for scores in sites.values())
        hits = sum(int((scores.p[scores.scored] < LEVEL).sum()) for scores in sites.values())
        rate = hits / scored if scored else math.nan
        passed = found <= allowed(scored)
        verdict = "as chance allows" if passed else "more than chance allows"
        controls[name.replace(" ", "_").replace("-", "_")] = Control(
            label=name[0].upper() + name[1:], value=found, expected=EXPECTED, passed=passed,
            sentence=f"{name[0].upper() + name[1:]} ({units_scored(sites):,} {inference.unit}s):"
            f" {count(found, scored)} features beyond chance, {number(100 * rate, digits=2)} % at"
            f" p < .05, {verdict}.",
        )  # fmt: skip
    return controls


def scored_of(estimate: Estimate) -> str:
    """How many scored features a count of discoveries is out of."""
    return estimate.unit.removeprefix("of ").removesuffix(" scored features")


def detail(figures: Mapping[str, Estimate], energy: str) -> str:
    """The sentences under the finding: both nulls apart, and what ablation measured."""
    covarying, permuted = (
        figures[f"features_covarying.{name}"] for name in (energy, "permuted_decoder")
    )
    rate = figures[f"rate_at_05.{energy}"]
    text = (
        f"{covarying.value:,} covary with the force on them, {permuted.value:,} when decoder rows"
        f" are permuted; {percent(rate.value)} have p < .05 one by one, permuted"
        f" {percent(rate.null_mean)}. "
    )
    r, rank, slope = (
        figures[f"calibration_{name}"] for name in ("correlation", "rank_correlation", "slope")
    )
    if not math.isfinite(r.value):
        return text + "No intervention was measured."
    return text + (
        f"Predicted and measured energy changes of ablating single features correlate"
        f" {interval(r.value, r.low, r.high)}, in rank {interval(rank.value, rank.low, rank.high)},"
        f" slope {interval(slope.value, slope.low, slope.high)}; shuffled among features,"
        f" {number(r.null_mean, digits=2)} ± {number(r.null_sd, digits=2)}."
    )


def suspicions(inference: Inference, rows: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """What deserves a second look, one sentence each."""
    odd = []
    for row in rows["dictionaries"]:
        if row["model"] == "trained" and row["dead_share"] > 0.5:
            odd.append(
                f"{row['site']}: {row['dead_share']:.0%} of the dictionary is silent on held-out"
                f" {inference.unit}s; train on more of them or narrow it."
            )
        if row["model"] == "trained" and row["fvu"] > 0.5:
            odd.append(f"{row['site']}: the dictionary explains less than half of the variance.")
    for site, scores in inference.headline.items():
        values = scores.efas[scores.scored]
        ties = len(values) - len(values.unique())
        if ties > 0.01 * max(len(values), 1):
            odd.append(f"{site}: {ties} features share their EFAS with another; copied inputs?")
        if float(values.abs().max() if len(values) else 0) > 0.99:
            odd.append(f"{site}: an |EFAS| is at its bound of 1.")
        if int(scores.scored.sum()) < 30:
            odd.append(f"{site}: only {int(scores.scored.sum())} features have enough evidence.")
    odd += [
        f"{row['site']}: predicted and measured ablation effects do not correlate beyond chance."
        for row in rows["calibration"]
        if not (row["null_correlation_p"] or 1) < 0.05
    ]
    return odd
