"""All that a comparison is made of: the runs, their readings, and the common analysis."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from energylens.dynamics.original import global_z_jumps
from energylens.dynamics.original_plan import OriginalJump, PlannedJump, original_plan
from energylens.studies.ndt_import.compat import Layers, Reading, read_as_original
from energylens.studies.ndt_import.reading import Experiment
from energylens.studies.ndt_import.recovery import STORED, Consistency, true_rank

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Material:
    """The runs and what two readings and the common analysis make of them.

    Attributes:
        experiments: In the order of names.
        stored: The original's definitions on what it stored.
        true: The same definitions on the true stable rank.
        plans: The original's checkpoints by run, from `stored`.
        tables: Of the common analysis.
        consistency: Whether what was stored can be of one set of singular values.
    """

    experiments: tuple[Experiment, ...]
    stored: Reading
    true: Reading
    plans: Mapping[str, tuple[PlannedJump, ...]]
    tables: Mapping[str, pa.Table]
    consistency: Consistency

    def by_name(self) -> dict[str, Experiment]:
        return {one.name: one for one in self.experiments}

    def of_family(self, family: str) -> list[Experiment]:
        return [one for one in self.experiments if one.family == family]

    def rows(self, table: str, **wanted: Any) -> list[Row]:
        """Rows of a table of the common analysis with these values."""
        return [row for row in self.tables[table].to_pylist()
                if all(row[key] == value for key, value in wanted.items())]  # fmt: skip


def read_both(experiments: Sequence[Experiment]) -> tuple[Reading, Reading]:
    """The original's definitions on what was stored, and on the true stable rank."""
    return (
        read_as_original(experiments, {one.name: one.stored["stable_rank"] for one in experiments}),
        read_as_original(experiments, {one.name: true_rank(one) for one in experiments}),
    )


def plans_of(reading: Reading, seed: int) -> dict[str, tuple[PlannedJump, ...]]:
    """The original's checkpoints for every run, from its jumps."""
    jumps: dict[str, list[OriginalJump]] = {name: [] for name in reading.layers}
    for row in reading.jumps:
        jumps[row["experiment"]].append(OriginalJump(
            step=row["step"], phase=row["phase"], magnitude=row["magnitude"], layer=row["layer"],
            cluster=row["cluster"],
        ))  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    return {name: original_plan(some, generator) for name, some in jumps.items()}


def true_phase(experiment: Experiment) -> Float64[Tensor, " increment"]:
    """Where each increment lies in the training: the step that it starts from over all steps."""
    return experiment.steps[:-1].double() / experiment.num_steps


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Jumps of one detector by run, so that a rate has its interval over runs.

    Attributes:
        jumps: Of each run.
        increments: At which one could have been.
        early, late: Jumps before a tenth of the training, and after half of it.
    """

    jumps: Float64[Tensor, " run"]
    increments: Float64[Tensor, " run"]
    early: Float64[Tensor, " run"]
    late: Float64[Tensor, " run"]


def tally(
    experiments: Sequence[Experiment], jumps: Mapping[str, Bool[Tensor, "layer increment"]]
) -> Tally:
    """Count in right units."""
    phases = [true_phase(one) for one in experiments]
    hits = [jumps[one.name] for one in experiments]
    counts = {
        "jumps": [int(hit.sum()) for hit in hits],
        "increments": [hit.numel() for hit in hits],
        "early": [int((hit & (phase < 0.1)).sum())
                  for hit, phase in zip(hits, phases, strict=True)],
        "late": [int((hit & (phase >= 0.5)).sum())
                 for hit, phase in zip(hits, phases, strict=True)],
    }  # fmt: skip
    return Tally(**{k: torch.tensor(v, dtype=torch.float64) for k, v in counts.items()})


def hits_of(layers: Mapping[str, Layers]) -> dict[str, Bool[Tensor, "layer increment"]]:
    return {name: found.jumps for name, found in layers.items()}


def other_measures(
    experiments: Sequence[Experiment],
) -> Iterator[tuple[str, dict[str, Bool[Tensor, "layer increment"]]]]:
    """The original's detector on the measures that were right all along."""
    for name, stored in STORED.items():
        yield name, {one.name: global_z_jumps(one.stored[stored]) for one in experiments}
