"""MNIST-1D: ten shapes of a line, drawn anew with noise, shift, scale and shear."""

import hashlib

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.sources.examples import Examples, example_set

# Heights of twelve points of each digit, and the strengths of what is done to them, are those of
# Greydanus and Kobak 2024 (arXiv 2011.14439; their data set is Apache-2.0).
HEIGHTS = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)
POINTS = 12
PADDING = (36, 60)
SHIFT = 48
SCALE, SHEAR = 0.4, 0.75
PAD_NOISE, NOISE = 0.25, 0.02
SMOOTH = 2.0  # standard deviation of the kernel that the noise of the padding is smoothed by
LENGTH = 40
COUNT, SEED = 5_000, 42


@example_set(name="mnist1d", about="noisy lines of 40 points that stand for digits, ten classes")
def mnist1d() -> Examples:
    """5,000 lines of one channel, height 1 and width 40, made by the recipe of MNIST-1D from a
    generator with a fixed seed; the numbers differ from those of the authors' file, the law is
    theirs."""
    labels = torch.arange(COUNT) % len(HEIGHTS)
    lines = draw_lines(labels, torch.Generator().manual_seed(SEED))
    inputs = (lines - lines.mean()) / lines.std()
    return Examples(
        inputs=inputs.float()[:, None, None], labels=labels, units=torch.arange(COUNT),
        classes=[str(digit) for digit in range(len(HEIGHTS))], name="mnist1d",
        source="made by the recipe of MNIST-1D", sha256=_hash(inputs),
    )  # fmt: skip


def draw_lines(labels: Tensor, generator: torch.Generator) -> Float[Tensor, "example point"]:
    """A line for each label, its class's shape padded, shifted, scaled, sheared and in noise."""

    def uniform() -> Tensor:
        return torch.rand(len(labels), 1, generator=generator, dtype=torch.float64)

    shapes = _shapes()[labels]
    low, high = PADDING
    padded = POINTS + low + (uniform() * (high - low + 1)).long()
    width = POINTS + high
    # The shape and its zeros, stretched to one width: a point of the stretched line is read from
    # the padded one, which is 0 behind the shape.
    at = torch.linspace(0, 1, width, dtype=torch.float64) * (padded - 1)
    behind = torch.nn.functional.pad(shapes, (0, high + 1))
    lines = _between(behind, at) * (1 + SCALE * (uniform() - 0.5))
    lines = lines.gather(1, _shifted(width, (uniform() * SHIFT).long()))
    # The line is drawn on smooth noise, which shows where it is not.
    noise = torch.randn(lines.shape, generator=generator, dtype=torch.float64)
    lines = torch.where(lines != 0, lines, PAD_NOISE * _smoothed(noise))
    fine = torch.randn(lines.shape, generator=generator, dtype=torch.float64)
    slope = torch.linspace(-0.5, 0.5, width, dtype=torch.float64)
    lines = lines + NOISE * fine - SHEAR * (uniform() - 0.5) * slope
    grid = torch.linspace(0, 1, LENGTH, dtype=torch.float64) * (width - 1)
    return _between(lines, grid.expand(len(labels), -1))


def _shapes() -> Float[Tensor, "digit point"]:
    """Each of mean 0 and deviation 1, then begun at 0 and divided by 6."""
    heights = torch.tensor(HEIGHTS, dtype=torch.float64)
    heights = (heights - heights.mean(1, keepdim=True)) / heights.std(1, keepdim=True, correction=0)
    return (heights - heights[:, :1]) / 6 + 1e-8  # a shape is nowhere exactly 0, as padding is


def _between(lines: Tensor, at: Tensor) -> Tensor:
    """Values between points, linear."""
    left = at.long().clamp_max(lines.shape[1] - 2)
    share = at - left
    return (1 - share) * lines.gather(1, left) + share * lines.gather(1, left + 1)


def _shifted(width: int, by: Tensor) -> Tensor:
    """Where each point comes from when a line is moved to the right, around its end."""
    return (torch.arange(width) - by) % width


def _smoothed(noise: Tensor) -> Tensor:
    """Convolved with a normal kernel of four deviations to each side, reflected at the ends."""
    reach = int(4 * SMOOTH + 0.5)
    steps = torch.arange(-reach, reach + 1, dtype=noise.dtype)
    kernel = torch.exp(-0.5 * (steps / SMOOTH) ** 2)
    ends = torch.cat([noise[:, :reach].flip(1), noise, noise[:, -reach:].flip(1)], 1)
    return torch.nn.functional.conv1d(ends[:, None], (kernel / kernel.sum())[None, None])[:, 0]


def _hash(inputs: Tensor) -> str:
    """Of rounded numbers, which do not differ by machine."""
    return hashlib.sha256((inputs * 1e4).round().to(torch.int32).numpy().tobytes()).hexdigest()
