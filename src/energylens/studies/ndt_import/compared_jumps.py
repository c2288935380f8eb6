"""How many jumps, in which networks, when and where: claimed, reproduced, corrected."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from energylens.dynamics.original import THRESHOLD, global_z_jumps
from energylens.dynamics.original_plan import checkpoint_steps
from energylens.dynamics.trend import saturating_basis
from energylens.results.format import number, percent, several
from energylens.stats.changing_noise import changes_without_jumps
from energylens.stats.interval import Interval
from energylens.studies.ndt_import.comparison import (
    NOWHERE,
    Compared,
    beside_claim,
    ends_of,
    rate,
    runs_of,
    spread,
    with_null,
)
from energylens.studies.ndt_import.compat import Layers
from energylens.studies.ndt_import.material import Material, hits_of, tally, true_phase
from energylens.studies.ndt_import.phase_two import CHOSEN, early_late, temporal_distribution
from energylens.studies.ndt_import.reading import Experiment
from energylens.studies.ndt_import.recovery import true_rank

GAUSSIAN = math.erfc(THRESHOLD / math.sqrt(2))
SMOOTH = 0.01
NULL_DRAWS = 99
NAMES = {"transformer": "transformers", "cnn": "CNNs", "mlp": "MLPs"}
TRUE = "the true stable rank, in training steps"
FALLING = "noise of the same sizes, without a jump"


@dataclass(frozen=True, kw_only=True)
class JumpNull:
    """What the original's detector finds where nothing jumps, a number a draw."""

    total: tuple[float, ...]
    early: tuple[float, ...]
    late: tuple[float, ...]


def jump_null(experiments: Sequence[Experiment], generator: torch.Generator) -> JumpNull:
    """The detector on noise that has every series' course of size."""
    found: dict[str, list[list[float]]] = {"total": [], "early": [], "late": []}
    for one in experiments:
        basis = saturating_basis(one.steps, tolerance=SMOOTH)
        phase = true_phase(one)
        counts: dict[str, list[float]] = {key: [] for key in found}
        for changes in changes_without_jumps(_filled(true_rank(one)), basis, generator,
                                             draws=NULL_DRAWS):  # fmt: skip
            hits = global_z_jumps(_walk(changes))
            counts["total"].append(int(hits.sum()))
            counts["early"].append(int((hits & (phase < 0.1)).sum()))
            counts["late"].append(int((hits & (phase >= 0.5)).sum()))
        for key, values in counts.items():
            found[key].append(values)
    totals = torch.tensor(found["total"], dtype=torch.float64).sum(0)
    shares = {key: torch.tensor(found[key], dtype=torch.float64).sum(0) / totals
              for key in ("early", "late")}  # fmt: skip
    return JumpNull(total=tuple(totals.tolist()),
                    **{key: tuple(share.tolist()) for key, share in shares.items()})  # fmt: skip


def jump_rows(material: Material, null: JumpNull) -> Iterator[Compared]:
    """All rows about jumps."""
    yield _total(material, null)
    yield from _families(material)
    yield from _timing(material, null)
    yield from _places(material)
    yield _ratio(material)
    yield _types(material)
    yield _checkpoints(material)
    yield from _events(material)


def _total(material: Material, null: JumpNull) -> Compared:
    true = tally(material.experiments, hits_of(material.true.layers))
    increments = float(true.increments.sum())
    interval = rate(true.jumps, true.increments)
    mean, sd = spread(null.total)
    expected = GAUSSIAN * increments
    names = list(material.by_name())
    return Compared(
        quantity="jumps", label="Jumps: increments beyond two sd", unit="jumps",
        reproduced=material.stored.total, corrected=material.true.total,
        ends=ends_of(interval, increments), null_mean=mean, null_sd=sd, null=FALLING, how=TRUE,
        n=len(names),
        sentence=f"{beside_claim('jumps', material.stored.total, names, share=False)}, of a rank"
        f" that is constant up to rounding in {material.consistency.constant} of"
        f" {material.consistency.layers} layers; the true rank has {material.true.total:,}, and"
        f" {number(round(expected))} of {increments:,.0f} increments of Gaussian noise without a"
        f" jump are as far out, or {number(round(mean))} of noise that falls in size as theirs"
        " does.",
    )  # fmt: skip


def _families(material: Material) -> Iterator[Compared]:
    for family, plural in NAMES.items():
        some = material.of_family(family)
        if not some:
            continue
        stored, true = (
            tally(some, {one.name: reading.layers[one.name].jumps for one in some})
            for reading in (material.stored, material.true)
        )
        layers = sum(len(one.layers) for one in some)
        increments = float(true.increments.sum())
        before, after = float(stored.jumps.sum()), float(true.jumps.sum())
        yield Compared(
            quantity=f"jumps.{family}", label=f"Jumps of {plural}", unit="jumps", how=TRUE,
            reproduced=before, corrected=after, n=len(some), null="Gaussian noise without a jump",
            null_mean=GAUSSIAN * increments,
            ends=ends_of(rate(true.jumps, true.increments), increments),
            sentence=f"{number(before / layers, digits=3)} a layer in {plural} as stored and"
            f" {number(after / layers, digits=3)} with the true rank, where noise has"
            f" {number(GAUSSIAN * increments / layers, digits=3)}: {layers:,} layers in"
            f" {runs_of(len(some))}.",
        )  # fmt: skip


def _events(material: Material) -> Iterator[Compared]:
    """What survives the null of the common analysis."""
    found = [row for row in material.rows("jumps", measure="stable_rank")]
    layers = sum(len(one.layers) for one in material.experiments)
    moved = {(row["run"], row["site"]) for row in found}
    by_run = Counter(run for run, _ in moved)
    share = rate(
        torch.tensor([float(by_run[one.name]) for one in material.experiments]),
        torch.tensor([float(len(one.layers)) for one in material.experiments]),
    )
    yield Compared(
        quantity="events", label="Layers with a jump beyond its null",
        unit="of layers", corrected=float(share.estimate), ends=ends_of(share), null_mean=0.05,
        null="no more, were there none: the level", n=len(material.experiments),
        how="changes beyond a smooth course and correlated noise, q ≤ .05",
        sentence=f"Beyond a smooth course and correlated noise: {several(len(found), 'jump')} in"
        f" {len(moved):,} of {layers:,} layers (q ≤ .05), each with a date in training steps; the"
        " original's detector has no null.",
    )  # fmt: skip


def _timing(material: Material, null: JumpNull) -> Iterator[Compared]:
    names = list(material.by_name())
    claimed = temporal_distribution(material.stored.jumps)
    stored, true = (tally(material.experiments, hits_of(reading.layers))
                    for reading in (material.stored, material.true))  # fmt: skip
    early, late = rate(true.early, true.jumps), rate(true.late, true.jumps)
    early_null, late_null = spread(null.early), spread(null.late)
    right = [float(part.sum() / stored.jumps.sum()) for part in (stored.early, stored.late)]
    common: dict[str, Any] = {"unit": "of jumps", "null": FALLING, "how": TRUE, "n": len(names)}
    of_early: dict[str, Any] = common | {
        "corrected": float(early.estimate), "ends": ends_of(early),
        "null_mean": early_null[0], "null_sd": early_null[1],
    }  # fmt: skip
    reproduced = claimed["early_percentage"] / 100
    yield Compared(
        quantity="early_share", label="Jumps in the first tenth of training",
        reproduced=reproduced, **of_early,
        sentence=f"{beside_claim('early_share', reproduced, names, share=True)}, with a sample"
        f" index taken for a training step; in right units the same jumps are {percent(right[0])},"
        f" and those of the true rank {with_null(float(early.estimate), ends_of(early), NOWHERE)},"
        f" where noise that only falls in size has {percent(early_null[0])} and jumps at any time"
        " 10 %.",
    )  # fmt: skip
    cut = early_late(material.stored.jumps)["early_fraction"]
    dropped = sum(row["phase"] == 0 for row in material.stored.jumps)
    yield Compared(
        quantity="early_share_cut", label="Early jumps as its other report counts",
        reproduced=cut, **of_early,
        sentence=f"{beside_claim('early_share_cut', cut, names, share=True)}: its second early"
        f" share leaves out {dropped:,} jumps at the very first measurement.",
    )  # fmt: skip
    phases = [row["phase"] for row in material.stored.jumps]
    largest = max(phases, default=NOWHERE)
    reproduced = claimed["late_percentage"] / 100
    yield Compared(
        quantity="late_share", label="Jumps after half of training",
        reproduced=reproduced, corrected=float(late.estimate), ends=ends_of(late),
        null_mean=late_null[0], null_sd=late_null[1], **common,
        sentence=f"{beside_claim('late_share', reproduced, names, share=True)}: its phase cannot"
        f" pass {number(_reach(material.experiments), digits=4)} and is {number(largest, digits=4)}"
        f" at most; in right units {percent(right[1])} of the same jumps are late, and of the true"
        f" rank's {with_null(float(late.estimate), ends_of(late), late_null[0])}.",
    )  # fmt: skip


def _reach(experiments: Sequence[Experiment]) -> float:
    """The largest phase that an index over the training steps can have."""
    return max((len(one.steps) - 2) / one.num_steps for one in experiments)


def _places(material: Material) -> Iterator[Compared]:
    """Where in a network: beside the share of such layers."""
    kinds = (
        ("linear2_share", "transformer", "Jumps of transformers in linear2",
         lambda one, name: name.endswith("linear2"),
         "linear2 is the second layer of a feed-forward block, not an output projection of"
         " attention, which was never measured"),
        ("first_layer_share", "cnn", "Jumps of CNNs in the first layer",
         lambda one, name: name == one.layers[0], "the claim is of one run"),
    )  # fmt: skip
    for quantity, family, label, chosen, remark in kinds:
        some = material.of_family(family)
        if not some:
            continue
        shares = {}
        for key, reading in (("stored", material.stored), ("true", material.true)):
            inside, all_of_them = [], []
            for one in some:
                layers = reading.layers[one.name]
                these = torch.tensor([chosen(one, name) for name in layers.names])
                inside.append(float(layers.jumps[these].sum()))
                all_of_them.append(float(layers.count))
            shares[key] = rate(torch.tensor(inside), torch.tensor(all_of_them))
        base = (sum(chosen(one, name) for one in some for name in one.layers)
                / sum(len(one.layers) for one in some))  # fmt: skip
        before, after = float(shares["stored"].estimate), shares["true"]
        yield Compared(
            quantity=quantity, label=label, unit="of jumps", reproduced=before,
            corrected=float(after.estimate), ends=ends_of(after), null_mean=base,
            null="share of such layers", how=TRUE, n=len(some),
            sentence=f"{beside_claim(quantity, before, list(material.by_name()), share=True)} on"
            f" {runs_of(len(some))}, and"
            f" {with_null(float(after.estimate), ends_of(after), NOWHERE)} of the true rank's,"
            f" where {percent(base)} of the layers are such; {remark}.",
        )  # fmt: skip


def _ratio(material: Material) -> Compared:
    """CNNs against MLPs: of two chosen runs, and a layer of all."""
    counts = {name: layers.count for name, layers in material.stored.layers.items()}
    one, other = counts.get(CHOSEN["cnn"]), counts.get(CHOSEN["mlp"])
    of_two = one / max(other, 1) if one is not None and other is not None else NOWHERE
    stored, true = (
        [_per_layer(material.of_family(family), reading.layers) for family in ("cnn", "mlp")]
        for reading in (material.stored, material.true)
    )
    as_stored, ratio = (_over(float(first.estimate), float(second.estimate))
                        for first, second in (stored, true))  # fmt: skip
    ends = (_over(float(true[0].low), float(true[1].high)),
            _over(float(true[0].high), float(true[1].low)))  # fmt: skip
    chosen = (f"{number(of_two)} from one run each" if math.isfinite(of_two)
              else "the two runs that the claim is from are not both here")  # fmt: skip
    return Compared(
        quantity="cnn_mlp_ratio", label="Jumps of CNNs for one of MLPs", unit="a layer",
        reproduced=of_two, corrected=ratio, ends=ends, null_mean=1.0,
        null="as many a layer in both", how=TRUE,
        n=len(material.of_family("cnn")) + len(material.of_family("mlp")),
        sentence=f"2.5 was claimed: {chosen}; a layer of all runs it is {number(as_stored)} as"
        f" stored and {number(ratio)} with the true rank.",
    )  # fmt: skip


def _per_layer(some: Sequence[Experiment], layers: Mapping[str, Layers]) -> Interval:
    """Jumps at an increment of a family, with its interval over runs; undefined without a run."""
    counted = tally(some, {one.name: layers[one.name].jumps for one in some})
    return rate(counted.jumps, counted.increments)


def _over(part: float | int, whole: float | int) -> float:
    return part / whole if whole > 0 else NOWHERE


def _types(material: Material) -> Compared:
    sizes = sorted(Counter(row["cluster"] for row in material.stored.jumps).values())
    mine = {row["type"] for row in material.tables["jumps"].to_pylist()
            if row.get("type") is not None}  # fmt: skip
    said = " and ".join(str(size) for size in sizes[:2])
    return Compared(
        quantity="types",
        label="Types of jumps",
        unit="types",
        reproduced=len(sizes),
        corrected=len(mine) if mine else NOWHERE,
        how="clusters of the jumps beyond their null",
        n=material.stored.total,
        n_unit="jumps",
        sentence=f"{len(sizes)} clusters, a number that follows from the count of jumps alone; the"
        f" smallest hold {said or 'none'} of {material.stored.total:,} jumps, and which is called"
        " early or late is an accident of k-means.",
    )


def _checkpoints(material: Material) -> Compared:
    plans = {name: checkpoint_steps(material.plans[name]) for name in CHOSEN.values()
             if name in material.plans}  # fmt: skip
    count = sum(len(steps) for steps in plans.values())
    far = [at for steps in plans.values() for at in steps]
    interval = material.experiments[0].interval
    if far:
        told = (
            f"{count} indices of {len(plans)} of its three runs, up to {max(far):,}: saved as"
            f" training steps they hold the network of a {interval}th of the way, as index"
            f" {max(far):,} is step {max(far) * interval:,}"
        )
    else:
        told = "None of the three runs that the original planned for is here"
    return Compared(
        quantity="checkpoints",
        label="Checkpoints to keep",
        unit="steps",
        reproduced=count if plans else NOWHERE,
        corrected=NOWHERE,
        how="see exports/sound/checkpoint_plan.json",
        n=len(plans),
        sentence=told + "; one jump of cluster 2 a run was drawn without a seed, so a plan with one"
        " cannot be repeated.",
    )


def _filled(values: Float64[Tensor, "layer sample"]) -> Float64[Tensor, "layer sample"]:
    """Undefined moments as the series' mean: they make no jump here."""
    mean = values.nanmean(dim=1, keepdim=True).nan_to_num(0)
    return torch.where(values.isfinite(), values, mean)


def _walk(changes: Float64[Tensor, "layer change"]) -> Float64[Tensor, "layer sample"]:
    return torch.nn.functional.pad(changes.cumsum(1), (1, 0))
