"""When layers settle, whether together, and whether the loss follows: claimed and corrected."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from energylens.dynamics.original import coordination, first_quiet_window
from energylens.results.format import number, percent
from energylens.stats.interval import Interval
from energylens.stats.nulls import circular_shifts
from energylens.stats.ranking import spearman
from energylens.stats.robust import cluster_mean_interval
from energylens.studies.ndt_import.compared_jumps import NAMES, TRUE
from energylens.studies.ndt_import.comparison import (
    NOWHERE,
    Compared,
    beside_claim,
    ends_of,
    rate,
    spread,
    with_null,
)
from energylens.studies.ndt_import.compat import STRONG, Layers, Reading
from energylens.studies.ndt_import.material import Material, true_phase
from energylens.studies.ndt_import.phase_two import REACH, improving_shares
from energylens.studies.ndt_import.reading import Experiment
from energylens.studies.ndt_import.recovery import true_rank

NULL_DRAWS = 99
CHANGED = 0.2
TURNED = "each layer turned round in time"
LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class CourseNull:
    """What the original's definitions find where layers know nothing of time, or of each other.

    Attributes:
        quiet_at_once: Share of layers quiet from the first sample, their samples dealt out anew.
        strong: Share of runs with strong coordination, layers turned round against each other.
        falls: Share of critical moments at which the loss falls, likewise, averaged over runs.
    """

    quiet_at_once: tuple[float, ...]
    strong: tuple[float, ...]
    falls: tuple[float, ...]


def course_null(
    experiments: Sequence[Experiment], reading: Reading, generator: torch.Generator
) -> CourseNull:
    """Draw the nulls of stabilisation, coordination and the link to the loss."""
    quiet, strong, falls = [], [], []
    for one in experiments:
        layers = reading.layers[one.name]
        quiet.append([float((first_quiet_window(_dealt(layers.series, generator)) == 0).sum())
                      for _ in range(NULL_DRAWS // 5)])  # fmt: skip
        turned = circular_shifts(layers.critical.float(), NULL_DRAWS, generator)
        drop = (one.loss.diff() < 0).float()
        shares = (turned * drop).sum(2) / turned.sum(2).clamp_min(1)
        link = shares.mean(1)
        falls.append(link.tolist())
        strong.append(((turned.mean(1).amax(1) > STRONG) & (link > STRONG)).double().tolist())
    count = sum(len(one.layers) for one in experiments)
    return CourseNull(
        quiet_at_once=tuple((torch.tensor(quiet).sum(0) / count).tolist()),
        strong=tuple(torch.tensor(strong).mean(0).tolist()),
        falls=tuple(torch.tensor(falls).mean(0).tolist()),
    )


def course_rows(material: Material, null: CourseNull) -> Iterator[Compared]:
    """All rows about settling, coordination and the loss."""
    yield _quiet(material, null)
    yield _order(material)
    yield _coordination(material)
    yield _strong(material, null)
    yield _loss(material, null)
    yield _early_loss(material)
    yield _changed(material)
    yield _with_loss(material)


def _quiet(material: Material, null: CourseNull) -> Compared:
    names = list(material.by_name())
    before, after = (_at_once(material.experiments, reading.layers)
                     for reading in (material.stored, material.true))  # fmt: skip
    mean, sd = spread(null.quiet_at_once)
    settled = material.rows("settling", measure="stable_rank")
    censored = sum(row["censored"] for row in settled)
    steps = [row["settled_step"] for row in settled if not row["censored"]]
    middle = f"at step {number(float(np.median(steps)))} in the middle" if steps else "never"
    return Compared(
        quantity="quiet_at_once", label="Layers quiet from the start", unit="of layers",
        reproduced=float(before.estimate), corrected=float(after.estimate), ends=ends_of(after),
        null_mean=mean, null_sd=sd, null="the same values in random order", how=TRUE, n=len(names),
        sentence=f"{beside_claim('quiet_at_once', float(before.estimate), names, share=True)}: a"
        f" constant is quiet at once; of the true rank"
        f" {with_null(float(after.estimate), ends_of(after), mean)} (the values in random order)."
        f" Layers settle {middle} of those that do, and {censored} of {len(settled)} had not when"
        " the training ended.",
    )  # fmt: skip


def _at_once(experiments: Sequence[Experiment], layers: Mapping[str, Layers]) -> Interval:
    quiet = [float((layers[one.name].stabilised == 0).sum()) for one in experiments]
    return rate(torch.tensor(quiet), torch.tensor([float(len(one.layers)) for one in experiments]))


def _order(material: Material) -> Compared:
    names = list(material.by_name())
    before, after = (Counter(row["convergence_pattern"] for row in reading.convergence)
                     for reading in (material.stored, material.true))  # fmt: skip
    mine = Counter(row["pattern"] for row in material.rows("order", measure="stable_rank"))
    runs = float(len(names))
    at_once = [float(row["convergence_pattern"] == "simultaneous")
               for row in material.true.convergence]  # fmt: skip
    share = rate(torch.tensor(at_once), torch.ones(len(names)))
    return Compared(
        quantity="simultaneous", label="Runs that settle all at once", unit="of runs",
        reproduced=before["simultaneous"] / runs, corrected=after["simultaneous"] / runs,
        ends=ends_of(share), how=TRUE, n=len(names),
        sentence=f"{beside_claim('simultaneous', before['simultaneous'] / runs, names, share=True)}"
        f": its rule says {_counts(before)}, since a rank correlation with a constant is undefined."
        f" Of the true rank it says {_counts(after)}, by layer numbers that are 999 for most layers"
        f" of a transformer; a permutation over depth says {_counts(mine)}.",
    )  # fmt: skip


def ordered_share(material: Material) -> Compared:
    """Runs whose layers settle from the bottom up or the top down, by permutation over depth."""
    found = material.rows("order", measure="stable_rank")
    ordered = [float(row["pattern"] in ("bottom_up", "top_down")) for row in found]
    share = rate(torch.tensor(ordered), torch.ones(len(ordered)))
    return Compared(
        quantity="ordered_share", label="Runs whose layers settle in order of depth",
        unit="of runs", corrected=float(share.estimate), ends=ends_of(share), null_mean=LEVEL,
        null="no more, were depth nothing: the level",
        how="settling of the true stable rank, permuted over depth", n=len(ordered),
        sentence=f"In {sum(ordered):.0f} of {len(ordered)} runs layers settle in order of depth.",
    )  # fmt: skip


def _counts(patterns: Counter[str]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in patterns.most_common())


def _coordination(material: Material) -> Compared:
    names = list(material.by_name())
    before, after = ([row["mean_coordination"] for row in reading.runs]
                     for reading in (material.stored, material.true))  # fmt: skip
    fixed = float(np.mean([_by_construction(len(one.steps)) for one in material.experiments]))
    judged = material.rows("coordination", measure="stable_rank")
    sure = sum(row["q"] <= LEVEL for row in judged)
    return Compared(
        quantity="mean_coordination", label="Layers critical at once, on average",
        unit="of layers", reproduced=float(np.mean(before)), corrected=float(np.mean(after)),
        ends=_mean_ends(after), null_mean=fixed, null="by construction, whatever happens", how=TRUE,
        n=len(names),
        sentence=f"{beside_claim('mean_coordination', float(np.mean(before)), names, share=True)}:"
        f" a 90th percentile leaves {percent(fixed)} whatever happens, and less only where values"
        f" tie, as a constant's do; the true rank has {percent(float(np.mean(after)))}. That it"
        f" varies more over time than with the layers turned against each other, beyond a common"
        f" course, is so in {sure} of {len(judged)} runs (q ≤ .05).",
    )  # fmt: skip


def _by_construction(samples: int) -> float:
    """Share of samples above the 90th percentile of their increments, without ties."""
    sizes = torch.arange(samples - 1, dtype=torch.float64)[None]
    return float(coordination(sizes > sizes.quantile(0.9)).mean())


def _strong(material: Material, null: CourseNull) -> Compared:
    names = list(material.by_name())
    before, after = ([float(row["strong"]) for row in reading.runs]
                     for reading in (material.stored, material.true))  # fmt: skip
    share = rate(torch.tensor(after), torch.ones(len(after)))
    mean, sd = spread(null.strong)
    return Compared(
        quantity="strong_share", label="Runs with strong coordination", unit="of runs",
        reproduced=float(np.mean(before)), corrected=float(np.mean(after)), ends=ends_of(share),
        null_mean=mean, null_sd=sd, null=TURNED, how=TRUE, n=len(names),
        sentence=f"{beside_claim('strong_share', float(np.mean(before)), names, share=True)}; with"
        f" the true rank {percent(float(np.mean(after)))} of runs pass, and {percent(mean)} of"
        f" those whose layers were turned against each other{_hardly(mean)}.",
    )  # fmt: skip


def _hardly(null: float) -> str:
    return ": a rule that hardly fails says little" if null > 0.5 else ""


def _loss(material: Material, null: CourseNull) -> Compared:
    names = list(material.by_name())
    before, after = ([row["loss_correlation"] for row in reading.runs]
                     for reading in (material.stored, material.true))  # fmt: skip
    base = float(np.mean([_falling(one.loss) for one in material.experiments]))
    mean, sd = spread(null.falls)
    linked = material.rows("loss_link", measure="stable_rank")
    sure = sum(row["q"] <= LEVEL for row in linked)
    return Compared(
        quantity="loss_falls", label="Loss falls at a critical moment", unit="of moments",
        reproduced=float(np.mean(before)), corrected=float(np.mean(after)), ends=_mean_ends(after),
        null_mean=mean, null_sd=sd, null=TURNED, how=TRUE, n=len(names),
        sentence=f"{beside_claim('loss_falls', float(np.mean(before)), names, share=True)}, which"
        f" is no correlation: the loss falls at {percent(base, digits=3)} of all moments. With the"
        f" true rank it falls at {with_null(float(np.mean(after)), _mean_ends(after), mean)}; a"
        f" lagged correlation with it is beyond its null in {sure} of {len(linked)} runs"
        " (q ≤ .05).",
    )  # fmt: skip


def _falling(loss: Float64[Tensor, " sample"]) -> float:
    change = loss.diff()
    known = change.isfinite()
    return float((change[known] < 0).double().mean()) if bool(known.any()) else NOWHERE


def _early_loss(material: Material) -> Compared:
    names = list(material.by_name())
    before = improving_shares(material.stored, material.by_name())["early"]
    falls, moments, base = [], [], []
    for one in material.experiments:
        around, early = _falls_around(one)
        hits = material.true.layers[one.name].jumps[:, REACH:-REACH] & early
        falls.append(float((hits & around).sum()))
        moments.append(float(hits.sum()))
        base.append(float(around[early].double().mean()))
    share = rate(torch.tensor(falls), torch.tensor(moments))
    null = float(np.mean(base))
    return Compared(
        quantity="early_loss_falls", label="Loss falls around an early jump", unit="of jumps",
        reproduced=before, corrected=float(share.estimate), ends=ends_of(share), null_mean=null,
        null="around any early moment", how=TRUE, n=len(names),
        sentence=(beside_claim("early_loss_falls", before, names, share=True)
                  + f", read at 1/{material.experiments[0].interval} of each jump's index"
                  if math.isfinite(before) else "The runs that 66 % was claimed of are not here")
        + "; around the early jumps of the true rank it falls for"
        f" {with_null(float(share.estimate), ends_of(share), NOWHERE)}, around any moment so early"
        f" for {percent(null)}.",
    )  # fmt: skip


def _falls_around(one: Experiment) -> tuple[Bool[Tensor, " moment"], Bool[Tensor, " moment"]]:
    """Whether the loss falls over two samples either way, and which moments are early."""
    inner = slice(REACH, len(one.steps) - 1 - REACH)
    at = torch.arange(len(one.steps) - 1)[inner]
    return one.loss[at + REACH] < one.loss[at - REACH], (true_phase(one) < 0.1)[inner]


def _changed(material: Material) -> Compared:
    names = list(material.by_name())
    stored = torch.cat([_moved(one.stored["stable_rank"]) for one in material.experiments])
    by_run = [_moved(true_rank(one)) for one in material.experiments]
    share = rate(torch.tensor([float(moved.sum()) for moved in by_run]),
                 torch.tensor([float(len(moved)) for moved in by_run]))  # fmt: skip
    return Compared(
        quantity="changed_share", label="Layers that change by a fifth",
        unit="of layers", reproduced=float(stored.double().mean()),
        corrected=float(share.estimate), ends=ends_of(share), how="first and last true stable rank",
        n=len(names),
        sentence=f"From the first measurement to the last the stored rank changes by a fifth in"
        f" {percent(float(stored.double().mean()))} of layers, the true one in"
        f" {with_null(float(share.estimate), ends_of(share), NOWHERE)}.",
    )  # fmt: skip


def _moved(rank: Float64[Tensor, "layer sample"]) -> Bool[Tensor, " layer"]:
    return (rank[:, -1] / rank[:, 0] - 1).abs() > CHANGED


def _with_loss(material: Material) -> Compared:
    """How rank and loss go together over the training, layer by layer."""
    by_run = []
    for one in material.experiments:
        rank = true_rank(one)
        by_run.append(spearman(rank, one.loss.expand_as(rank)))
    means = [float(found.nanmean()) for found in by_run]
    rho = torch.cat(by_run)
    rho = rho[rho.isfinite()]
    low, middle, high = (float(x) for x in rho.quantile(torch.tensor([0.1, 0.5, 0.9]).double()))
    families = ", ".join(
        f"{plural} {number(float(torch.cat(some).nanmedian()), digits=2, signed=True)}"
        for family, plural in NAMES.items()
        if (some := [found for one, found in zip(material.experiments, by_run, strict=True)
                     if one.family == family])
    )  # fmt: skip
    return Compared(
        quantity="rank_loss", label="Rank correlation of dimension and loss", unit="correlation",
        corrected=float(np.nanmean(means)), ends=_mean_ends(means),
        how="Spearman over the training, mean of layers and then runs", n=len(by_run),
        sentence=f"True rank and loss go together over a training by {number(middle, digits=2)} in"
        f" the middle layer (80 % of layers within {number(low, digits=2)} and"
        f" {number(high, digits=2)}; medians: {families}); two trends alone do as much.",
    )  # fmt: skip


def _mean_ends(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a mean over runs; without ends where there is but one."""
    known = torch.tensor([value for value in values if math.isfinite(value)], dtype=torch.float64)
    if len(known) < 2:
        return NOWHERE, NOWHERE
    interval = cluster_mean_interval(known[:, None])
    return float(interval.low[0]), float(interval.high[0])


def _dealt(
    series: Float64[Tensor, "layer sample"], generator: torch.Generator
) -> Float64[Tensor, "layer sample"]:
    order = torch.randperm(series.shape[1], generator=generator)
    return series[:, order]
