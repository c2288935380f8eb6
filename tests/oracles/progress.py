"""Progress measures pair by pair, in numpy."""

import cmath
import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def copying(W_E: Array, W_V: Array, W_O: Array, W_U: Array) -> float:
    """Of one head, from the whole matrix of tokens by tokens."""
    values = np.linalg.eigvals(W_E @ W_V @ W_O @ W_U)
    return float(values.real.sum() / np.abs(values).sum())


def number_power(table: Array) -> list[float]:
    """Share of each frequency, by sums of complex exponentials."""
    p = len(table)
    power = [
        sum(abs(sum(x * cmath.exp(-2j * math.pi * k * n / p) for n, x in enumerate(unit))) ** 2
            for unit in table.T)
        for k in range(1, p // 2 + 1)
    ]  # fmt: skip
    return [x / sum(power) for x in power]


def wave_basis(p: int, k: int) -> Array:
    """cos and sin of k (a + b) over all pairs, as two unit vectors of p² numbers."""
    turn = [2 * math.pi * k * (a + b) / p for a in range(p) for b in range(p)]
    both = np.array([[math.cos(t) for t in turn], [math.sin(t) for t in turn]])
    return both / np.linalg.norm(both, axis=1, keepdims=True)


def projected(logits: Array, frequencies: list[int]) -> Array:
    """What of the logits lies along those vectors."""
    p = len(logits)
    flat = logits.reshape(p * p, p)
    basis = np.concatenate([np.zeros((0, p * p)), *(wave_basis(p, k) for k in frequencies)])
    return (basis.T @ (basis @ flat)).reshape(p, p, p)


def sum_power(logits: Array) -> list[float]:
    p = len(logits)
    variance = float(((logits - logits.mean(axis=(0, 1))) ** 2).sum())
    return [float((projected(logits, [k]) ** 2).sum()) / variance for k in range(1, p // 2 + 1)]


def surprisal(logits: Array, answer: int) -> float:
    top = max(logits)
    return top + math.log(sum(math.exp(x - top) for x in logits)) - logits[answer]


def restricted_loss(logits: Array, frequencies: list[int]) -> float:
    p = len(logits)
    kept = projected(logits, frequencies) + logits.mean(axis=(0, 1))
    losses = [surprisal(kept[a, b], (a + b) % p) for a in range(p) for b in range(p)]
    return sum(losses) / len(losses)


def excluded_loss(
    logits: Array, frequencies: list[int], pairs: list[tuple[int, int, int]]
) -> float:
    left = logits - projected(logits, frequencies)
    return sum(surprisal(left[a, b], c) for a, b, c in pairs) / len(pairs)
