"""A shift in correlated noise the slow way: covariance matrices, least squares, one by one."""

import numpy as np


def covariance(phi, scale) -> np.ndarray:
    """Of x_t = φ x_{t−1} + scale_t · new_t, begun with the variance scale_0² / (1 − φ²)."""
    samples = len(scale)
    matrix = np.zeros((samples, samples))
    matrix[0, 0] = scale[0] ** 2 / (1 - phi**2)
    for t in range(1, samples):
        matrix[t, :t] = matrix[:t, t] = phi * matrix[t - 1, :t]
        matrix[t, t] = phi**2 * matrix[t - 1, t - 1] + scale[t] ** 2
    return matrix


def squares(values, columns, matrix) -> float:
    """Generalised least squares: what the columns leave, in units of the covariance."""
    root = np.linalg.inv(np.linalg.cholesky(matrix))
    x, y = root @ columns, root @ values
    return float(np.square(y - x @ np.linalg.lstsq(x, y, rcond=None)[0]).sum())


def likelihood(values, columns, scale, phi) -> float:
    """Twice the log likelihood of the columns, the size of the noise at its best."""
    matrix = covariance(phi, scale)
    samples = len(values)
    best = squares(values, columns, matrix) / samples
    shape = np.linalg.slogdet(matrix)[1] - 2 * np.log(scale).sum()
    return -samples * np.log(best) - shape - samples * np.log(samples)


def gain(values, columns, scale, shapes, correlations) -> np.ndarray:
    """By how much each shape raises the likelihood, the correlation fitted with and without it."""
    without = max(likelihood(values, columns, scale, phi) for phi in correlations)
    return np.array([
        max(likelihood(values, np.column_stack([columns, shape]), scale, phi)
            for phi in correlations) - without
        for shape in shapes
    ])  # fmt: skip


def restricted(values, columns, scale, phi) -> float:
    """Twice the restricted log likelihood (Patterson & Thompson 1971), up to a constant."""
    matrix = covariance(phi, scale)
    root = np.linalg.inv(np.linalg.cholesky(matrix))
    x = root @ columns
    free = len(values) - columns.shape[1]
    return (
        -free * np.log(squares(values, columns, matrix))
        - np.linalg.slogdet(matrix)[1] - np.linalg.slogdet(x.T @ x)[1]
    )  # fmt: skip
