"""TensorBoard: event files in the run's folder, for `tensorboard --logdir RUN_DIR`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from energylens.core.ports import Tracker


class _Board:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))  # type: ignore[no-untyped-call]

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self._writer.close()  # type: ignore[no-untyped-call]


def start(run_dir: Path, options: Mapping[str, Any]) -> Tracker:
    """Write below `live/tensorboard`."""
    return _Board(run_dir / "live" / "tensorboard")
