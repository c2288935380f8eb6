"""Measures of dictionaries, row by row in numpy."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def variance_unexplained(rows: Matrix, reconstruction: Matrix) -> float:
    """Residual sum of squares over the sum of squares about the mean."""
    mean = sum(rows) / len(rows)
    residual = sum(float(((x - y) ** 2).sum()) for x, y in zip(rows, reconstruction, strict=True))
    return residual / sum(float(((x - mean) ** 2).sum()) for x in rows)


def mean_active(code: Matrix) -> float:
    """Non-zero entries a row."""
    return sum(int((row != 0).sum()) for row in code) / len(code)


def share_never_active(code: Matrix) -> float:
    """Columns that hold nothing but 0."""
    return sum(1 for column in code.T if not column.any()) / code.shape[1]


def pca_variance_unexplained(rows: Matrix, held_out: Matrix, components: int) -> float:
    """What the best subspace of that many dimensions leaves over on other rows."""
    mean = rows.mean(axis=0)
    basis = np.linalg.svd(rows - mean, full_matrices=False)[2][:components]
    return variance_unexplained(held_out, mean + (held_out - mean) @ basis.T @ basis)


def mean_max_cosine(true: Matrix, found: Matrix) -> float:
    """Mean over the true directions of the cosine to the found one matched with it, one to one.

    The matching maximises the sum (Hungarian algorithm), so that one found feature cannot stand
    for two true ones: the mean correlation coefficient (MCC) of dictionary learning.
    """
    from scipy.optimize import linear_sum_assignment

    a = true / np.linalg.norm(true, axis=1, keepdims=True)
    b = found / np.linalg.norm(found, axis=1, keepdims=True)
    cosine = a @ b.T
    return float(cosine[linear_sum_assignment(cosine, maximize=True)].mean())
