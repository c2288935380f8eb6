"""What an import says in words and figures, computed from its rows."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from energylens.results.format import percent
from energylens.results.record import Control, Estimate, Summary
from energylens.studies.ndt_import import NdtImport
from energylens.studies.ndt_import.comparison import Compared, runs_of
from energylens.studies.ndt_import.material import Material
from energylens.studies.ndt_import.published import PUBLISHED, SOURCE

CARDS = ("jumps", "early_share", "late_share", "loss_falls", "strong_share", "events")


def summarise(options: NdtImport, material: Material, compared: Sequence[Compared]) -> Summary:
    """Figures, controls, and the finding sentence."""
    by_name = {one.quantity: one for one in compared}
    figures = dict(_figures(compared))
    runs = len(material.experiments)
    layers = sum(len(one.layers) for one in material.experiments)
    return Summary(
        study="ndt-import", subject=f"{runs_of(runs)}, {layers} layers of {options.folder.name}",
        finding=_finding(by_name, material), detail=_detail(by_name, material),
        grade="real" if runs == len(PUBLISHED) else "quick", figures=figures,
        controls=_controls(material),
        cards=tuple(name for name in CARDS
                    if name in figures and math.isfinite(figures[name].value)),
        limits=_limits(), suspicious=tuple(_suspicious(material)),
    )  # fmt: skip


def _figures(compared: Sequence[Compared]) -> Iterator[tuple[str, Estimate]]:
    """What is so under the quantity's name, and what its definition gave as `.reproduced`."""
    for one in compared:
        yield one.quantity, one.estimate()
        if math.isfinite(one.reproduced) and one.quantity.count(".") < 2:
            yield (
                f"{one.quantity}.reproduced",
                replace(
                    Estimate(float(one.reproduced), one.unit, n=one.n, n_unit=one.n_unit),
                    label=f"{one.label}, as the original has it",
                    note="its own definition on what it stored",
                ),
            )


def _finding(by_name: Mapping[str, Compared], material: Material) -> str:
    constant, layers = material.consistency.constant, material.consistency.layers
    noise = f"{by_name['jumps'].null_mean:,.0f}"
    if constant == 0:
        return (
            f"The stored stable rank varies here: it passes two standard deviations"
            f" {material.stored.total:,} times and the recovered one {material.true.total:,} times,"
            f" noise of the same sizes without a jump {noise} times."
        )
    return (
        f"The stored stable rank is constant up to rounding in {constant} of {layers} layers, so"
        f" its {material.stored.total:,} jumps are rounding; the true one passes the same threshold"
        f" {material.true.total:,} times, noise of the same sizes without a jump {noise} times."
    )


def _detail(by_name: Mapping[str, Compared], material: Material) -> str:
    known = [one.name for one in material.experiments if one.name in PUBLISHED]
    same = sum(_same(material, name) for name in known)
    early, late = by_name["early_share"], by_name["late_share"]
    return (
        f"{same} of {len(known)} runs give the counts that the original published of them. Of the"
        f" true rank's, {percent(early.corrected)} lie in the first tenth of training (noise:"
        f" {percent(early.null_mean)}) and {percent(late.corrected)} after half (noise:"
        f" {percent(late.null_mean)})."
    )


def _same(material: Material, name: str) -> bool:
    """Whether all four counts of a run are those published."""
    (row,) = (row for row in material.stored.runs if row["experiment"] == name)
    published = PUBLISHED[name]
    return (
        row["total_jumps"] == published.jumps
        and row["total_critical_steps"] == published.critical_steps
        and row["total_transitions"] == published.transitions
        and row["num_coordinated_periods"] == published.coordinated
    )


def _controls(material: Material) -> dict[str, Control]:
    found = material.consistency
    known = [one.name for one in material.experiments if one.name in PUBLISHED]
    same = sum(_same(material, name) for name in known)
    controls = {"identity": Control(
        label="The ratios are of one matrix", value=found.within, expected=found.values,
        passed=found.within == found.values,
        sentence=f"1 ≤ stable rank ≤ nuclear-norm ratio ≤ participation ratio holds at"
        f" {found.within:,} of {found.values:,} moments of layers, as singular values must have"
        f" it; {found.undefined:,} are undefined.",
    )}  # fmt: skip
    if known:
        controls["published"] = Control(
            label="The original's counts", value=same, expected=len(known),
            passed=same == len(known),
            sentence=f"{same} of {len(known)} runs give the published jumps, critical steps,"
            " transitions and coordinated periods exactly.",
        )  # fmt: skip
    return controls


def _limits() -> tuple[str, ...]:
    return (
        "Only ratios of singular values are stored: the rank is that of uncentred activations, and"
        " for transformers of activations that were averaged over features, which no import can"
        " undo.",
        "There is one run of each architecture and data set, without a seed, and no second half of"
        " the probe: noise of a training and of the measurement cannot be told apart.",
        "Depth is the order of layers in the file.",
        f"Claimed figures are those of {SOURCE}, about all {len(PUBLISHED)} runs.",
    )


def _suspicious(material: Material) -> Iterator[str]:
    found = material.consistency
    if found.agreeing:
        yield (
            f"The stored stable rank of {found.agreeing} of {found.layers} layers is the recovered"
            " one: these files are not of the original program, or of one that was mended."
        )
    if found.within < found.values:
        yield (
            f"At {found.values - found.within:,} moments of layers the ratios cannot be of one set"
            " of singular values: what is recovered there is no stable rank."
        )
    for what, runs in _undefined(material).items():
        if runs:
            yield f"{what} in {', '.join(runs[:5])}{' and others' if len(runs) > 5 else ''}."
    short = [one.name for one in material.experiments
             if len(one.steps) * one.interval < one.num_steps]  # fmt: skip
    if short:
        yield f"Measurements stop before the training does in {', '.join(short[:5])}."
    unknown = [one.name for one in material.experiments if one.name not in PUBLISHED]
    if unknown:
        yield f"The original has no run named {', '.join(unknown[:5])}."
    extra = sorted({name for one in material.experiments for name in one.metrics} - {
        "stable_rank", "participation_ratio", "effective_rank_90", "nuclear_norm_ratio"
    })  # fmt: skip
    if extra:
        yield f"Not read: {', '.join(extra)}."


def _undefined(material: Material) -> dict[str, list[str]]:
    """Runs by what is undefined in them."""
    return {
        "The loss is not finite at some measurements": [
            one.name for one in material.experiments if not bool(one.loss.isfinite().all())
        ],
        "The true rank is undefined or constant in some layers": [
            name for name, layers in material.true.layers.items()
            if bool((layers.series.diff(dim=1) == 0).all(dim=1).any())
            or not bool(layers.series.isfinite().all())
        ],
    }  # fmt: skip
