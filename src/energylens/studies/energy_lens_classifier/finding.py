"""The finding in words and figures, computed from the tables and nothing else."""

import math
from dataclasses import replace
from typing import Any

import pyarrow as pa

from energylens.results.format import count, interval, number, p_value, percent
from energylens.results.record import Control, Estimate, Summary
from energylens.studies.energy_lens.estimates import (
    calibration_figures,
    control_verdicts,
    covarying_figure,
    detail,
    discoveries_figure,
    largest_figure,
    rate_figure,
    replication_figure,
    suspicions,
)
from energylens.studies.energy_lens.statistics import RANDOM_WEIGHTS, Inference
from energylens.studies.energy_lens.tally import RANDOM as RANDOM_DIRECTIONS
from energylens.studies.energy_lens_classifier import EnergyLensClassifier
from energylens.studies.energy_lens_classifier.material import Material
from energylens.studies.energy_lens_classifier.scoring import CLASS_ENERGY, MARGIN

Rows = dict[str, list[dict[str, Any]]]
UNIT = "image"
LEVEL = 0.05


def summarise(
    material: Material,
    inference: Inference,
    tables: dict[str, pa.Table],
    options: EnergyLensClassifier,
) -> Summary:
    """Figures, controls and the finding sentence of a run."""
    rows = {name: table.to_pylist() for name, table in tables.items()}
    figures = _figures(inference, rows, material)
    return Summary(
        study="energy-lens-classifier",
        subject=f"{material.subject.loaded.name} · {material.held_out.name}",
        finding=_finding(figures),
        detail=detail(figures, MARGIN) + _predicted(figures),
        grade="real",
        figures=figures,
        controls=_verdicts(inference) | _own_row_controls(rows),
        cards=tuple(name for name in CARDS if name in figures),
        limits=tuple(_limits(material, rows)),
        suspicious=tuple(suspicions(inference, rows)),
    )


CARDS = (
    "features_covarying.class_margin",
    "own_rows.class_margin",
    "ablations_raising.class_energy",
    "calibration_correlation",
    "classes_moved",
    "accuracy",
)


def _figures(inference: Inference, rows: Rows, material: Material) -> dict[str, Estimate]:
    figures = {}
    for energy, sites in inference.energies.items():
        figures[f"features_beyond_chance.{energy}"] = discoveries_figure(
            list(sites.values()), label=f"Features beyond chance, {energy}", unit=UNIT
        )
        figures[f"features_covarying.{energy}"] = covarying_figure(sites, energy, unit=UNIT)
        figures[f"rate_at_05.{energy}"] = rate_figure(sites, inference, energy)
        figures[f"efas_max.{energy}"] = largest_figure(inference, energy)
    for control, sites in inference.controls.items():
        slug = {RANDOM_WEIGHTS: "random_weights"}.get(control, control.replace(" ", "_"))
        figures[f"features_beyond_chance.{slug}"] = discoveries_figure(
            list(sites.values()), label=f"Features beyond chance, {control}", unit=UNIT
        )
        figures[f"features_covarying.{slug}"] = covarying_figure(sites, control, unit=UNIT)
        figures[f"rate_at_05.{slug}"] = rate_figure(sites, inference, control)
    figures[f"replicated_share.{MARGIN}"] = replication_figure(inference)
    figures |= calibration_figures(rows["calibration_pooled"][0], unit=UNIT)
    for row in rows["calibration_energies"]:
        figures |= calibration_figures(row, chosen=row["energy"], unit=UNIT)
    figures |= _own_rows(rows)
    figures |= _ablations(rows)
    figures |= _accuracy(rows, material)
    return figures


def _verdicts(inference: Inference) -> dict[str, Control]:
    """Controls of the family-wise count; random directions need only stay below real features."""
    found = control_verdicts(inference)
    found["matched_random_directions"] = replace(
        found["matched_random_directions"], expected="few discoveries; p < .05 in more than 5 %:"
        " a random direction carries some of every class",
    )  # fmt: skip
    return found


def _own_rows(rows: Rows) -> dict[str, Estimate]:
    """By energy, of the layer where own decoder rows stand out most; all layers are in the table.

    p is corrected for having looked at all of them (Bonferroni)."""
    figures = {}
    for energy in (MARGIN, CLASS_ENERGY):
        found = [r for r in rows["own_rows"]
                 if r["analysis"] == energy and not math.isnan(r["share"])]  # fmt: skip
        if found:
            best = max(found, key=lambda r: (r["share"] - r["null_mean"]) / r["null_sd"])
            figures[f"own_rows.{energy}"] = Estimate(
                best["share"], "of other features' rows beaten by a feature's own",
                null_mean=best["null_mean"], null_sd=best["null_sd"],
                p=min(1.0, len(found) * best["p"]), n=best["scored"], n_unit="features",
                label=f"Own decoder row, {energy}",
                note=f"{best['site']}; null: rows dealt out among features;"
                f" p over {len(found)} layers",
            )  # fmt: skip
    return figures


def _ablations(rows: Rows) -> dict[str, Estimate]:
    """What ablation was measured to do, beside random steps of the same size."""
    figures = {}
    ablated, random = (
        [row for row in rows["effects"] if row["intervention"] == kind]
        for kind in ("ablate", "random direction")
    )
    raising, chance = (sum(row["low"] > 0 for row in some) for some in (ablated, random))
    if ablated:
        figures["ablations_raising.class_energy"] = Estimate(
            raising, f"of {len(ablated)} ablated features", null_mean=float(chance),
            null_sd=math.sqrt(max(chance, 0.025 * len(random))), n=len(ablated), n_unit="features",
            label="Ablations that raise the class energy",
            note="95 % interval over images above 0; null: random steps of the same size in the"
            " same images",
        )  # fmt: skip
    tested = rows["class_effects"]
    if tested:
        moved = [row for row in tested if row["verdict"]]
        features = {(row["site"], row["feature"]) for row in moved}
        every = {(row["site"], row["feature"]) for row in tested}
        figures["classes_moved"] = Estimate(
            len(moved), f"of {len(tested)} pairs of feature and class",
            null_mean=LEVEL * len(moved), null_sd=math.sqrt(LEVEL * len(moved)),
            n=len(every), n_unit="features", label="Classes moved by ablation",
            note=f"q ≤ .05; by {len(features)} of {len(every)} features; null: the false"
            " discoveries that q allows",
        )  # fmt: skip
    return figures


def _accuracy(rows: Rows, material: Material) -> dict[str, Estimate]:
    total = sum(row["n_images"] for row in rows["classes"])
    right = sum(round(row["accuracy"] * row["n_images"])
                for row in rows["classes"] if row["n_images"])  # fmt: skip
    chance = float(material.shares.max())
    low, high = _wilson(right, total)
    figures = {
        "accuracy": Estimate(
            right / total,
            "share of held-out images",
            low=low,
            high=high,
            null_mean=chance,
            null_sd=math.sqrt(chance * (1 - chance) / total),
            n=total,
            n_unit="images",
            label="Accuracy of the classifier",
            note="null: always the most frequent class",
        )
    }
    for row in rows["accuracy_contrast"]:
        name = {"accuracy lost": "accuracy_lost", "class energy raised": "energy_raised"}
        figures[f"{name[row['quantity']]}.top_features"] = Estimate(
            row["top"], row["unit"], null_mean=row["matched"], null_sd=row["null_sd"],
            p=row["p"], n=row["sets"], n_unit="features",
            label=f"{row['quantity'].capitalize()} by ablating one top feature",
            note=f"null: {row['matches']} features that match each in density and activation",
        )  # fmt: skip
    return figures


def _wilson(right: int, total: int) -> tuple[float, float]:
    import torch

    from energylens.stats.rates import wilson_interval

    rate = wilson_interval(torch.tensor(right), torch.tensor(total))
    return float(rate.low), float(rate.high)


def _predicted(figures: dict[str, Estimate]) -> str:
    """How well slopes predict, of the margin: the class energy is in the sentence before."""
    r = figures[f"calibration_correlation.{MARGIN}"]
    if not math.isfinite(r.value):
        return ""
    return f" Of the margin they correlate {interval(r.value, r.low, r.high)}."


def _own_row_controls(rows: Rows) -> dict[str, Control]:
    """Whether own rows stand out where they must not: labels of other images, permuted rows …"""
    controls = {}
    for name in dict.fromkeys(r["analysis"] for r in rows["own_rows"] if not r["real"]):
        p = [r["p"] for r in rows["own_rows"]
             if r["analysis"] == name and not math.isnan(r["p"])]  # fmt: skip
        if not p:
            continue
        least = min(1.0, len(p) * min(p))
        if name == RANDOM_DIRECTIONS:
            controls["own_rows_matched_random_directions"] = _random_directions(rows)
            continue
        passed = least > LEVEL
        controls[f"own_rows_{name.replace(' ', '_').replace('-', '_')}"] = Control(
            label=f"Own rows, {name}", value=least, expected="p above .05 over all layers",
            passed=passed,
            sentence=f"Own rows against others', {name}: p {p_value(least)} over {len(p)} layers,"
            f" {'as chance allows' if passed else 'more than chance allows'}.",
        )  # fmt: skip
    return controls


def _random_directions(rows: Rows) -> Control:
    """In a space of few dimensions a random direction carries some of every class: it may follow
    the energy, if less so than features do."""
    share = {
        name: {r["site"]: r["share"] for r in rows["own_rows"] if r["analysis"] == name}
        for name in (MARGIN, RANDOM_DIRECTIONS)
    }
    known = [site for site, value in share[MARGIN].items() if not math.isnan(value)]
    less = sum(share[RANDOM_DIRECTIONS][site] < share[MARGIN][site] for site in known)
    return Control(
        label="Own rows, matched random directions", value=less,
        expected="less than features at every layer", passed=less == len(known),
        sentence="Random directions stand out less from each other than features do at"
        f" {less} of {len(known)} layers.",
    )  # fmt: skip


def _finding(figures: dict[str, Estimate]) -> str:
    covary = figures[f"features_covarying.{MARGIN}"]
    wrong = figures["features_covarying.labels_of_other_images"]
    text = (
        f"{covary.value:,} of {_of(covary)} features rise and fall with the force of the image's"
        f" class on them, {wrong.value or 'none'} with that of another image's label"
    )
    random = figures.get("features_covarying.random_weights")
    if random is not None:
        text += f", in a random-weight network {random.value:,} of {_of(random)}"
    own = figures.get(f"own_rows.{MARGIN}")
    if own is not None:
        text += (
            f"; a feature's own direction beats {percent(own.value)} of the other features' at"
            f" {own.note.split(';')[0]} (chance {percent(own.null_mean)}, p {p_value(own.p)})"
        )
    ablated = figures.get("ablations_raising.class_energy")
    if ablated is not None:
        text += (
            f". Ablating {count(int(ablated.value), ablated.n)} features raises the class energy;"
            f" random steps of the same size do so in {number(ablated.null_mean)}"
        )
    return f"{text}."


def _of(estimate: Estimate) -> str:
    return estimate.unit.removeprefix("of ").removesuffix(" scored features")


def _limits(material: Material, rows: Rows) -> list[str]:
    limits = [
        "EFAS is a correlation, not a cause: what a feature does is what its ablation measured.",
        "The class energy is flat where the classifier is sure, so its own force is felt on few"
        " images: alignment is judged on the margin, the label's share of the class energy.",
        "Intervals of EFAS take the standard deviations of activation and force as known.",
    ]
    if len(rows["classes"]) == 2:
        limits.append(
            "With two classes the margin's gradient behind the last layer has one direction: other"
            " features' rows do as well there as a feature's own."
        )
    thin = [row["class"] for row in rows["classes"] if 0 < row["n_images"] < 10]
    if thin:
        limits.append(f"Fewer than 10 held-out images are of the classes {', '.join(thin)}.")
    wide = [interval(row["accuracy"], row["low"], row["high"]) for row in rows["classes"]
            if row["n_images"] and row["high"] - row["low"] > 0.3]  # fmt: skip
    if wide:
        limits.append(f"The accuracy of {len(wide)} classes is known within 30 points only.")
    reads = material.subject.loaded.pixels
    if reads is not None and reads.mean is None and material.held_out.whole:
        limits.append(
            "The model's folder does not say how pixels are normalised: they went in as 0 to 1."
        )
    return limits
