"""Planted energies: does the lens recover minima, directions and features that are known?"""

from dataclasses import dataclass
from typing import Annotated

from energylens.studies.study import Range, study


@study(
    name="planted-energies",
    question="Does the lens recover what is planted?",
    entry="energylens.studies.planted_energies.work:run",
    example="energylens run planted-energies --out runs/planted",
)
@dataclass(frozen=True, kw_only=True)
class PlantedEnergies:
    """Run the lens on networks whose minima and forces are known: modern Hopfield networks and
    energy transformers."""

    networks: Annotated[int, Range(20, 1_000)] = 20
    """Networks drawn for every setting: they are the units of all intervals."""

    patterns: Annotated[tuple[int, ...], Range(2, 512)] = (8, 32)
    """Patterns planted in a Hopfield network; each number is tried."""

    betas: Annotated[tuple[float, ...], Range(1e-3, 1e5)] = (1.0, 4.0, 16.0, 64.0)
    """Inverse temperatures of the Hopfield networks, whose patterns have norm 1."""

    correlation: Annotated[float, Range(0, 0.95)] = 0.5
    """Mean cosine between two patterns where they are drawn to be alike."""

    dimension: Annotated[int, Range(8, 1_024)] = 64
    """Dimensions of random patterns; those of the digits are 64."""

    noises: Annotated[tuple[float, ...], Range(0, 100)] = (0.1, 0.5, 1.0, 2.0)
    """Norm of the noise that starts are moved by, in parts of the norm of what is planted."""

    memories: Annotated[int, Range(2, 512)] = 6
    """Memories planted in an energy transformer."""

    d_model: Annotated[int, Range(4, 1_024)] = 16
    """Dimensions of its tokens."""

    tokens: Annotated[int, Range(2, 64)] = 4
    """Tokens of a sequence."""

    attention: Annotated[tuple[float, ...], Range(0, 100)] = (0.0, 0.4)
    """Scale of its query and key weights; 0: memories alone."""

    alpha: Annotated[float, Range(1e-4, 10)] = 0.5
    """Step of the energy transformer's own update."""

    draws: Annotated[int, Range(199, 10**6)] = 1_000
    """Draws of the nulls of EFAS."""

    threads: Annotated[int, Range(0, 1024)] = 1
    """Threads of the numerics; 0: all cores."""

    seed: Annotated[int, Range(0, 2**30)] = 0
    """Seed of everything random."""
