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


def mean_matched_cosine(true: Matrix, found: Matrix) -> float:
    """Mean over the true directions of the cosine to the found one matched with it, one to one.

    The matching maximises the sum (Hungarian algorithm), so that one found feature cannot stand
    for two true ones: the mean correlation coefficient (MCC) of dictionary learning.
    """
    from scipy.optimize import linear_sum_assignment

    a = true / np.linalg.norm(true, axis=1, keepdims=True)
    b = found / np.linalg.norm(found, axis=1, keepdims=True)
    cosine = a @ b.T
    return float(cosine[linear_sum_assignment(cosine, maximize=True)].mean())


def mean_max_cosine(rows: Matrix, others: Matrix) -> float:
    """For each row the largest cosine with any of the others."""
    best = [
        max(float(x @ y) / (np.linalg.norm(x) * np.linalg.norm(y)) for y in others) for x in rows
    ]
    return sum(best) / len(best)


def nearest_cosine(rows: Matrix) -> list[float]:
    """For each row the largest cosine with another one."""
    return [mean_max_cosine(rows[i : i + 1], np.delete(rows, i, axis=0)) for i in range(len(rows))]


def mean_cosine(rows: Matrix, made: Matrix) -> float:
    """Over the rows that have one."""
    sizes = [np.linalg.norm(x) * np.linalg.norm(y) for x, y in zip(rows, made, strict=True)]
    cosines = [float(x @ y) / n for x, y, n in zip(rows, made, sizes, strict=True) if n]
    return sum(cosines) / len(cosines)


def norm_ratio(rows: Matrix, made: Matrix) -> float:
    """Sum of norms over sum of norms."""
    return sum(np.linalg.norm(y) for y in made) / sum(np.linalg.norm(x) for x in rows)


def best_scale(rows: Matrix, made: Matrix) -> float:
    """The factor of least squares on deviations from the mean of the rows."""
    mean = rows.mean(axis=0)
    x, y = (rows - mean).ravel(), (made - mean).ravel()
    return float(np.linalg.lstsq(y[:, None], x, rcond=None)[0][0])


def share_dense(code: Matrix) -> float:
    """Columns that are not 0 on more than a tenth of the rows."""
    return sum(1 for column in code.T if (column != 0).sum() > len(code) / 10) / code.shape[1]


def pca_top_k(rows: Matrix, held_out: Matrix, k: int) -> Matrix:
    """Held-out rows from their k largest coordinates on the principal axes of others."""
    mean = rows.mean(axis=0)
    axes = np.linalg.svd(rows - mean, full_matrices=False)[2]
    made = []
    for x in held_out:
        coordinate = axes @ (x - mean)
        keep = np.argsort(-abs(coordinate))[:k]
        made.append(mean + coordinate[keep] @ axes[keep])
    return np.array(made)
