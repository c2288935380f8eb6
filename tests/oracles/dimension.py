"""Measures of dimension by a plain singular value decomposition in float64."""

import math

import numpy as np
from numpy.typing import NDArray


def dimensions(
    matrix: NDArray[np.float64], *, centred: bool, q: float = 0.9, least: float = 1e-12
) -> dict[str, float]:
    """Measures of one row × unit matrix, each from its definition.

    Args:
        least: Singular values below this share of the largest are 0.
    """
    if centred:
        matrix = matrix - sum(matrix) / len(matrix)
    sigma = [float(s) for s in np.linalg.svd(matrix, compute_uv=False)]
    sigma = [s for s in sigma if s > least * sigma[0]]
    power = [s * s for s in sigma]
    total = sum(power)
    share = [p / total for p in power]
    return {
        "stable_rank": total / power[0],
        "participation_ratio": total**2 / sum(p * p for p in power),
        "participation_ratio_sigma": sum(sigma) ** 2 / total,
        f"energy_rank_{100 * q:g}": float(_first_to_hold(power, q)),
        "nuclear_norm_ratio": sum(sigma) / sigma[0],
        "entropy_rank": math.exp(-sum(p * math.log(p) for p in share)),
        "spectral_exponent": _exponent(power[: _first_to_hold(power, 0.99)]),
    }


def _first_to_hold(power: list[float], q: float) -> int:
    return next(k for k in range(1, len(power) + 1) if sum(power[:k]) >= (q - 1e-6) * sum(power))


def _exponent(power: list[float]) -> float:
    if len(power) < 3:
        return math.nan
    rank = np.arange(1, len(power) + 1)
    return float(-np.polyfit(np.log(rank), np.log(power), 1)[0])
