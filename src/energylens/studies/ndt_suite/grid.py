"""Which networks are trained on what, and how they are dealt out to tasks."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, product
from pathlib import Path

from energylens.core.errors import BadInput
from energylens.core.ports import Task
from energylens.sources.examples_by_name import check_name, short_name
from energylens.sources.suite_networks import architecture
from energylens.studies.ndt_suite import NdtSuite
from energylens.studies.track_training import TrackTraining

MLPS = ("mlp_shallow_2", "mlp_medium_5", "mlp_deep_10", "mlp_verydeep_15", "mlp_narrow",
        "mlp_medium", "mlp_wide", "mlp_verywide")  # fmt: skip
CNNS = ("cnn_shallow", "cnn_medium", "cnn_deep")
TRANSFORMERS = ("transformer_shallow", "transformer_medium", "transformer_deep")
NARROW = ("transformer_narrow",)
# 32 perceptrons, 9 convolutional networks where there are neighbours to convolve, 14 transformers.
GRID: dict[str, tuple[str, ...]] = {
    "mnist-10k": (*MLPS, *CNNS, *TRANSFORMERS, *NARROW),
    "digits": (*CNNS, *TRANSFORMERS),
    "mnist1d": (*MLPS, *CNNS, *TRANSFORMERS),
    "speeches": (*MLPS, *TRANSFORMERS, *NARROW),
    "breast-cancer": MLPS,
}
QUICK: dict[str, tuple[str, ...]] = {
    "digits": ("cnn_shallow",),
    "mnist1d": ("mlp_medium_5", "cnn_shallow"),
    "speeches": ("mlp_shallow_2", "transformer_narrow"),
    "breast-cancer": ("mlp_narrow",),
}
STEPS, QUICK_STEPS = 2_000, 400
FEWEST_LOOKS = 64  # below it the last quarter, the plateau, has too few for its noise
START = 8.0  # seconds until a process trains
SHARED = ("interval", "batch", "lr", "probe", "centred", "threads")
Cell = tuple[str, str]


def cells(options: NdtSuite) -> list[Cell]:
    """Data set and architecture of each training of one seed.

    A choice of data sets or architectures is cut out of the suite; where both are given, it is
    each on each, whether the suite has it or not.

    Raises:
        BadInput: If a value is given twice, there would be too few looks, or what was asked for is
            not in the suite.
    """
    for name in ("datasets", "architectures", "seeds", "measures"):
        values = getattr(options, name)
        if twice := [value for value in values if values.count(value) > 1]:
            raise BadInput(f"option --{name} has {twice[0]} twice: give each value once")
    names = [short_name(dataset) for dataset in options.datasets]
    if alike := [name for name in names if names.count(name) > 1]:
        raise BadInput(f"two of --datasets would both be called {alike[0]}: rename one")
    for dataset in options.datasets:
        check_name(dataset)
    for name in options.architectures:
        architecture(name)
    looks = steps_of(options) // options.interval + 1
    if looks < FEWEST_LOOKS:
        raise BadInput(
            f"{steps_of(options):,} steps looked at every {options.interval} give {looks} looks,"
            f" and changes take {FEWEST_LOOKS} to be found: raise --steps or lower --interval"
        )
    if options.datasets and options.architectures:
        return list(product(options.datasets, options.architectures))
    grid = QUICK if options.quick else GRID
    chosen = [
        (dataset, name)
        for dataset, architectures in grid.items() for name in architectures
        if dataset in (options.datasets or grid)
        and name in (options.architectures or architectures)
    ]  # fmt: skip
    there = {name for cell in chosen for name in cell}
    if missing := sorted({*options.datasets, *options.architectures} - there):
        raise BadInput(
            f"{'a quick suite' if options.quick else 'the suite'} trains nothing that fits"
            f" {', '.join(missing)}: give both --datasets and --architectures to train each on each"
        )
    return chosen


def tasks_of(options: NdtSuite) -> list[Task]:
    """One task for each seed and network, the longest first; the perceptrons of a data set share
    one, since a process takes as long to start as one of them to train.

    Raises:
        BadInput: As `cells` does.
    """
    tasks = [
        Task(
            study="track-training", options=training(options, dataset, architectures, seed),
            folder=Path(f"{label}-{short_name(dataset)}-seed-{seed}"),
            work=_work(dataset, architectures, steps_of(options)),
        )
        for seed in options.seeds for dataset, label, architectures in _shared(cells(options))
    ]  # fmt: skip
    return sorted(tasks, key=lambda task: task.work, reverse=True)


def _shared(chosen: Sequence[Cell]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    def label(cell: Cell) -> tuple[str, str]:
        dataset, architecture = cell
        return dataset, "mlp" if architecture.startswith("mlp_") else architecture

    for (dataset, name), group in groupby(sorted(chosen, key=label), key=label):
        yield dataset, name, tuple(architecture for _, architecture in group)


def _work(dataset: str, architectures: Sequence[str], steps: int) -> float:
    """Roughly the seconds on one core, so that no long task is left to the end and the time that is
    left can be told."""
    size = {"transformer_deep": 220.0, "transformer_medium": 150.0, "transformer_shallow": 75.0,
            "transformer_narrow": 55.0, "cnn_deep": 90.0, "cnn_medium": 65.0,
            "cnn_shallow": 35.0}  # fmt: skip
    small = dataset in ("digits", "mnist1d")  # images of fewer pixels to convolve
    return START + steps / 1000 * sum(
        size.get(name, 4.0) * (0.2 if name.startswith("cnn") and small else 1.0)
        for name in architectures
    )


def training(
    options: NdtSuite, dataset: str, architectures: tuple[str, ...], seed: int
) -> TrackTraining:
    """What one task trains."""
    return TrackTraining(
        **{name: getattr(options, name) for name in SHARED}, dataset=dataset, seed=seed,
        architectures=architectures, steps=steps_of(options),
    )  # fmt: skip


def steps_of(options: NdtSuite) -> int:
    """Updates of each network."""
    return options.steps or (QUICK_STEPS if options.quick else STEPS)


def tell(options: NdtSuite, say: Callable[[str], None]) -> None:
    """What a run would do."""
    chosen, tasks = cells(options), tasks_of(options)
    datasets = ", ".join(dict.fromkeys(dataset for dataset, _ in chosen))
    say(
        f"{len(chosen) * len(options.seeds)} trainings of {steps_of(options):,} steps on"
        f" {datasets}, looked at every {options.interval}, in {len(tasks)} tasks"
    )
    for task in tasks:
        say(f"  {task.folder}: {', '.join(task.options.architectures)}")
