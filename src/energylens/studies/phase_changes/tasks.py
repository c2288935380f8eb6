"""The trainings of a run, one task each."""

from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from energylens.core.errors import BadInput
from energylens.core.ports import Task
from energylens.studies.phase_changes import PhaseChange, PhaseChanges

# Narrow and short: its induction heads form all the same.
QUICK: Mapping[str, Any] = {"d_model": 32, "context": 32}
QUICK_KINDS = ("induction", "learned_positions")


def tasks_of(options: PhaseChanges) -> list[Task]:
    """Every kind with every seed.

    Raises:
        BadInput: If nothing is to be trained, or something twice.
    """
    for name in ("kinds", "seeds"):
        values = getattr(options, name)
        if not values or len(set(values)) < len(values):
            raise BadInput(
                f"option --{name} has {len(values)} values, {len(set(values))} of them different:"
                " give at least one, and each once"
            )
    kinds, seeds = options.kinds, options.seeds
    if options.quick:
        kinds = tuple(kind for kind in kinds if kind in QUICK_KINDS)
        seeds = seeds[:1]
        if not kinds:
            raise BadInput(
                f"--quick was asked with --kinds {' '.join(options.kinds)}: it trains"
                f" {' and '.join(QUICK_KINDS)} alone"
            )
    small = QUICK if options.quick else {}
    return [
        Task(study="phase-change", options=PhaseChange(kind=kind, seed=seed, **small),
             folder=Path(f"{kind}-seed-{seed}"))
        for kind, seed in product(kinds, seeds)
    ]  # fmt: skip


def tell(options: PhaseChanges, say: Callable[[str], None]) -> None:
    """What a run would do."""
    tasks = tasks_of(options)
    say(f"{len(tasks)} trainings of phase-change")
    for task in tasks:
        say(f"  {task.folder}")
