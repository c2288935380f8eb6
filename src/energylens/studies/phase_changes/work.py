"""The trainings as tasks, the events of all of them, and the dates."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch

from energylens.core.ports import Launch, Progress, Store
from energylens.dynamics.history import History
from energylens.dynamics.jumps import JumpOptions
from energylens.dynamics.tables import histories_of
from energylens.results.record import Summary
from energylens.studies.dynamics_analysis.analyse import MEASURES, analyse
from energylens.studies.dynamics_analysis.events import JUMPS, jump_rows
from energylens.studies.energy_lens.tables import table
from energylens.studies.phase_changes import PhaseChanges
from energylens.studies.phase_changes.dates import NETWORK, date_rows
from energylens.studies.phase_changes.finding import summarise
from energylens.studies.phase_changes.tasks import tasks_of
from energylens.studies.planted_energies.networks import seeded
from energylens.studies.study import pin_inputs

Row = dict[str, Any]
OPTIONS = JumpOptions()
KEPT = ("runs", "known_dates", "measurements", "training", "progress")


def run(
    options: PhaseChanges,
    *,
    store: Store,
    progress: Progress,
    say: Callable[[str], None],
    launch: Launch,
) -> Summary:
    """Train, look for events in every series, and hold their dates against the known ones."""
    tasks = tasks_of(options)
    finished = launch(tasks)
    pin_inputs(store, {"data": {"name": "drawn by seed", "seeds": list(options.seeds)}})
    seen = {
        name: pa.concat_tables([finished[str(task.folder)].table(name) for task in tasks],
                               promote_options="default")
        for name in KEPT
    }  # fmt: skip
    known = {row["run"]: row for row in seen["known_dates"].to_pylist()}
    runs = [run | known[run["run"]] for run in seen["runs"].to_pylist()]
    say("looking for events")
    histories = histories_of(seen["measurements"], seen["training"])
    found = analyse(histories, seen["runs"], seeded(options.seed, "analysis"))
    progressed = _events_of_progress(seen["progress"], runs, options)
    jumps = found["jumps"].to_pylist() + progressed
    dates = [row for run in runs for row in _dates(run, histories[run["run"]], jumps,
                                                   seen["progress"])]  # fmt: skip
    more = {"progress_jumps": pa.Table.from_pylist(progressed, JUMPS), "dates": table(dates)}
    store.save("tables", tables={**seen, **found, **more})
    return summarise(options, runs, dates)


def _events_of_progress(
    progress: pa.Table, runs: Sequence[Row], options: PhaseChanges
) -> list[Row]:
    """Events of what was measured of each network as a whole: kinds differ in what that is, and
    measures in whether there is a second reading to tell their noise by."""
    rows = []
    for kind in dict.fromkeys(run["kind"] for run in runs):
        generator = seeded(options.seed, "progress", kind)
        length = {run["run"]: run["num_steps"] for run in runs if run["kind"] == kind}
        for twice in (True, False):
            courses = {run: _course(progress, run, twice=twice) for run in length}
            measures = list(next(iter(courses.values())).values)
            rows += jump_rows(courses, length, measures, generator, OPTIONS) if measures else []
    return rows


def _course(progress: pa.Table, run: str, *, twice: bool) -> History:
    """Progress as the history of one site, the network."""
    rows = [row for row in progress.to_pylist() if row["run"] == run]
    values: dict[str, list[float]] = {}
    again: dict[str, list[float]] = {}
    for row in rows:
        if math.isfinite(row["again"]) == twice:
            values.setdefault(row["measure"], []).append(row["value"])
            again.setdefault(row["measure"], []).append(row["again"])
    return History(
        steps=torch.tensor(sorted({row["step"] for row in rows})), sites=(NETWORK,),
        values=_series(values), again=_series(again) if twice else {},
        ceiling=torch.ones(1, dtype=torch.long), training={},
    )  # fmt: skip


def _series(columns: Mapping[str, list[float]]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([cells], dtype=torch.float64) for name, cells in columns.items()}


def _dates(run: Row, history: History, jumps: Sequence[Row], progress: pa.Table) -> list[Row]:
    depth = history.depth().tolist()
    measured = dict.fromkeys(row["measure"] for row in progress.to_pylist()
                             if row["run"] == run["run"])  # fmt: skip
    series = [(NETWORK, 1.0, measure) for measure in measured]
    series += [(site, depth[place], measure) for measure in MEASURES
               for place, site in enumerate(history.sites)]  # fmt: skip
    return date_rows(run, series, [jump for jump in jumps if jump["run"] == run["run"]])
