"""Trackio: Hugging Face's tracker, on this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from energylens.core.ports import Tracker


class _Run:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def start(run_dir: Path, options: Mapping[str, Any]) -> Tracker:
    """Open the run in the project `energylens`; one of the same name goes on."""
    import trackio

    name = run_dir.resolve().name
    return _Run(trackio.init(project="energylens", name=name, config=dict(options), resume="allow"))
