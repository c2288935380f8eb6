"""The finding in words and figures, computed from the tables and nothing else."""

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from energylens.results.format import count, interval, number, percent
from energylens.results.record import Control, Estimate, Summary
from energylens.stats.rates import poisson_interval, wilson_interval
from energylens.studies.energy_lens import EnergyLens
from energylens.studies.energy_lens.basin_tables import attractor_figures
from energylens.studies.energy_lens.behaviour_tables import behaviour_figures
from energylens.studies.energy_lens.class_tables import class_limits
from energylens.studies.energy_lens.contest_tables import contest_figures, contest_limits
from energylens.studies.energy_lens.lens import LENS, RAW, TUNED
from energylens.studies.energy_lens.material import Material
from energylens.studies.energy_lens.statistics import LEVEL, RANDOM_WEIGHTS, Inference, SiteScores
from energylens.studies.energy_lens.tables import EXPECTED, allowed
from energylens.studies.energy_lens.tally import HEADLINE, LENS_STRIDE

QUICK_DOCUMENTS = 100


def summarise(
    material: Material, inference: Inference, tables: dict[str, pa.Table], options: EnergyLens
) -> Summary:
    """Figures, controls and the finding sentence of a run."""
    rows = {name: table.to_pylist() for name, table in tables.items()}
    figures = _figures(inference, rows, material)
    controls = _controls(inference)
    documents = int(material.held_out.document.unique().numel())
    quick = documents < QUICK_DOCUMENTS
    return Summary(
        study="energy-lens",
        subject=f"{material.subject.loaded.name} · {material.corpus}",
        finding=_finding(figures),
        detail=_detail(figures),
        grade="quick" if quick else "real",
        figures=figures,
        controls=controls,
        cards=tuple(name for name in CARDS if name in figures),
        limits=tuple(_limits(material, options, rows)),
        suspicious=tuple(_suspicious(inference, rows)),
    )


CARDS = (
    "features_beyond_chance.downstream",
    "efas_max.downstream",
    "calibration_correlation",
    "calibration_rank_correlation",
    "rate_at_05.downstream",
    "features_beyond_chance.random_weights",
)


def _figures(
    inference: Inference, rows: dict[str, list[dict[str, Any]]], material: Material
) -> dict[str, Estimate]:
    documents = int(material.held_out.document.unique().numel())
    figures = {}
    for energy in (HEADLINE, *LENS):
        sites = inference.energies[energy]
        figures[f"features_beyond_chance.{energy}"] = _discoveries(
            list(sites.values()), label=f"Features beyond chance, {energy}"
        )
        for site, scores in sites.items():
            layer = site.split(".")[1] + ("_pre" if site.endswith("resid_pre") else "")
            figures[f"features_beyond_chance.{energy}.layer_{layer}"] = _discoveries(
                [scores], label=f"Features beyond chance at {site}, {energy}"
            )
        figures[f"efas_max.{energy}"] = _largest(inference, energy)
    figures["replicated_share.downstream"] = _replication(inference)
    figures |= _calibration(rows["calibration_pooled"][0])
    for row in rows["calibration_rules"]:
        figures |= _calibration(row, chosen=row["chosen_by"])
    figures |= contest_figures(rows["contest"])
    for control, sites in inference.controls.items():
        slug = {RANDOM_WEIGHTS: "random_weights"}.get(control, control.replace(" ", "_"))
        figures[f"features_beyond_chance.{slug}"] = _discoveries(
            list(sites.values()), label=f"Features beyond chance, {control}"
        )
        figures[f"features_covarying.{slug}"] = _covarying(sites, control)
        figures[f"rate_at_05.{slug}"] = _rate(sites, inference, control)
    figures["features_covarying.downstream"] = _covarying(inference.headline, "downstream")
    figures["rate_at_05.downstream"] = _rate(inference.headline, inference, "downstream")
    figures |= behaviour_figures(rows)
    figures |= _dictionaries(rows["dictionaries"])
    figures |= attractor_figures(rows)
    vocab = material.subject.loaded.vocab_size
    figures["uniform_surprisal"] = Estimate(
        math.log(vocab), "nats", label="Surprisal of a uniform guess", n=vocab, n_unit="tokens"
    )
    losses = [row for row in rows["depth"] if row["energy"] == HEADLINE]
    figures["model_loss"] = Estimate(
        losses[0]["mean"], "nats per token", low=losses[0]["low"], high=losses[0]["high"],
        null_mean=math.log(vocab), null_sd=0.0, n=documents, n_unit="documents",
        label="Model's loss on the held-out text", note="null: a uniform guess")  # fmt: skip
    return figures


def _discoveries(sites: list[SiteScores], *, label: str) -> Estimate:
    """Features with family-wise p at most .05; under the null a family has any one time in 20."""
    found = sum(int(scores.beyond.sum()) for scores in sites)
    scored = sum(int(scores.scored.sum()) for scores in sites)
    total = sum(len(scores.scored) for scores in sites)
    bounds = poisson_interval(torch.tensor(found))
    return Estimate(
        found, f"of {scored:,} scored features", low=float(bounds.low), high=float(bounds.high),
        null_mean=LEVEL, null_sd=math.sqrt(LEVEL), n=sites[0].documents, n_unit="documents",
        undefined=total - scored, label=label,
        note="nulls, max-T at .05 over all sites: signs flipped by document; rows permuted",
    )  # fmt: skip


def _covarying(sites: Mapping[str, SiteScores], name: str) -> Estimate:
    """Features that beat the first null alone: activation and force covary at all."""
    found = sum(int((scores.p_documents <= LEVEL).sum()) for scores in sites.values())
    scored = sum(int(scores.scored.sum()) for scores in sites.values())
    bounds = poisson_interval(torch.tensor(found))
    return Estimate(
        found, f"of {scored:,} scored features", low=float(bounds.low), high=float(bounds.high),
        null_mean=LEVEL, null_sd=math.sqrt(LEVEL), n=_documents(sites), n_unit="documents",
        label=f"Features covarying with the force, {name}",
        note="null: signs flipped by document, max-T at .05; says nothing of the own direction",
    )  # fmt: skip


def _documents(sites: Mapping[str, SiteScores]) -> int:
    return max(scores.documents for scores in sites.values())


def _rate(sites: Mapping[str, SiteScores], inference: Inference, name: str) -> Estimate:
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


def _largest(inference: Inference, energy: str) -> Estimate:
    """Largest |EFAS| of the discoveries (of all features where there is none), beside the largest
    under permuted decoders."""
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
    null = [float(s.efas.abs().nan_to_num(0).max())
            for s in inference.controls["permuted decoder"].values()]  # fmt: skip
    spread = torch.tensor(null, dtype=torch.float64)
    return Estimate(
        abs(float(scores.efas[f])), "correlation", low=ends[0], high=ends[1],
        null_mean=float(spread.mean()), null_sd=float(spread.std()) if len(null) > 1 else math.nan,
        p=float(scores.p_max_t[f]), n=scores.documents, n_unit="documents",
        label="Largest |EFAS|" + (" beyond chance" if found else ""),
        note=f"{best}, feature {f}; null: largest of permuted decoders",
    )  # fmt: skip


def _replication(inference: Inference) -> Estimate:
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
        note="p < .05 with the same sign in each half of the documents",
    )  # fmt: skip


def _calibration(row: dict[str, Any], *, chosen: str = "") -> dict[str, Estimate]:
    """Agreement of predicted with measured ablation, over all features or those of one rule."""
    shared = {"n": row["n_documents"], "n_unit": "documents"}
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


def _dictionaries(rows: list[dict[str, Any]]) -> dict[str, Estimate]:
    figures = {}
    for row in (row for row in rows if row["model"] == "trained"):
        layer = row["site"].split(".")[1] + ("_pre" if row["site"].endswith("resid_pre") else "")
        figures[f"fvu.dictionary.layer_{layer}"] = Estimate(
            row["fvu"], "fraction of variance unexplained", low=row["fvu_low"],
            high=row["fvu_high"], null_mean=row["fvu_null"], null_sd=0.0,
            label=f"FVU at {row['site']}", note="null: random directions of the same k",
        )  # fmt: skip
    return figures


def _controls(inference: Inference) -> dict[str, Control]:
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
            sentence=f"{name[0].upper() + name[1:]} ({_documents(sites):,} documents):"
            f" {count(found, scored)} features beyond chance, {number(100 * rate, digits=2)} % at"
            f" p < .05, {verdict}.",
        )  # fmt: skip
    return controls


def _finding(figures: dict[str, Estimate]) -> str:
    real, tuned = (figures[f"features_beyond_chance.{name}"] for name in (HEADLINE, TUNED))
    best = figures["efas_max.downstream"]
    random = figures.get("features_beyond_chance.random_weights")
    verb = "follow" if real.value > 1 else "follows"
    text = (
        f"{f'{real.value:,}' if real.value else 'None'} of {_of(real)} features {verb} the energy"
        f" beyond chance, {f'{tuned.value:,}' if tuned.value else 'none'} of {_of(tuned)} through a"
        " tuned lens"
    )
    if random is not None:
        text += f"; in a random-weight model, {random.value:,} of {_of(random)}"
    if real.value:
        size = interval(best.value, best.low, best.high)
        return f"{text}. The largest |EFAS| among them is {size}."
    return f"{text}."


def _of(estimate: Estimate) -> str:
    return estimate.unit.removeprefix("of ").removesuffix(" scored features")


def _detail(figures: dict[str, Estimate]) -> str:
    covarying, permuted = (
        figures[f"features_covarying.{name}"] for name in ("downstream", "permuted_decoder")
    )
    rate = figures["rate_at_05.downstream"]
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


def _limits(
    material: Material, options: EnergyLens, rows: dict[str, list[dict[str, Any]]]
) -> list[str]:
    limits = [
        "EFAS is a correlation, not a cause: what a feature does is what its ablation measured.",
        "Intervals of EFAS take the standard deviations of activation and force as known.",
        f"The energy counts losses inside windows of {options.context} tokens; what a feature does"
        " beyond the window is not seen.",
        "The raw lens energies (surprisal, free energy, entropy) are badly calibrated before the"
        f" last layers. They are scored on one place in {LENS_STRIDE[RAW[0]]} of half of the"
        f" documents, the tuned one on one in {LENS_STRIDE[TUNED]} of all: the finding rests on"
        " downstream and tuned.",
    ]
    if "Q4" in material.subject.loaded.source or "smollm2" in material.subject.loaded.source:
        limits.append(
            "The packaged weights are rounded to 4 bits; figures are not those of the 16-bit model."
        )
    if material.held_out.unit != "document":
        limits.append(
            f"The text had too few documents; the statistical unit is a {material.held_out.unit}."
        )
    return limits + contest_limits(rows["contest"]) + class_limits(material)


def _suspicious(inference: Inference, rows: dict[str, list[dict[str, Any]]]) -> list[str]:
    odd = []
    for row in rows["dictionaries"]:
        if row["model"] == "trained" and row["dead_share"] > 0.5:
            odd.append(
                f"{row['site']}: {row['dead_share']:.0%} of the dictionary is silent on held-out"
                " text; train on more tokens or narrow it."
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
