"""The finding in words and figures, computed from the tables and nothing else."""

import math
from typing import Any

import pyarrow as pa

from energylens.results.format import interval
from energylens.results.record import Estimate, Summary
from energylens.studies.energy_lens import EnergyLens
from energylens.studies.energy_lens.basin_tables import attractor_figures
from energylens.studies.energy_lens.behaviour_tables import behaviour_figures
from energylens.studies.energy_lens.class_tables import class_limits
from energylens.studies.energy_lens.contest_tables import contest_figures, contest_limits
from energylens.studies.energy_lens.estimates import (
    calibration_figures,
    control_verdicts,
    covarying_figure,
    detail,
    discoveries_figure,
    largest_figure,
    rate_figure,
    replication_figure,
    scored_of,
    suspicions,
)
from energylens.studies.energy_lens.lens import LENS, RAW, TUNED
from energylens.studies.energy_lens.material import Material
from energylens.studies.energy_lens.statistics import RANDOM_WEIGHTS, Inference
from energylens.studies.energy_lens.tally import HEADLINE, LENS_STRIDE

QUICK_DOCUMENTS = 100


def summarise(
    material: Material, inference: Inference, tables: dict[str, pa.Table], options: EnergyLens
) -> Summary:
    """Figures, controls and the finding sentence of a run."""
    rows = {name: table.to_pylist() for name, table in tables.items()}
    figures = _figures(inference, rows, material)
    controls = control_verdicts(inference)
    documents = int(material.held_out.document.unique().numel())
    quick = documents < QUICK_DOCUMENTS
    return Summary(
        study="energy-lens",
        subject=f"{material.subject.loaded.name} · {material.corpus}",
        finding=_finding(figures),
        detail=detail(figures, HEADLINE),
        grade="quick" if quick else "real",
        figures=figures,
        controls=controls,
        cards=tuple(name for name in CARDS if name in figures),
        limits=tuple(_limits(material, options, rows)),
        suspicious=tuple(suspicions(inference, rows)),
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
        figures[f"features_beyond_chance.{energy}"] = discoveries_figure(
            list(sites.values()), label=f"Features beyond chance, {energy}"
        )
        for site, scores in sites.items():
            layer = site.split(".")[1] + ("_pre" if site.endswith("resid_pre") else "")
            figures[f"features_beyond_chance.{energy}.layer_{layer}"] = discoveries_figure(
                [scores], label=f"Features beyond chance at {site}, {energy}"
            )
        figures[f"efas_max.{energy}"] = largest_figure(inference, energy)
    figures["replicated_share.downstream"] = replication_figure(inference)
    figures |= calibration_figures(rows["calibration_pooled"][0])
    for row in rows["calibration_rules"]:
        figures |= calibration_figures(row, chosen=row["chosen_by"])
    figures |= contest_figures(rows["contest"])
    for control, sites in inference.controls.items():
        slug = {RANDOM_WEIGHTS: "random_weights"}.get(control, control.replace(" ", "_"))
        figures[f"features_beyond_chance.{slug}"] = discoveries_figure(
            list(sites.values()), label=f"Features beyond chance, {control}"
        )
        figures[f"features_covarying.{slug}"] = covarying_figure(sites, control)
        figures[f"rate_at_05.{slug}"] = rate_figure(sites, inference, control)
    figures["features_covarying.downstream"] = covarying_figure(inference.headline, "downstream")
    figures["rate_at_05.downstream"] = rate_figure(inference.headline, inference, "downstream")
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


def _finding(figures: dict[str, Estimate]) -> str:
    real, tuned = (figures[f"features_beyond_chance.{name}"] for name in (HEADLINE, TUNED))
    best = figures["efas_max.downstream"]
    random = figures.get("features_beyond_chance.random_weights")
    verb = "follow" if real.value > 1 else "follows"
    found = f"{real.value:,}" if real.value else "None"
    through = f"{tuned.value:,}" if tuned.value else "none"
    text = (
        f"{found} of {scored_of(real)} features {verb} the energy beyond chance, {through} of"
        f" {scored_of(tuned)} through a tuned lens"
    )
    if random is not None:
        text += f"; in a random-weight model, {random.value:,} of {scored_of(random)}"
    if real.value:
        size = interval(best.value, best.low, best.high)
        return f"{text}. The largest |EFAS| among them is {size}."
    return f"{text}."


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
