"""What every dimension measure is for isotropic noise: the null that a value is read beside."""

import math

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.dynamics.dimension import measured

_STEPS = 4096
_TRACY_WIDOM = -1.2065336
"""Mean of the Tracy–Widom law of order 1."""


def isotropic_dimensions(
    rows: int, units: int, *, centred: bool = False, q: float = 0.9
) -> dict[str, float]:
    """Every measure of `dimensions` for normal noise that is alike in all directions.

    From the spectrum expected of such noise; see `isotropic_variances`. The means of drawn
    matrices are within 3 % from 10 × 10 on and 1 % from 50 × 50 on, the energy rank within an axis,
    the spectral exponent within 10 % and 2 %.

    Args:
        rows: Samples.
        units: Coordinates of a sample.
        centred: Whether the mean row is taken off, which costs one row.
        q: Share of the energy rank.

    Example:
        >>> noise = isotropic_dimensions(160, 512)
        >>> round(noise["participation_ratio"], 1), round(noise["stable_rank"], 1)
        (121.7, 67.1)

    Raises:
        InsufficientData: If there are fewer than two rows, or no unit.
    """
    found = measured(isotropic_variances(rows, units, centred=centred), q=q)
    ratio = _participation_ratio(rows - centred, units)
    return {name: float(value) for name, value in found.items()} | {"participation_ratio": ratio}


def isotropic_variances(
    rows: int, units: int, *, centred: bool = False
) -> Float64[Tensor, " axis"]:
    """Squared singular values expected of standard normal noise, largest first.

    The middles of equal shares of Marchenko and Pastur's law (1967), which the i-th largest of a
    finite matrix keeps to; the largest is at its mean by Tracy and Widom's law, with the centre
    and scale of Johnstone 2001.

    Raises:
        InsufficientData: If there are fewer than two rows, or no unit.
    """
    if rows < 2 or units < 1:
        raise InsufficientData(
            f"noise of {rows} rows and {units} units has no spectrum: ask for two rows and a unit"
        )
    many, few = max(rows - centred, units), min(rows - centred, units)
    # λ = 1 + γ − 2 √γ cos θ takes the square roots out of the density at both edges; where the
    # lower one is 0, what is left tends to 1.
    ratio = few / many
    angle = np.linspace(0.0, math.pi, _STEPS + 1)
    value = 1 + ratio - 2 * math.sqrt(ratio) * np.cos(angle)
    density = np.divide(np.sin(angle) ** 2, value, out=np.ones_like(value), where=value > 0)
    below = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    share = (np.arange(few, 0, -1) - 0.5) / few
    variances = many * np.interp(share, below / below[-1], value)
    if few > 1:
        roots = math.sqrt(many - 0.5) + math.sqrt(few - 0.5)
        scale = roots * (1 / math.sqrt(many - 0.5) + 1 / math.sqrt(few - 0.5)) ** (1 / 3)
        variances[0] = max(roots**2 + _TRACY_WIDOM * scale, variances[1])
    return torch.from_numpy(variances)


def _participation_ratio(rows: int, units: int) -> float:
    """E (Σ λ)² / E Σ λ² of standard normal noise, exactly."""
    return (rows * units + 2) / (rows + units + 1)
