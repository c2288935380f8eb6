"""What a tracker has seen, in memory and in a folder that survives its process.

FOLDER/
  tracker.json    what is measured of what: sites, their ceilings, options, SHA-256 of the probe
  looks.jsonl     one line a look
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from energylens.core.errors import ArtifactRefused
from energylens.core.files import sweep, write_bytes
from energylens.core.lock import hold
from energylens.core.series import Series, read_series
from energylens.dynamics.history import History
from energylens.results.plain import decode, encode

FORMAT = 1
TRAINING = ("loss", "grad_norm", "weight_norm", "update_norm")
_ABOUT, _LOOKS = "tracker.json", "looks.jsonl"


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen at one step."""

    step: int
    values: Mapping[str, Tensor]
    """By measure: [part, site]."""
    training: Mapping[str, float]


@dataclass(kw_only=True)
class Record:
    """Looks in the order of their steps.

    Attributes:
        about: What a folder says of itself: two that differ hold different things.
        folder: Where looks are kept as they come; None: in memory alone.
    """

    about: Mapping[str, Any]
    folder: Path | None = None
    looks: list[Look] = field(default_factory=list)
    _held: ExitStack = field(default_factory=ExitStack)
    _series: Series | None = None

    def open(self) -> None:
        """Hold the folder, and take up what is there.

        Raises:
            BadInput: If another process holds it.
            ArtifactRefused: If it holds something else.
        """
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            held.enter_context(hold(self.folder))
            sweep(self.folder)
            path = self.folder / _ABOUT
            about = encode(self.about)
            if path.is_file():
                _same(path, decode(path.read_bytes(), str(path)), decode(about, str(path)))
            else:
                write_bytes(path, about)
            self.looks = _read_looks(self.folder)
            self._series = Series(self.folder / _LOOKS)
            self._held = held.pop_all()

    def close(self) -> None:
        """Let go of the folder."""
        self._held.close()
        self._series = None

    @property
    def is_open(self) -> bool:
        return self.folder is None or self._series is not None

    def begin(self, step: int) -> None:
        """Drop what an earlier sitting saw from this step on: it is made again."""
        self.looks = [look for look in self.looks if look.step < step]
        if self._series is not None:
            self._series.begin(step)

    def add(self, look: Look) -> None:
        """Keep a look, at once."""
        self.looks.append(look)
        if self._series is not None:
            line = {name: values.tolist() for name, values in look.values.items()}
            self._series.add(look.step, {"training": list(look.training.values())} | line)

    def history(self) -> History:
        """The looks so far."""
        return _history(self.about, self.looks)


def read_history(folder: Path | str) -> History:
    """The history in a tracker's folder, finished or not, also while it is written.

    Raises:
        ArtifactRefused: If the folder is none of a tracker, or of another format.
    """
    folder = Path(folder).expanduser()
    path = folder / _ABOUT
    if not path.is_file():
        raise ArtifactRefused(f"{folder} is no folder of a tracker: it has no {_ABOUT}")
    about = decode(path.read_bytes(), str(path))
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ArtifactRefused(f"{path} is not of format {FORMAT}, which this version reads")
    return _history(about, _read_looks(folder))


def _history(about: Mapping[str, Any], looks: list[Look]) -> History:
    sites, parts = tuple(about["sites"]), int(about["parts"])

    def table(part: int) -> dict[str, Tensor]:
        empty = torch.empty(len(sites), 0, dtype=torch.float64)
        return {
            name: torch.stack([look.values[name][part] for look in looks], 1) if looks else empty
            for name in about["measures"]
        }

    return History(
        steps=torch.tensor([look.step for look in looks], dtype=torch.int64),
        sites=sites,
        values=table(0),
        again=table(1) if parts > 1 else {},
        ceiling=torch.tensor(about["ceiling"], dtype=torch.int64),
        training={
            name: torch.tensor([look.training[name] for look in looks], dtype=torch.float64)
            for name in TRAINING
        },
    )  # fmt: skip


def _read_looks(folder: Path) -> list[Look]:
    """Whole lines alone; null is nan."""
    found: dict[int, Look] = {}
    for line in read_series(folder / _LOOKS):
        step, training = line.pop("step"), line.pop("training")
        found[step] = Look(
            step=step,
            values={name: _tensor(values) for name, values in line.items()},
            training=dict(zip(TRAINING, _tensor(training).tolist(), strict=True)),
        )
    return [found[step] for step in sorted(found)]


def _tensor(values: Any) -> Tensor:
    if values and isinstance(values[0], list):
        return torch.stack([_tensor(row) for row in values])
    numbers = [float("nan") if value is None else value for value in values]
    return torch.tensor(numbers, dtype=torch.float64)


def _same(path: Path, there: Any, now: Any) -> None:
    if not isinstance(there, dict):
        raise ArtifactRefused(f"{path} is not what a tracker writes: choose another folder")
    for key, value in now.items():
        if there.get(key) != value:
            raise ArtifactRefused(
                f"{path.parent} was written for another {key.replace('_', ' ')}"
                f" ({_said(there.get(key))}, and now {_said(value)}): choose another folder"
            )


def _said(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
