"""One training: what was measured of it, and when it changed by its own measure."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from energylens.core.errors import BadInput
from energylens.core.ports import Progress, Store
from energylens.dynamics.tables import history_tables
from energylens.results.format import number
from energylens.results.record import Control, Estimate, Summary
from energylens.studies.energy_lens.tables import table
from energylens.studies.phase_changes import PhaseChange
from energylens.studies.phase_changes.addition import addition
from energylens.studies.phase_changes.dates import DATED_BY, HALFWAY, SILENT, known_date
from energylens.studies.phase_changes.induction import induction
from energylens.studies.phase_changes.setting import Setting
from energylens.studies.phase_changes.training import Trained, train
from energylens.studies.study import pin_inputs

Row = dict[str, Any]
# Steps of training, and from look to look.
LENGTHS: Mapping[str, tuple[int, int]] = {
    "induction": (800, 8), "learned_positions": (800, 8),
    "grokking": (2_000, 20), "shuffled_answers": (2_000, 20),
}  # fmt: skip
FEWEST_LOOKS = 40


def run(
    options: PhaseChange, *, store: Store, progress: Progress, say: Callable[[str], None]
) -> Summary:
    """Train, and keep what was seen."""
    steps, every = length(options)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    setting = setting_of(options)
    pin_inputs(store, {"data": {"name": setting.data, "seed": options.seed}})
    if not store.done("trained"):
        with progress.task(f"{options.kind}, seed {options.seed}", steps, "step") as advance:
            trained = train(setting, steps=steps, every=every, advance=advance)
        row = _run_row(options, setting, trained, steps, every)
        tables = history_tables({row["run"]: trained.history})
        rows = {
            "runs": [row], "known_dates": [_known_row(row["run"], options, trained)],
            "progress": list(_progress(row["run"], trained)),
        }  # fmt: skip
        store.save("trained", tables=tables | {name: table(some) for name, some in rows.items()})
    (run,), (known,) = (store.table(name).to_pylist() for name in ("runs", "known_dates"))
    return _summary(run | known)


def length(options: PhaseChange) -> tuple[int, int]:
    """Steps of training, and from one look to the next.

    Raises:
        BadInput: If there would be too few looks to find an event in.
    """
    steps, every = LENGTHS[options.kind]
    steps, every = options.steps or steps, options.every or every
    if options.steps and not options.every:
        every = max(1, steps // 100)
    if steps // every + 1 < FEWEST_LOOKS:
        raise BadInput(
            f"--steps {steps} with a look every {every} give {steps // every + 1} looks: events are"
            f" looked for in {FEWEST_LOOKS} or more, so train longer or look more often"
        )
    return steps, every


def setting_of(options: PhaseChange) -> Setting:
    """The training that was asked for.

    Raises:
        BadInput: If heads do not share the width, or p is even.
    """
    if options.d_model % 8:
        raise BadInput(
            f"--d-model {options.d_model} was asked for: four heads share it, in pairs of numbers,"
            " so give a multiple of 8"
        )
    if options.kind in ("induction", "learned_positions"):
        return induction(
            seed=options.seed, rotary=options.kind == "induction", d_model=options.d_model,
            context=options.context, batch=options.batch, table_sd=options.table_sd,
        )  # fmt: skip
    if options.p % 2 == 0:
        raise BadInput(f"--p {options.p} was asked for: frequencies are told apart for an odd p")
    return addition(
        seed=options.seed, shuffled=options.kind == "shuffled_answers", p=options.p,
        share=options.share, d_model=options.d_model, decay=options.decay,
    )  # fmt: skip


def _run_row(
    options: PhaseChange, setting: Setting, trained: Trained, steps: int, every: int
) -> Row:
    return {
        "run": f"{options.kind}-seed-{options.seed}", "architecture": setting.architecture,
        "family": "transformer", "dataset": setting.data, "seed": options.seed,
        "depth": setting.layers, "width": options.d_model,
        "parameters": sum(p.numel() for p in setting.network.parameters()),
        "num_steps": steps, "interval": every,
        "final_accuracy": float(trained.progress[setting.accuracy][0, -1]),
        "chance_accuracy": setting.chance,
        "final_loss": float(trained.history.training["loss"][-1]),
    }  # fmt: skip


def _known_row(run: str, options: PhaseChange, trained: Trained) -> Row:
    by = DATED_BY[options.kind]
    values = trained.progress[by][0].tolist()
    after, known = known_date(trained.history.steps.tolist(), values)
    return {
        "run": run, "kind": options.kind, "silent": options.kind in SILENT, "dated_by": by,
        "known_after": after, "known_step": known, "first_value": values[0],
        "largest_value": max(values),
    }  # fmt: skip


def _progress(run: str, trained: Trained) -> Iterator[Row]:
    for measure, readings in trained.progress.items():
        for step, value, again in zip(trained.history.steps.tolist(), *readings.tolist(),
                                      strict=True):  # fmt: skip
            yield {"run": run, "measure": measure, "step": step, "value": value, "again": again}


def _summary(row: Row) -> Summary:
    known, measure = row["known_step"], row["dated_by"].replace("_", " ")
    came = math.isfinite(known)
    told = (
        f"passes {number(HALFWAY)} between steps {row['known_after']:,.0f} and {known:,.0f}"
        if came else f"stays below {number(HALFWAY)} in {row['num_steps']:,} steps"
    )  # fmt: skip
    return Summary(
        study="phase-change",
        subject=f"{row['run']}: {row['parameters']:,} parameters",
        finding=f"{measure.capitalize()} {told}; at most it is {number(row['largest_value'])}.",
        grade="control",
        figures={
            f"largest.{row['dated_by']}": Estimate(
                row["largest_value"], "share", null_mean=row["first_value"], n=1, n_unit="runs",
                label=f"Largest {measure}", note="null: before the first step",
            ),
        },
        controls={"as_expected": Control(
            label="Silent" if row["silent"] else "Changes", value=came, expected=not row["silent"],
            passed=came != row["silent"],
            sentence=f"{measure.capitalize()} {told}, and should"
            f" {'not pass' if row['silent'] else 'pass'} it.",
        )},
        cards=(f"largest.{row['dated_by']}",),
        limits=("One training: other seeds change at other steps.",),
    )  # fmt: skip
