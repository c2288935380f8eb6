"""A run folder of a few trainings: hostile names, an event here and there, one run without any."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.report.records import HOSTILE

SAMPLES, EVERY = 100, 5
MEASURES = ("stable_rank", "participation_ratio")
RUNS = (("mlp_shallow_2_digits", "mlp", 3), ("mlp_deep_10_digits", "mlp", 8),
        ("cnn_shallow_mnist", "cnn", 3), ("transformer_narrow_mnist", "transformer", 5),
        (HOSTILE[0], "mlp", 2))  # fmt: skip
QUIET = 2  # the run that has no event
PATTERNS = ("bottom_up", "unclear", "simultaneous", "top_down", "unclear")


def write_training_run(folder: Path, *, events: bool = True) -> Path:
    (folder / "tables").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, rows in _tables(random, events=events).items():
        table = pa.Table.from_pylist(rows) if rows else _jumps_schema().empty_table()
        pq.write_table(table, folder / "tables" / f"{name}.parquet")
    summary = {"schema": 1, "study": "ndt-suite", "subject": "noise", "finding": "Nothing.",
               "detail": "", "grade": "control", "figures": {}, "controls": {}, "cards": [],
               "limits": [], "suspicious": []}  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "run.json").write_text(json.dumps({"schema": 1, "study": "ndt-suite"}))
    return folder


def _tables(random: np.random.Generator, *, events: bool) -> dict[str, list[dict[str, Any]]]:
    steps = np.arange(SAMPLES) * EVERY
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in (
        "runs", "measurements", "training", "jumps", "settling", "order", "coordination",
        "loss_link")}  # fmt: skip
    for at, (run, family, depth) in enumerate(RUNS):
        found["runs"].append({
            "run": run, "architecture": run, "family": family, "dataset": run.split("_")[-1],
            "seed": 0, "depth": depth, "layers": depth, "width": 32, "parameters": 9_000,
            "num_steps": 500, "interval": EVERY, "final_accuracy": 0.9, "chance_accuracy": 0.1,
            "final_loss": 0.2,
        })  # fmt: skip
        for site in range(depth):
            place = {"run": run, "site": f"layers.{site}", "depth": site / (depth - 1)}
            courses = {m: 2 + site + np.cumsum(0.02 * random.standard_normal(SAMPLES))
                       for m in MEASURES}  # fmt: skip
            courses["stable_rank"][10:14] = np.nan
            found["measurements"] += [
                place | {"step": int(step), "ceiling": 32}
                | {m: float(courses[m][i]) for m in MEASURES} | {"stable_rank_again": 1.0}
                for i, step in enumerate(steps)
            ]  # fmt: skip
            found["settling"] += [place | {"measure": m, "settled_step": 100.0 * site,
                                           "censored": site == 0, "band": 0.1}
                                  for m in MEASURES]  # fmt: skip
            if at != QUIET and events:
                found["jumps"] += [_jump(place, m, random) for m in MEASURES]
        found["training"] += [{"run": run, "step": int(step), "loss": float(np.exp(-step / 200))}
                              for step in steps]  # fmt: skip
        _by_run(found, run, at, random)
    return found


def _by_run(
    found: dict[str, list[dict[str, Any]]], run: str, at: int, random: np.random.Generator
) -> None:
    for measure in MEASURES:
        key = {"run": run, "measure": measure}
        null = {"null_mean": 0.02, "null_sd": 0.005, "p": 0.2, "q": 0.01 if at == 0 else 0.4}
        found["order"].append(key | {"pattern": PATTERNS[at], "rho": 0.5, "p": 0.2, "n": 3})
        found["coordination"].append(key | null | {"strength": 0.02 + 0.01 * random.random()})
        found["loss_link"].append(key | null | {"correlation": 0.1 * random.random()})


def _jump(place: dict[str, Any], measure: str, random: np.random.Generator) -> dict[str, Any]:
    step = int(random.integers(20, 480))
    return place | {
        "measure": measure, "step": step, "low": step - 10, "high": step + 10,
        "amplitude": float(random.standard_normal()), "size": float(random.random()),
        "speed": 0.1, "direction": "up" if step % 2 else "down", "phase": step / 500,
        "kind": "level", "p": 0.001, "q": 0.01, "type": step % 2, "detector": "energylens",
    }  # fmt: skip


def _jumps_schema() -> pa.Schema:
    row = _jump({"run": "", "site": "", "depth": 0.0}, "", np.random.default_rng(0))
    return pa.Table.from_pylist([row]).schema


def hypotheses(verdicts: Sequence[str] = ("supported", "not beyond the null")) -> pa.Table:
    return pa.Table.from_pylist([
        {"question": "order", "hypothesis": f"statement {i}, which is a little longer than a line",
         "measure": "stable_rank", "quantity": "rho", "unit": "", "n_unit": "training",
         "verdict": verdict, "effect": 0.4, "low": 0.2, "high": 0.6, "null_mean": 0.0,
         "null_sd": 0.1, "p": 0.01, "q": 0.02, "n": 5}
        for i, verdict in enumerate(verdicts)
    ])  # fmt: skip
