"""The suite: its tasks, their tables joined, and the analysis that all such studies share."""

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import torch

from energylens.core.ports import Launch, Progress, Store
from energylens.dynamics.tables import histories_of
from energylens.results.record import Summary
from energylens.studies.dynamics_analysis.analyse import analyse
from energylens.studies.ndt_suite import NdtSuite
from energylens.studies.ndt_suite.finding import summarise
from energylens.studies.ndt_suite.grid import tasks_of
from energylens.studies.study import pin_inputs

JOINED = ("runs", "measurements", "training")


def run(
    options: NdtSuite,
    *,
    store: Store,
    progress: Progress,
    say: Callable[[str], None],
    launch: Launch,
) -> Summary:
    """Trainings as tasks, and then the analysis here."""
    tasks = tasks_of(options)
    finished = launch(tasks)
    pin_inputs(store, _inputs(finished))
    joined = {
        name: pa.concat_tables(
            [finished[task.folder.name].table(name) for task in tasks], promote_options="default"
        )
        for name in JOINED
    }  # fmt: skip
    joined["runs"] = joined["runs"].sort_by([("run", "ascending")])
    say(f"analysing {len(joined['runs'])} trainings")
    found = analyse(
        histories_of(joined["measurements"], joined["training"]), joined["runs"],
        torch.Generator().manual_seed(options.seeds[0]), measures=options.measures,
    )  # fmt: skip
    # Of few trainings some have no row: no jump to cluster, no family of two.
    tables = joined | {name: table for name, table in found.items() if table.num_columns}
    store.save("tables", tables=tables)
    return summarise(options, tables)


def _inputs(finished: Mapping[str, Store]) -> dict[str, Any]:
    """The data sets, each once."""
    read = [done.record("inputs")["examples"] for done in finished.values()]
    return {f"examples {found['name']}": found for found in read}
