"""The runs of the ablation, one after another; each is a child that is done once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from energylens.core.errors import BadInput
from energylens.core.ports import Progress, Store
from energylens.results.record import Summary
from energylens.studies.children import Outcome, joined, passing, run_child
from energylens.studies.energy_lens import EnergyLens
from energylens.studies.energy_lens.material import Material, gather
from energylens.studies.energy_lens.tables import table
from energylens.studies.energy_lens_ablation import EnergyLensAblation
from energylens.studies.energy_lens_ablation.changes import change_rows
from energylens.studies.energy_lens_ablation.finding import summarise
from energylens.studies.energy_lens_ablation.outcomes import run_rows
from energylens.studies.study import flag, pin_inputs

KEPT = ("layers", "dictionaries", "controls", "calibration_pooled", "features")
BASE = "base"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run: the base point with a seed, or with one option changed.

    Attributes:
        factor: The option that is changed; `base` where none is.
        level: What it is set to; the seed where none is changed.
    """

    name: str
    factor: str
    level: int
    options: EnergyLens


def run(
    options: EnergyLensAblation, *, store: Store, progress: Progress, say: Callable[[str], None]
) -> Summary:
    """Energy-lens at the base point with several seeds, then with one change at a time."""
    torch.set_num_threads(options.threads or torch.get_num_threads())
    chosen = list(points(options, options.sites))
    # All inputs are read once and refused before the first long work.
    with passing(store, "begin") as begin:
        material = gather(chosen[0].options, begin, say)
        inputs = begin.record("inputs")
    pin_inputs(store, inputs)
    sites = options.sites or _three_sites(material)
    outcomes: list[tuple[Point, Outcome]] = []
    with progress.task("runs of the ablation", len(chosen), "run") as advance:
        for point in points(options, sites):
            outcomes.append((point, run_child(
                "energy-lens", point.options, point.name, tables=KEPT, store=store,
                progress=progress, say=say,
            )))  # fmt: skip
            advance(1)
    runs = [row for point, outcome in outcomes
            for row in run_rows(point.name, point.factor, point.level, point.options.seed,
                                outcome)]  # fmt: skip
    changes = list(change_rows(runs, [outcome for _, outcome in outcomes]))
    store.save("tables", tables={
        "ablation_runs": table(runs),
        "ablation_changes": table(changes),
        **{f"{name}_by_run": joined([outcome for _, outcome in outcomes], name) for name in KEPT},
    })  # fmt: skip
    return summarise(options, runs, changes, [outcome for _, outcome in outcomes])


def points(options: EnergyLensAblation, sites: tuple[str, ...] = ()) -> Iterator[Point]:
    """The base point with each seed, then one option changed at a time, with the first seed.

    Raises:
        BadInput: If a change asks for more active features than there are, or changes nothing.
    """

    def child(seed: int, **changed: int) -> EnergyLens:
        shared = ("model", "text", "context", "score_documents", "proof_features",
                  "proof_contexts", "draws", "memory_mb", "threads", "device")  # fmt: skip
        base = {name: getattr(options, name) for name in (*shared, "width", "k", "train_tokens")}
        return EnergyLens(**{**base, **changed}, sites=sites, seed=seed, random_weights=False)

    if options.k > options.width:
        raise BadInput(
            f"--k {options.k} active features of --width {options.width} were asked for: k must be"
            " less"
        )
    for seed in range(options.seed, options.seed + options.repeats):
        yield Point(name=f"base-seed-{seed}", factor=BASE, level=seed, options=child(seed))
    for factor in ("width", "k", "train_tokens"):
        base = getattr(options, factor)
        seen = {base}
        for times in getattr(options, f"{factor}_times"):
            level = max(1, round(base * times))
            called = f"{flag(f'{factor}_times')} {times:g}"
            if level in seen:
                raise BadInput(
                    f"{called} of a {factor.replace('_', ' ')} of {base} is {level}, which is run"
                    " already: give factors that change it, each once"
                )
            seen.add(level)
            made = child(options.seed, **{factor: level})
            if made.k > made.width:
                raise BadInput(
                    f"{called} asks for {made.k} active features of {made.width}: choose widths"
                    " that are at least k"
                )
            name = f"{factor.replace('_', '-')}-{level}"
            yield Point(name=name, factor=factor, level=level, options=made)


def _three_sites(material: Material) -> tuple[str, ...]:
    """After the first, the middle and the last block."""
    last = material.subject.n_layers - 1
    layers = dict.fromkeys((0, last // 2, last))
    return tuple(f"blocks.{layer}.resid_post" for layer in layers)
