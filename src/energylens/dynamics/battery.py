"""Series whose jumps are known, series that have none, and what a detector makes of them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from energylens.stats.shifts import coloured
from energylens.stats.templates import TEN_TO_NINETY

SAMPLES = 400
TOLERANCE = 5.0  # samples, or half the width of a rise where that is more
SETTLE = 200  # samples that noise runs for before a series begins


@dataclass(frozen=True, kw_only=True)
class Series:
    """Series of one kind.

    Attributes:
        values: A series a row; its noise has the standard deviation 1 where it does not change.
        jumps: First sample of each new level, or the middle of the rise, ascending.
        tolerance: Samples by which a detection may be off.
    """

    values: Float64[Tensor, "series sample"]
    jumps: Float64[Tensor, "series jump"]
    tolerance: float = TOLERANCE


Draw = Callable[[int, torch.Generator], Series]


def planted(samples: int = SAMPLES) -> Mapping[str, Draw]:
    """Kinds of series that jump: where, and from when the noise is what, is drawn anew for each."""
    return {
        "step": lambda n, g: _with_jumps(_noise(n, samples, g), _places(n, samples, 1, g), [5.0]),
        "steps": lambda n, g: _with_jumps(
            _noise(n, samples, g), _places(n, samples, 3, g), [5.0, -4.0, 6.0]
        ),
        "large_step": lambda n, g: _with_jumps(
            _noise(n, samples, g), _places(n, samples, 1, g), [100 / 3]
        ),
        **{
            f"sigmoid_{width}": partial(_rising, samples=samples, width=width)
            for width in (5, 20, 60)
        },
        "step_ar1": lambda n, g: _with_jumps(
            _noise(n, samples, g, 0.6), _places(n, samples, 1, g), [5.0]
        ),
        "step_training": lambda n, g: _with_jumps(
            _training(n, samples, g), _places(n, samples, 1, g), [6.0]
        ),
        "steps_training": lambda n, g: _with_jumps(
            _training(n, samples, g), _places(n, samples, 3, g), [6.0, -5.0, 7.0]
        ),
    }


def nulls(samples: int = SAMPLES) -> Mapping[str, Draw]:
    """Kinds of series that never jump."""
    return {
        "noise": lambda n, g: _quiet(_noise(n, samples, g)),
        "drift": lambda n, g: _quiet(_noise(n, samples, g) + _drift(samples, 100 / 3)),
        **{
            f"ar1_{round(100 * phi)}": partial(_remembering, samples=samples, phi=phi)
            for phi in (0.3, 0.6, 0.9, 0.95)
        },
        "heteroscedastic": lambda n, g: _quiet(_noise(n, samples, g) * _falling(samples)),
        "transient": lambda n, g: _quiet(_noise(n, samples, g) + _transient(n, samples, g)),
        "two_transients": lambda n, g: _quiet(
            _noise(n, samples, g) + _transient(n, samples, g) - _transient(n, samples, g)
        ),
        "heavy_tails": lambda n, g: _quiet(_heavy(n, samples, g)),
        "combined": lambda n, g: _quiet(_training(n, samples, g)),
    }


def _quiet(values: Float64[Tensor, "series sample"]) -> Series:
    return Series(values=values, jumps=values.new_empty(len(values), 0))


def _remembering(n: int, g: torch.Generator, *, samples: int, phi: float) -> Series:
    return _quiet(_noise(n, samples, g, phi))


def _rising(n: int, g: torch.Generator, *, samples: int, width: int) -> Series:
    return _with_jumps(_noise(n, samples, g), _places(n, samples, 1, g), [6.0], width=width)


def _training(n: int, samples: int, g: torch.Generator) -> Float64[Tensor, "series sample"]:
    """What a training does without a jump: all at once."""
    noise = _noise(n, samples, g, 0.6) * _falling(samples)
    return noise + _transient(n, samples, g) + _drift(samples, 5.0)


def _noise(
    n: int, samples: int, g: torch.Generator, phi: float = 0.0
) -> Float64[Tensor, "series sample"]:
    new = torch.randn(n, samples + SETTLE, generator=g, dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    whole = coloured(new, phi * one[0], one.expand(1, samples + SETTLE))
    return whole[:, SETTLE:] * math.sqrt(1 - phi**2)


def _heavy(n: int, samples: int, g: torch.Generator) -> Float64[Tensor, "series sample"]:
    """Student's t with 3 degrees of freedom."""
    drawn = torch.randn(4, n, samples, generator=g, dtype=torch.float64)
    return drawn[0] / drawn[1:].square().mean(0).sqrt()


def _falling(samples: int) -> Float64[Tensor, " sample"]:
    """Noise that is five times as large at first as at the end."""
    return 1 + 4 * torch.exp(-torch.arange(samples, dtype=torch.float64) / (samples / 10))


def _drift(samples: int, size: float) -> Float64[Tensor, " sample"]:
    return torch.linspace(0, size, samples, dtype=torch.float64)


def _transient(n: int, samples: int, g: torch.Generator) -> Float64[Tensor, "series sample"]:
    """An exponential decay from 10 to 30, in 1 to 25 % of the series."""
    drawn = torch.rand(2, n, 1, generator=g, dtype=torch.float64)
    time = samples / 100 * 25 ** drawn[0]
    return (10 + 20 * drawn[1]) * torch.exp(-torch.arange(samples) / time)


def _places(n: int, samples: int, count: int, g: torch.Generator) -> Int[Tensor, "series jump"]:
    """Random places in the middle three quarters, one in each of as many equal parts of it."""
    part = samples * 3 // 4 // count
    free = part * 3 // 4
    drawn = torch.randint(free, (n, count), generator=g)
    return samples // 8 + part // 8 + drawn + part * torch.arange(count)


def _with_jumps(
    values: Tensor, places: Tensor, sizes: list[float], *, width: float | int = 0
) -> Series:
    """Add to each series a jump of each size: a step, or a logistic rise from 10 to 90 %."""
    away = torch.arange(values.shape[1]) - places[..., None].double()
    shape = (TEN_TO_NINETY * away / width).sigmoid() if width else (away >= 0).double()
    risen = (torch.tensor(sizes, dtype=torch.float64)[:, None] * shape).sum(1)
    return Series(values=values + risen, jumps=places.double(), tolerance=max(TOLERANCE, width / 2))


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a detector found, by series.

    Attributes:
        found: Jumps that it found.
        false: Detections that are of no jump, or of one that was found before.
    """

    found: Int[Tensor, " series"]
    false: Int[Tensor, " series"]


def score(marks: Bool[Tensor, "series sample"], series: Series) -> Score:
    """Match detections with jumps one to one, in order, each within the tolerance.

    As the harness of ndtracker does: a detection takes the first jump within reach that is not
    taken, so a second detection of one jump is false.

    Example:
        >>> truth = Series(values=torch.zeros(1, 9, dtype=torch.float64),
        ...     jumps=torch.tensor([[4.0]], dtype=torch.float64), tolerance=1.0)
        >>> marks = torch.tensor([[False, True, False, True, True, False, False, False, False]])
        >>> found = score(marks, truth)
        >>> found.found.tolist(), found.false.tolist()
        ([1], [2])
    """
    taken = torch.zeros_like(series.jumps, dtype=torch.bool)
    false = torch.zeros(len(marks), dtype=torch.long)
    for row, sample in marks.nonzero().tolist():
        reach = ((series.jumps[row] - sample).abs() <= series.tolerance) & ~taken[row]
        if bool(reach.any()):
            taken[row, reach.nonzero()[0, 0]] = True
        else:
            false[row] += 1
    return Score(found=taken.sum(1), false=false)
