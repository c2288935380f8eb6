"""When two tensors are the same up to rounding."""

import torch
from torch import Tensor

# Relative to the norm of the tensor checked: rounding of a sum of a few terms, with head-room.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected; infinite for other shapes.

    Example:
        >>> round(relative_error(torch.tensor([3.0, 4.5]), torch.tensor([3.0, 4.0])), 6)
        0.1
    """
    if found.shape != expected.shape:
        return float("inf")
    error = (found - expected).norm() / expected.norm().clamp_min(torch.finfo(expected.dtype).tiny)
    return float(error)


def agree(found: Tensor | None, expected: Tensor | None, *, inside: bool = False) -> bool:
    """Whether two tensors are the same up to the rounding of their type.

    Args:
        inside: Whether they differ by what attention computes inside, where libraries round its
            weights to float32 in a float64 model too.
    """
    if found is None or expected is None:
        return False
    tolerance = TOLERANCE[expected.dtype]
    if inside:
        tolerance = max(tolerance, TOLERANCE[torch.float32])
    return relative_error(found, expected) <= tolerance


def multiple(found: Tensor, of: Tensor) -> tuple[float, float]:
    """The number c that makes c · `of` closest to `found`, and the relative error that is left."""
    squared = float((of * of).sum())
    scale = float((of * found).sum()) / squared if squared else 0.0
    if abs(scale - 1) <= TOLERANCE[found.dtype]:
        scale = 1.0
    return scale, relative_error(scale * of, found)
