"""Train, find events, train again and keep them, compare: one network after another."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from energylens.core.errors import BadInput
from energylens.core.ports import Progress, Store
from energylens.dynamics.jumps import JumpOptions
from energylens.dynamics.planner import CheckpointPlan
from energylens.dynamics.tables import history_tables
from energylens.results.record import Summary
from energylens.sources.examples import split
from energylens.sources.examples_by_name import examples_named
from energylens.sources.suite_networks import Architecture, architecture
from energylens.studies.dynamics_analysis.events import JUMPS, jump_rows
from energylens.studies.mechanisms_at_jumps import MechanismsAtJumps
from energylens.studies.mechanisms_at_jumps.changes import change_rows, end_rows, window_rows
from energylens.studies.mechanisms_at_jumps.contrasts import (
    PLACEBO,
    contrast_rows,
    quiet_as_events,
)
from energylens.studies.mechanisms_at_jumps.finding import summarise
from energylens.studies.mechanisms_at_jumps.moments import (
    FAST,
    JUMP,
    MEASURES,
    Moment,
    fast_moments,
    jump_moments,
    plan,
)
from energylens.studies.mechanisms_at_jumps.trainings import (
    Material,
    fresh,
    places_of,
    train_kept,
    train_watched,
    weights_sha256,
)
from energylens.studies.study import pin_inputs
from energylens.studies.track_training import TrackTraining
from energylens.studies.track_training.work import trained_row

Row = dict[str, Any]
QUICK = {"dataset": "digits", "steps": 300, "batch": 32, "margin": 5, "controls": 2}
PLANTED = "planted"
# Where in a training events are planted, and by how much weights are pushed in parts of their
# spread: a push that is seen at once and that the network recovers from.
WHERE, PUSH = (0.3, 0.42, 0.54, 0.66, 0.78), 0.3


def run(
    options: MechanismsAtJumps, *, store: Store, progress: Progress, say: Callable[[str], None]
) -> Summary:
    """All networks, and the first one once more with planted events; what is done is read back."""
    torch.set_num_threads(options.threads or torch.get_num_threads())
    asked = replace(options, **QUICK) if options.quick else options  # type: ignore[arg-type]
    wanted = _wanted(asked)
    material = _material(asked, store)
    for one in wanted:
        if not store.done(f"{one.name}.watched"):
            say(f"train {one.name} on {asked.dataset}, watched")
            _watch(one, material, store, progress)
        if not store.done(f"{one.name}.kept"):
            say(f"train {one.name} again, and keep what was planned")
            _keep(one, material, store, progress)
    if not store.done(PLANTED):
        say(f"train {wanted[0].name} with planted events")
        _plant(wanted[0], material, store, progress)
    tables = _tables(wanted, asked, store)
    store.save("tables", tables=tables)
    return summarise(asked, {name: table.to_pylist() for name, table in tables.items()
                             if name not in ("measurements", "training")})  # fmt: skip


def _wanted(options: MechanismsAtJumps) -> list[Architecture]:
    names = options.architectures
    if not names or len(set(names)) < len(names):
        raise BadInput(
            f"option --architectures has {len(names)} names, {len(set(names))} of them different:"
            " give at least one, and each once"
        )
    if options.steps < 8 * options.margin or options.steps < 60 * options.interval:
        raise BadInput(
            f"--steps {options.steps} leaves no room for windows of {2 * options.margin} steps and"
            f" looks every {options.interval}: train longer, or narrow --margin and --interval"
        )
    return [architecture(name) for name in names]


def _material(options: MechanismsAtJumps, store: Store) -> Material:
    examples = examples_named(options.dataset)
    pin_inputs(store, {
        "examples": {"name": examples.name, "source": examples.source, "sha256": examples.sha256,
                     "examples": len(examples)},
        "seeds": {"seed": options.seed},
    })  # fmt: skip
    drawn = torch.Generator().manual_seed(options.seed)
    parts = split(examples, drawn)
    chosen = torch.randperm(len(parts.held_out), generator=drawn)[: options.probe]
    return Material(parts=parts, probe=parts.held_out.take(chosen), options=options)


def _watch(one: Architecture, material: Material, store: Store, progress: Progress) -> None:
    """The first training: its course, its events, and what is to be kept of the second."""
    options, run = material.options, one.name
    began, ticks = time.perf_counter(), time.process_time()
    module, history = train_watched(one, material, store.workplace(run), progress)
    generator = torch.Generator().manual_seed(options.seed + 4)
    jumps = jump_rows({run: history}, {run: options.steps}, MEASURES, generator,
                      JumpOptions(draws=options.draws))  # fmt: skip
    span = max(1, round(2 * options.margin / options.interval))
    moments = [*jump_moments(jumps, most=options.events),
               *fast_moments(history, span=span, most=options.events)]  # fmt: skip
    row = _row(one, module, material, float(history.training["loss"][-1]))
    row |= {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - ticks}
    jump_table = pa.Table.from_pylist([{**j, "type": None} for j in jumps], schema=JUMPS)
    store.save(
        f"{run}.watched", scratch=True, tensors={f"{run}.trained": _state(module)},
        tables={
            f"{run}.jumps": jump_table, f"{run}.moments": table(map(asdict, moments)),
            **{f"{run}.{name}": kept for name, kept in history_tables({run: history}).items()},
        },
        records={
            f"{run}.row": row, f"{run}.sha256": weights_sha256(module),
            f"{run}.plan": plan(moments, options).to_json(),
        },
    )  # fmt: skip


def _row(one: Architecture, module: nn.Module, material: Material, last_loss: float) -> Row:
    """As track-training tells of a training, named by its architecture alone."""
    options = material.options
    as_tracked = TrackTraining(
        dataset=options.dataset, seed=options.seed, steps=options.steps, interval=options.interval
    )
    row = trained_row(one, module, material.parts.held_out, as_tracked, last_loss=last_loss)
    return row | {"run": one.name}


def _keep(one: Architecture, material: Material, store: Store, progress: Progress) -> None:
    """The second training, and what changed in each window of it."""
    options, run, folder = material.options, one.name, store.workplace(one.name)
    planned = CheckpointPlan.from_json(store.record(f"{run}.plan"))
    moments = [Moment(**moment) for moment in store.table(f"{run}.moments").to_pylist()]
    sha256 = store.record(f"{run}.sha256")
    module = train_kept(one, material, planned, folder, progress, expected=sha256)
    windows = window_rows(run, planned, moments)
    places = places_of(module)
    changes = change_rows(windows, module, places, material.compared, folder / "kept")
    ends = end_rows(
        run, fresh(one, material)[0], places, material.compared, store.tensors(f"{run}.trained"),
        generator=torch.Generator().manual_seed(options.seed + 5),
    )  # fmt: skip
    store.save(
        f"{run}.kept", scratch=True,
        tables={f"{run}.windows": table(windows), f"{run}.changes": table(changes),
                f"{run}.ends": table(ends)},
    )  # fmt: skip


def _plant(one: Architecture, material: Material, store: Store, progress: Progress) -> None:
    """A training whose weights are pushed at known steps: what is planted must be found."""
    options, folder = material.options, store.workplace(PLANTED)
    at = [round(share * options.steps) for share in WHERE]
    moments = [Moment(kind=PLANTED, step=s, low=s, high=s, strength=PUSH) for s in at]
    planned = plan(moments, options)

    @torch.no_grad()
    def push(module: nn.Module, step: int) -> None:
        if step not in at:
            return
        generator = torch.Generator().manual_seed(options.seed + step)
        for weights in module.parameters():
            noise = torch.randn(weights.shape, generator=generator)
            weights.add_(PUSH * weights.std(correction=0) * noise)

    module = train_kept(one, material, planned, folder, progress, disturb=push)
    windows = window_rows(PLANTED, planned, moments)
    places = places_of(module)
    changes = change_rows(windows, module, places, material.compared, folder / "kept")
    store.save(
        PLANTED, scratch=True,
        tables={f"{PLANTED}.windows": table(windows), f"{PLANTED}.changes": table(changes)},
    )  # fmt: skip


def _tables(
    wanted: Sequence[Architecture], options: MechanismsAtJumps, store: Store
) -> dict[str, pa.Table]:
    names = [one.name for one in wanted]
    generator = torch.Generator().manual_seed(options.seed + 6)

    def rows(kind: str, runs: Sequence[str]) -> list[Row]:
        return [row for run in runs for row in store.table(f"{run}.{kind}").to_pylist()]

    windows, changes = rows("windows", names), rows("changes", names)
    planted = rows("windows", [PLANTED]), rows("changes", [PLANTED])
    contrasts = [
        *contrast_rows(windows, changes, runs=names, kinds=(JUMP, FAST), generator=generator),
        *contrast_rows(quiet_as_events(windows), changes, runs=names, kinds=(PLACEBO,),
                       generator=generator),
        *contrast_rows(*planted, runs=(PLANTED,), kinds=(PLANTED,), generator=generator),
    ]  # fmt: skip
    joined = {
        name: pa.concat_tables([store.table(f"{run}.{name}") for run in names],
                               promote_options="default")
        for name in ("measurements", "training", "jumps")
    }  # fmt: skip
    return {
        "runs": table(store.record(f"{run}.row") for run in names), **joined,
        "mechanism_windows": table(windows + planted[0]),
        "mechanism_changes": table(changes + planted[1]),
        "mechanism_contrasts": table(contrasts),
        "mechanism_ends": table(rows("ends", names)),
    }  # fmt: skip


def table(rows: Iterable[Row]) -> pa.Table:
    """Rows to an Arrow table; nan stays nan."""
    return pa.Table.from_pylist(list(rows))


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in module.state_dict().items()}
