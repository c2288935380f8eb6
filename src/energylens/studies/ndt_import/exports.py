"""Files under the names and in the schemas of the original, for people who have scripts on them.

All JSON is valid, which the original's was not: an undefined number is null where it wrote NaN.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from energylens.results.plain import encode

Row = dict[str, Any]
JUMPS = ("step", "magnitude", "speed", "direction", "phase", "layer", "experiment", "arch_name",
         "dataset", "phase_category", "cluster")  # fmt: skip
PERIODS = ("experiment", "arch_name", "dataset", "total_critical_steps", "total_transitions",
           "num_coordinated_periods", "max_coordination", "mean_coordination",
           "loss_correlation")  # fmt: skip
COUNTS = ("experiment", "arch_name", "dataset", "total_jumps", "num_layers", "jumps_per_layer",
          "layer_analysis")  # fmt: skip
FOLDER = "exports"


@dataclass(frozen=True, kw_only=True)
class Export:
    """What the original's files hold, by one reading of the data.

    Attributes:
        jumps: One row a jump, with `JUMPS`; `cluster` may be None.
        runs: One row a run, with `PERIODS`, `COUNTS` and `strong`.
        convergence: One row a run, with the keys of the original's list.
        plan: By run, the chosen jumps and their checkpoints.
        report: The integrated report.
    """

    jumps: Sequence[Row]
    runs: Sequence[Row]
    convergence: Sequence[Row]
    plan: Mapping[str, Row]
    report: Row


def export_files(exports: Mapping[str, Export]) -> dict[str, Callable[[Path], object]]:
    """Writers by path, for `Store.save`: a folder for each reading, such as `exports/original`."""
    files: dict[str, Callable[[Path], object]] = {}
    for name, export in exports.items():
        for file, content in contents(export).items():
            files[f"{FOLDER}/{name}/{file}"] = _writer(content)
    return files


def contents(export: Export) -> dict[str, bytes]:
    """The files of one reading, by the original's names."""
    return {
        "all_jumps_detailed.csv": table_csv(JUMPS, export.jumps),
        "jump_characterization_summary.json": encode(jump_summary(export.jumps, export.runs)),
        "convergence_analysis_summary.json": encode(list(export.convergence)),
        "critical_periods_detailed.csv": table_csv(PERIODS, export.runs),
        "critical_periods_summary.json": encode(period_summary(export.runs)),
        "checkpoint_plan.json": encode(export.plan),
        "integrated_report.json": encode(export.report),
    }


def jump_summary(jumps: Sequence[Row], runs: Sequence[Row]) -> Row:
    """`jump_characterization_summary.json`; without a jump it has other keys, as it had."""
    experiments = [{key: run[key] for key in COUNTS} for run in runs]
    if not jumps:
        return {"summary": "No dimensionality jumps detected", "total_jumps": 0,
                "experiment_summaries": experiments}  # fmt: skip
    sizes = _counted(jump["cluster"] for jump in jumps)
    return {
        "total_jumps": len(jumps),
        "experiments_with_jumps": sum(run["total_jumps"] > 0 for run in runs),
        "phase_distribution": _counted(jump["phase_category"] for jump in jumps),
        "cluster_info": {"n_clusters": len(sizes), "cluster_sizes": sizes},
        "experiment_summaries": experiments,
    }


def period_summary(runs: Sequence[Row]) -> Row:
    """`critical_periods_summary.json`."""
    means = {
        f"mean_{name}": float(np.mean([run[key] for run in runs]))
        for name, key in (("critical_periods", "total_critical_steps"),
                          ("coordination", "mean_coordination"),
                          ("loss_correlation", "loss_correlation"))
    }  # fmt: skip
    return {
        "summary": {
            **means,
            "experiments_with_strong_periods": sum(bool(run["strong"]) for run in runs),
        },
        "experiment_results": [{key: run[key] for key in PERIODS} for run in runs],
    }


def table_csv(columns: Sequence[str], rows: Iterable[Row]) -> bytes:
    """A table with a header; an undefined number is an empty cell, as pandas writes it.

    Example:
        >>> table_csv(("step", "p"), [{"step": 3, "p": 0.1}, {"step": 4, "p": math.nan}])
        b'step,p\\n3,0.1\\n4,\\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in columns])
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _counted(values: Iterable[Any]) -> dict[Any, int]:
    """How often each comes, the most frequent first; none is not counted."""
    return dict(Counter(value for value in values if value is not None).most_common())


def _writer(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)
