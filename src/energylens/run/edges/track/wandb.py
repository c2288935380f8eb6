"""Weights & Biases; a run that resumes goes on there under the name of its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from energylens.core.ports import Tracker


class _Run:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def close(self) -> None:
        self._run.finish()


def start(run_dir: Path, options: Mapping[str, Any]) -> Tracker:
    """Open the run; WANDB_MODE and the other variables of wandb hold."""
    import wandb

    run = wandb.init(
        project="energylens", id=run_dir.resolve().name, name=run_dir.resolve().name,
        config=dict(options), resume="allow", dir=str(run_dir / "live"),
    )  # fmt: skip
    run.define_metric("*", step_metric="step")
    return _Run(run)
