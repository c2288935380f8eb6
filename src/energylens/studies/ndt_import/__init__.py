"""The raw data of the original NDT experiments, by their own definitions and by sound ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from energylens.studies.study import Range, study


@study(
    name="ndt-import",
    question="What do the raw data of the original NDT experiments say when read correctly?",
    entry="energylens.studies.ndt_import.work:run",
    example="energylens run ndt-import --folder raw --out runs/ndt",
    subject="folder",
)
@dataclass(frozen=True, kw_only=True)
class NdtImport:
    """Read raw results of the original experiments, reproduce what was claimed by its own
    definitions, and redo all of it with the true stable rank and in training steps."""

    folder: Path
    """Folder of the original's raw JSON, one file a run, such as mlp_narrow_mnist.json."""

    measures: tuple[str, ...] = ("stable_rank", "participation_ratio_sigma")
    """Measures in which events are looked for: stable_rank, participation_ratio_sigma,
    energy_rank_90 or nuclear_norm_ratio."""

    draws: Annotated[int, Range(0, 1_000_000)] = 0
    """Draws of the nulls of coordination, order and loss; 0: as many as that many runs need."""

    seed: Annotated[int, Range(0, 2**30)] = 0
    """Seed of the nulls, and of the one jump of a plan that the original drew without a seed."""

    threads: Annotated[int, Range(0, 1024)] = 0
    """Threads of the numerics; 0: all cores."""
