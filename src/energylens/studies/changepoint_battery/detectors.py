"""Our detector and its contenders in one form: thresholds in, marked samples out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from energylens.dynamics.jumps import JumpOptions, Jumps, find_jumps
from energylens.dynamics.original import global_z_jumps
from energylens.dynamics.pelt import pelt_jumps
from energylens.dynamics.rolling import rolling_z_jumps

OURS = "energylens"
INTERVAL = 5  # training steps between samples: whoever takes one for the other is far off
LOOSEST = 0.5


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A detector of one threshold.

    Attributes:
        marks: Samples that it marks, of a series a row, at a threshold.
        threshold: The one it comes with.
        others: Those of its curve, from strict to loose.
        unit: What the threshold is.
    """

    marks: Callable[[Tensor, float], Tensor]
    threshold: float
    others: Sequence[float]
    unit: str


def _global_z(values: Tensor, threshold: float) -> Tensor:
    """An increment is named by the sample before it: the change is at the one after."""
    return torch.nn.functional.pad(global_z_jumps(values, threshold), (1, 0))


CONTENDERS: Mapping[str, Contender] = {
    "global_z": Contender(marks=_global_z, threshold=2.0, unit="standard deviations",
                          others=(8.0, 6.0, 5.0, 4.0, 3.5, 3.0, 2.5, 2.0, 1.5)),
    "ndtracker": Contender(
        marks=lambda values, z: rolling_z_jumps(values, threshold=z), threshold=3.0,
        unit="standard deviations", others=(12.0, 8.0, 6.0, 5.0, 4.5, 4.0, 3.5, 3.0, 2.5),
    ),
    "pelt": Contender(
        marks=lambda values, penalty: pelt_jumps(values, penalty=penalty), threshold=2.0,
        unit="penalty in σ² ln n", others=(64.0, 32.0, 16.0, 8.0, 4.0, 3.0, 2.0, 1.0),
    ),
}  # fmt: skip
LEVELS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.2, 0.5)


def our_jumps(values: Tensor, options: JumpOptions, generator: torch.Generator) -> Jumps:
    """Jumps of series each of which is a question of its own, as where one is looked at alone."""
    return find_jumps(
        values, INTERVAL * torch.arange(values.shape[1]), generator,
        families=torch.arange(len(values)), options=options,
    )  # fmt: skip


def our_marks(jumps: Jumps, values: Tensor, level: float = 1.0) -> Tensor:
    """The samples at which there are jumps whose p, and whose series' p, are at most `level`."""
    marks = torch.zeros(values.shape, dtype=torch.bool)
    clear = (jumps.p <= level) & (jumps.q <= level)
    marks[jumps.series[clear], jumps.step[clear] // INTERVAL] = True
    return marks


def loose(options: JumpOptions) -> JumpOptions:
    """The same, so permissive that its p-values say what stricter levels would report."""
    return replace(options, level=LOOSEST, enter=0.75 * options.enter)
