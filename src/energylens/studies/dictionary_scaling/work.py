"""The sweep: its tasks, the null, the laws."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from energylens.core.ports import Launch, Progress, Store
from energylens.results.record import Summary
from energylens.studies.dictionary_scaling import DictionaryScaling
from energylens.studies.dictionary_scaling.finding import summarise
from energylens.studies.dictionary_scaling.laws import law_rows, slope_rows
from energylens.studies.dictionary_scaling.points import tasks_of
from energylens.studies.dictionary_scaling.shuffled import shuffled_rows
from energylens.studies.energy_lens.tables import table
from energylens.studies.study import pin_inputs

Row = dict[str, Any]
KEPT = ("site", "architecture", "width", "k", "seed", "fvu", "fvu_low", "fvu_high", "fvu_null",
        "l0", "dead_share", "loss_recovered", "documents", "seconds")  # fmt: skip


def run(
    options: DictionaryScaling,
    *,
    store: Store,
    progress: Progress,
    say: Callable[[str], None],
    launch: Launch,
) -> Summary:
    """Dictionaries of every size as tasks, the same of shuffled states here, and the laws."""
    tasks = tasks_of(options)
    finished = launch(tasks)
    pin_inputs(store, _inputs(options, finished))
    points = [row for task in tasks for row in _points(options, task.options, finished[
        task.folder.name
    ])]  # fmt: skip
    torch.set_num_threads(options.threads or torch.get_num_threads())
    shuffled = shuffled_rows(options, store, progress, say) if options.shuffled else []
    laws, slopes = law_rows(points), slope_rows(points, shuffled)
    tables = {"scaling_points": points, "scaling_laws": laws, "scaling_slopes": slopes}
    if shuffled:
        tables["scaling_shuffled"] = shuffled
    store.save("tables", tables={name: table(rows) for name, rows in tables.items()})
    model = store.record("inputs")["model"]["name"]
    return summarise(options, model, points, laws, slopes)


def _points(options: DictionaryScaling, task: Any, done: Store) -> list[Row]:
    """A row for each dictionary of a task; the tokens are those that the text gave."""
    given = done.record("inputs")["text"]["windows"] * (options.context - 2)
    return [
        {name: row[name] for name in KEPT} | {"asked_tokens": task.tokens, "tokens": given}
        for row in done.table("trained_dictionaries").to_pylist()
    ]


def _inputs(options: DictionaryScaling, finished: Mapping[str, Store]) -> dict[str, Any]:
    """The model, which all tasks share, and what each of them has read."""
    read = {name: done.record("inputs") for name, done in finished.items()}
    first = next(iter(read.values()))
    return {
        "model": first["model"],
        "text": {
            "name": first["text"]["name"],
            "documents_held_out": first["text"]["documents_held_out"],
            "sha256_by_task": {name: found["text"]["sha256"] for name, found in read.items()},
        },
    }
