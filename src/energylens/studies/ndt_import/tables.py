"""Tables of the readings by the original's definitions, beside those of the common analysis."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import torch

from energylens.dynamics.original import falling_loss_share
from energylens.dynamics.tables import history_tables
from energylens.studies.dynamics_analysis.events import JUMPS
from energylens.studies.ndt_import.compared_jumps import GAUSSIAN
from energylens.studies.ndt_import.comparison import Compared
from energylens.studies.ndt_import.material import (
    Material,
    hits_of,
    other_measures,
    tally,
    true_phase,
)
from energylens.studies.ndt_import.published import PUBLISHED
from energylens.studies.ndt_import.recovery import history, runs_table

Row = dict[str, Any]
# How the two readings by the original's definitions are called in tables.
STORED, TRUE = "global_z_stored", "global_z"


def all_tables(material: Material, compared: Sequence[Compared]) -> dict[str, pa.Table]:
    """Every table of the run."""
    events = material.tables["jumps"].to_pylist()
    own = {
        "original_comparison": [one.row() for one in compared],
        "original_runs": list(run_rows(material)),
        "original_layers": list(layer_rows(material)),
        "original_measures": list(measure_rows(material)),
        "original_types": list(type_rows(material)),
    }
    jumps = [*events, *original_jump_rows(material)]
    return {
        "runs": runs_table(material.experiments),
        **history_tables({one.name: history(one) for one in material.experiments}),
        **material.tables,
        "jumps": pa.Table.from_pylist(jumps, schema=JUMPS),
        **{name: pa.Table.from_pylist(rows) for name, rows in own.items()},
    }


def original_jump_rows(material: Material) -> Iterator[Row]:
    """The jumps of both readings in training steps, with the columns of the common table."""
    for detector, reading in ((STORED, material.stored), (TRUE, material.true)):
        for one in material.experiments:
            places = {name: place for place, name in enumerate(one.layers)}
            deepest = max(1, len(one.layers) - 1)
            spans = reading.layers[one.name].spans()
            for row in (row for row in reading.jumps if row["experiment"] == one.name):
                at, rises = row["step"], row["direction"] == "increase"
                low, high = int(one.steps[at]), int(one.steps[at + 1])
                yield {
                    "run": one.name, "site": row["layer"],
                    "depth": places[row["layer"]] / deepest, "measure": "stable_rank",
                    "step": low, "low": low, "high": high,
                    "amplitude": row["magnitude"] if rises else -row["magnitude"],
                    "size": row["magnitude"] / spans[row["layer"]],
                    "speed": row["speed"] / one.interval, "direction": "up" if rises else "down",
                    "phase": low / one.num_steps, "kind": "level", "p": math.nan, "q": math.nan,
                    "type": row["cluster"], "detector": detector,
                }  # fmt: skip


def run_rows(material: Material) -> Iterator[Row]:
    """One row a run and reading: the original's counts, and what it published of the run."""
    for detector, reading in ((STORED, material.stored), (TRUE, material.true)):
        for one, counted, settled in zip(
            material.experiments, reading.runs, reading.convergence, strict=True
        ):
            published = PUBLISHED.get(one.name) if detector == STORED else None
            falls = one.loss.diff()
            yield {
                "run": one.name, "detector": detector, "layers": len(one.layers),
                "jumps": counted["total_jumps"],
                "published_jumps": published.jumps if published else None,
                "critical_steps": counted["total_critical_steps"],
                "published_critical_steps": published.critical_steps if published else None,
                "transitions": counted["total_transitions"],
                "published_transitions": published.transitions if published else None,
                "coordinated": counted["num_coordinated_periods"],
                "published_coordinated": published.coordinated if published else None,
                "max_coordination": counted["max_coordination"],
                "mean_coordination": counted["mean_coordination"],
                "share_falling": counted["loss_correlation"],
                "base_rate": float((falls < 0).double().mean()), "strong": counted["strong"],
                "rho": settled["convergence_correlation"],
                "pattern": settled["convergence_pattern"],
            }  # fmt: skip


def layer_rows(material: Material) -> Iterator[Row]:
    """One row a layer and reading."""
    for detector, reading in ((STORED, material.stored), (TRUE, material.true)):
        for one in material.experiments:
            layers, phase = reading.layers[one.name], true_phase(one)
            for place, name in enumerate(layers.names):
                jumps, critical = layers.jumps[place], layers.critical[place]
                quiet = int(layers.stabilised[place])
                yield {
                    "run": one.name, "site": name, "detector": detector,
                    "depth": one.layers.index(name) / max(1, len(one.layers) - 1),
                    "jumps": int(jumps.sum()), "early": int((jumps & (phase < 0.1)).sum()),
                    "late": int((jumps & (phase >= 0.5)).sum()),
                    "quiet_step": float(one.steps[quiet]) if quiet >= 0 else math.nan,
                    "critical_steps": int(critical.sum()),
                    "transitions": int(layers.transitions[place].sum()),
                    "share_falling": falling_loss_share(critical[None], one.loss),
                    "first": float(layers.series[place, 0]),
                    "last": float(layers.series[place, -1]),
                }  # fmt: skip


def measure_rows(material: Material) -> Iterator[Row]:
    """What the original's detector finds in every measure, in right units."""
    kinds = [
        (STORED, hits_of(material.stored.layers)), ("stable_rank", hits_of(material.true.layers)),
        *other_measures(material.experiments),
    ]  # fmt: skip
    for name, hits in kinds:
        counted = tally(material.experiments, hits)
        total, increments = float(counted.jumps.sum()), float(counted.increments.sum())
        yield {
            "measure": name,
            "jumps": int(total),
            "increments": int(increments),
            "expected": GAUSSIAN * increments,
            "early_share": float(counted.early.sum()) / total if total else math.nan,
            "late_share": float(counted.late.sum()) / total if total else math.nan,
        }


def type_rows(material: Material) -> Iterator[Row]:
    """The original's clusters, described by their centroids."""
    for detector, reading in ((STORED, material.stored), (TRUE, material.true)):
        for cluster in sorted({row["cluster"] for row in reading.jumps}):
            some = [row for row in reading.jumps if row["cluster"] == cluster]
            means = {name: float(torch.tensor([row[name] for row in some]).double().mean())
                     for name in ("phase", "magnitude", "speed")}  # fmt: skip
            yield {"detector": detector, "cluster": cluster, "jumps": len(some), **means}
