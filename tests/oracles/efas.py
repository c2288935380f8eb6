"""EFAS by the definition: the whole matrix of forces, then a correlation per feature."""

import numpy as np


def efas(activation: np.ndarray, gradient: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """activation [sample feature], gradient [sample d], directions [feature d] → [feature]."""
    force = -gradient @ directions.T
    out = np.full(activation.shape[1], np.nan)
    for f in range(activation.shape[1]):
        a = activation[:, f] - activation[:, f].mean()
        b = force[:, f] - force[:, f].mean()
        if (a**2).sum() > 0 and (b**2).sum() > 0:
            out[f] = (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())
    return out


def unit_scores(
    activation: np.ndarray, gradient: np.ndarray, directions: np.ndarray, unit: np.ndarray
) -> np.ndarray:
    """Sums over each unit of centred activation × centred force: [unit feature]."""
    force = -gradient @ directions.T
    a, b = activation - activation.mean(0), force - force.mean(0)
    return np.stack([(a * b)[unit == u].sum(0) for u in range(unit.max() + 1)])


def attribution(activation: np.ndarray, gradient: np.ndarray, directions: np.ndarray) -> np.ndarray:
    return (activation * (-gradient @ directions.T)).mean(0)
