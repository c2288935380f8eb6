"""Absorption row by row, with dense codes."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]


def absorbed(
    code: Vector, W_dec: Matrix, main: list[int], direction: Vector, wanted: float
) -> bool:
    """Whether the main features are silent in a row and another one carries the value."""
    if wanted <= 0 or any(code[f] != 0 for f in main):
        return False
    for a, d in zip(code, W_dec, strict=True):
        cosine = d @ direction / np.linalg.norm(d) / np.linalg.norm(direction)
        carries = a * (d @ direction) >= 0.4 * wanted
        if a != 0 and cosine >= 0.025 and carries:
            return True
    return False
