"""What is told of labels beside the tables: a number for each attribute, and what was left out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from energylens.results.record import Estimate
from energylens.studies.evaluate_dictionary.labels import ABSORPTION, CONTROL, TASKS
from energylens.studies.evaluate_dictionary.tables import ITSELF

Row = dict[str, Any]
Rows = Mapping[str, Sequence[Row]]
FEW = 2
"""Features that an edit may change where one number stands for all of them."""


def label_figures(rows: Rows) -> dict[str, Estimate]:
    """Answers turned by changing two features at a place, beside as many at random."""
    edits = {
        (row["dictionary"], row["task"], row["attribute"], row["method"]): row
        for row in rows[CONTROL] if row["contender"] == ITSELF and row["most"] == FEW
    }  # fmt: skip
    figures = {}
    for (label, task, attribute, method), row in edits.items():
        if method == "greedy":
            null = edits[label, task, attribute, "random features"]
            figures[f"turned_{attribute}.{label}.{task}"] = Estimate(
                row["turned"], "share of answers", low=row["turned_low"], high=row["turned_high"],
                null_mean=null["turned"], n=row["turning"], n_unit="pairs of prompts",
                undefined=int(math.isnan(row["turned"])),
                label=f"Answers turned by {FEW} features, {attribute}, {label}",
                note=f"of those that patching turns, task {task}; null: as many features at random",
            )  # fmt: skip
    return figures


def label_limits(rows: Rows) -> Iterator[str]:
    """Tasks that the model cannot do, and letters without a feature."""
    for task, why in {(row["task"], row["why"]) for row in rows[TASKS] if not row["can"]}:
        yield f"Nothing is said of the task {task}: {why}."
    mine = [row for row in rows[ABSORPTION] if row["contender"] == ITSELF]
    if mine and not any(row["stands"] for row in mine):
        yield (f"Nothing is said of absorption: no feature stands for any of {len(mine)} first"
               " letters.")  # fmt: skip
