"""What a training curve does without any jump: it drifts and it saturates."""

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from energylens.core.errors import BadInput

TIMES = 60  # time constants that the family is sampled at
SHORTEST, LONGEST = 3, 3.0  # in samples, and in parts of the whole course


def saturating_basis(
    steps: Int[Tensor, " sample"], *, tolerance: float = 1e-3
) -> Float64[Tensor, "sample column"]:
    """An orthonormal basis of smooth courses: a line and every exponential approach to one.

    Spans 1, t and, but for a root mean square of `tolerance` of its size, exp(−t/τ) for each τ from
    three samples to three times the whole course, and so sums of them of either sign: decays,
    approaches to a plateau, power laws from the first step, a rise after a fall. What it cannot
    follow is a change that does not begin at the first step: that is what a jump is.

    Example:
        >>> basis = saturating_basis(torch.arange(0, 2000, 5))
        >>> decay = torch.exp(-torch.arange(400, dtype=torch.float64) / 17)
        >>> left = decay - basis @ (basis.T @ decay)
        >>> basis.shape[1], bool(left.square().mean().sqrt() < 1e-3)
        (8, True)

    Args:
        steps: Training steps, ascending.
        tolerance: How much of an exponential of size 1 may be left over.

    Raises:
        BadInput: If the steps do not ascend.
    """
    if bool((steps.diff() <= 0).any()):
        raise BadInput("the steps of a series must ascend, each once: sort them first")
    time = (steps - steps[0]).double()
    first, whole = time[min(SHORTEST, len(time) - 1)].item(), time[-1].item()
    tau = torch.logspace(0, 1, TIMES, base=LONGEST * whole / first, dtype=torch.float64) * first
    line = torch.linalg.qr(torch.stack([torch.ones_like(time), time / whole], 1)).Q
    decays = torch.exp(-time[:, None] / tau.to(time))
    decays = decays - line @ (line.T @ decays)
    directions, _, _ = torch.linalg.svd(decays, full_matrices=False)
    left = decays.square().sum(0) - (directions.T @ decays).square().cumsum(0)
    enough = (left.amax(1) / len(time)).clamp_min(0).sqrt() <= tolerance
    columns = int((~enough).sum()) + 1
    return torch.cat([line, directions[:, :columns]], 1)
