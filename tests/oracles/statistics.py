"""Inference by enumeration and plain loops: slow, obvious, float64."""

import itertools
import math

import numpy as np


def sign_flip_p(scores: np.ndarray) -> np.ndarray:
    """Share of all sign patterns whose |sum| is at least the observed one, feature by feature."""
    patterns = list(itertools.product((-1, 1), repeat=len(scores)))
    p = []
    for column in scores.T:
        observed = abs(sum(column))
        p.append(
            sum(
                abs(sum(w * s for w, s in zip(pattern, column, strict=True))) >= observed - 1e-12
                for pattern in patterns
            )
            / len(patterns)
        )
    return np.array(p)


def max_t_p(scores: np.ndarray) -> np.ndarray:
    """Share of all sign patterns whose largest |t| is at least each feature's own."""
    t = scores / np.sqrt((scores**2).sum(0))
    maxima = np.array(
        [np.abs(np.array(w) @ t).max() for w in itertools.product((-1, 1), repeat=len(t))]
    )
    return np.array([(maxima >= abs(x) - 1e-9).mean() for x in t.sum(0)])


def benjamini_hochberg(p: list[float]) -> list[float]:
    """q of one p: the least, over all p' ≥ p, of p' · number of hypotheses / number ≤ p'."""
    known = [x for x in p if not math.isnan(x)]

    def q(x: float) -> float:
        return min(y * len(known) / sum(z <= y for z in known) for y in known if y >= x)

    return [math.nan if math.isnan(x) else min(1.0, q(x)) for x in p]


def bootstrap_means(values: list[float]) -> np.ndarray:
    """The mean of every sample with replacement there is."""
    n = len(values)
    return np.array([sum(s) / n for s in itertools.product(values, repeat=n)])


def wilson(successes: float, n: float, z: float) -> tuple[float, float]:
    """The rates that lie z of their own standard errors from the observed one, by bisection."""
    share = successes / n

    def away(rate: float) -> float:
        return abs(share - rate) - z * math.sqrt(rate * (1 - rate) / n)

    return _root(away, 0.0, share), _root(away, 1.0, share)


def poisson(count: int, tail: float) -> tuple[float, float]:
    """The means under which the count or more, and the count or fewer, has the tail's share."""

    def at_most(k: int, mean: float) -> float:
        return sum(math.exp(-mean) * mean**i / math.factorial(i) for i in range(k + 1))

    high = _root(lambda m: tail - at_most(count, m), 10.0 * count + 20, 0.0)
    low = 0.0
    if count:
        low = _root(lambda m: tail - 1 + at_most(count - 1, m), 0.0, 10.0 * count + 20)
    return low, high


def _root(function, positive: float, negative: float) -> float:
    for _ in range(200):
        middle = (positive + negative) / 2
        if function(middle) > 0:
            positive = middle
        else:
            negative = middle
    return (positive + negative) / 2
