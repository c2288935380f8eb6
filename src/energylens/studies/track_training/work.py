"""The order of the work: examples, and then one network after another, each trained and watched."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from energylens.core.checkpoint import FolderCheckpoint
from energylens.core.errors import BadInput
from energylens.core.ports import Progress, Store
from energylens.dynamics.look import TrackOptions
from energylens.dynamics.tables import history_tables
from energylens.dynamics.tracker import Tracker
from energylens.dynamics.training import TrainingPlan, correct, train_classifier
from energylens.results.record import Summary
from energylens.sources.examples import Examples, Split, split
from energylens.sources.examples_by_name import examples_named, short_name
from energylens.sources.suite_networks import (
    Architecture,
    Family,
    architecture,
    network,
    tracked_sites,
)
from energylens.stats.rates import clustered_rate_interval
from energylens.studies.study import pin_inputs
from energylens.studies.track_training import TrackTraining
from energylens.studies.track_training.finding import summarise

Row = dict[str, Any]
PROBE: dict[Family, int] = {"mlp": 160, "cnn": 96, "transformer": 96}
FEWEST = 4
"""Examples of a probe: two a half."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """What all networks of a run share.

    Attributes:
        drawn: The held-out examples in random order: networks are looked at on the first of them.
    """

    parts: Split
    drawn: Tensor


def run(
    options: TrackTraining, *, store: Store, progress: Progress, say: Callable[[str], None]
) -> Summary:
    """Networks of all architectures; one that was finished is read back."""
    torch.set_num_threads(options.threads or torch.get_num_threads())
    wanted = _wanted(options)
    examples = examples_named(options.dataset)
    pin_inputs(store, {"examples": _identity(examples), "seeds": {"seed": options.seed}})
    material = gather(examples, options)
    for one in wanted:
        if not store.done(_part(options, one)):
            say(f"training {one.name} on {examples.name}, seed {options.seed}")
            _train(one, material, options, store, progress)
    tables = {
        name: pa.concat_tables(
            [store.table(f"{_part(options, one)}.{name}") for one in wanted],
            promote_options="default",
        ) for name in ("runs", "measurements", "training")
    }  # fmt: skip
    store.save("tables", tables=tables)
    return summarise(options, tables["runs"].to_pylist(), tables["measurements"])


def _wanted(options: TrackTraining) -> list[Architecture]:
    names = options.architectures
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadInput(f"option --architectures has {twice[0]} twice: give each value once")
    if 0 < options.probe < FEWEST:
        raise BadInput(f"option --probe takes {FEWEST} examples or more, got {options.probe}")
    return [architecture(name) for name in names]


def _part(options: TrackTraining, one: Architecture) -> str:
    """Name of a run: what is trained on what, and from which seed."""
    return f"{one.name}_{short_name(options.dataset)}_{options.seed}"


def _identity(examples: Examples) -> dict[str, Any]:
    return {
        "name": examples.name, "source": examples.source, "sha256": examples.sha256,
        "examples": len(examples), "classes": list(examples.classes),
    }  # fmt: skip


def gather(examples: Examples, options: TrackTraining) -> Material:
    """Split the examples, and draw those that are looked at."""
    drawn = torch.Generator().manual_seed(options.seed)
    parts = split(examples, drawn)
    order = torch.randperm(len(parts.held_out), generator=drawn)
    return Material(parts=parts, drawn=parts.held_out.inputs[order])


def _train(
    one: Architecture, material: Material, options: TrackTraining, store: Store, progress: Progress
) -> None:
    """A network from its first weights to its tables."""
    weights, order = (torch.Generator().manual_seed(options.seed + shift) for shift in (1, 2))
    train, run = material.parts.train, _part(options, one)
    module = network(one, train.shape, len(train.classes), weights, words=train.words)
    folder = store.workplace(run)
    checkpoint = FolderCheckpoint(folder / "checkpoint", seconds=options.checkpoint_seconds)
    probe = material.drawn[: options.probe or PROBE[one.family]]
    tracker = Tracker(
        module, probe, tracked_sites(module), every=options.interval,
        options=TrackOptions(centred=options.centred), folder=folder / "looks",
    )  # fmt: skip
    losses: list[Tensor] = []

    def after_step(step: int, loss: Tensor) -> None:
        """Tell the mean loss since the look before: one batch of 64 is mostly noise."""
        losses.append(loss)
        tracker.after_step(step, loss=torch.stack(losses).mean())
        if tracker.is_due(step):
            losses.clear()

    began, ticks = time.perf_counter(), time.process_time()
    with tracker:
        train_classifier(
            module, train.inputs, train.labels, _plan(options), order, after_step,
            checkpoint=checkpoint, generators={"weights": weights}, progress=progress, label=run,
        )  # fmt: skip
        history = tracker.history()
    row = trained_row(
        one, module, material.parts.held_out, options, last_loss=float(history.training["loss"][-1])
    )
    row |= {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - ticks}
    tables = {"runs": pa.Table.from_pylist([row]), **history_tables({run: history})}
    store.save(run, tables={f"{run}.{name}": table for name, table in tables.items()}, scratch=True)


def _plan(options: TrackTraining) -> TrainingPlan:
    return TrainingPlan(
        steps=options.steps, batch=options.batch, lr=options.lr, pause=options.interval
    )


def trained_row(
    one: Architecture,
    module: nn.Module,
    held_out: Examples,
    options: TrackTraining,
    *,
    last_loss: float,
) -> Row:
    """A row of the table `runs`, but for the time it took."""
    right = correct(module, held_out.inputs, held_out.labels)
    units = torch.bincount(held_out.units)
    share = clustered_rate_interval(
        torch.bincount(held_out.units, weights=right)[units > 0], units[units > 0]
    )
    return {
        "run": _part(options, one), "architecture": one.name, "family": one.family,
        "dataset": short_name(options.dataset), "seed": options.seed,
        "depth": one.depth, "width": one.width,
        "parameters": sum(weights.numel() for weights in module.parameters()),
        "num_steps": options.steps, "interval": options.interval,
        "final_accuracy": float(right.double().mean()),
        "accuracy_low": float(share.low), "accuracy_high": float(share.high),
        "chance_accuracy": held_out.commonest_share(), "final_loss": last_loss,
        "held_out": len(held_out), "units": int((units > 0).sum()),
    }  # fmt: skip
