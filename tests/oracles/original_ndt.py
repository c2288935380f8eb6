"""The original NDT definitions in plain Python, one number at a time, with exact fractions."""

import itertools
import math
from fractions import Fraction


def jumps(series: list[float], threshold: float = 2.0) -> list[int]:
    """Indices whose increment is more than `threshold` population deviations from the mean."""
    steps = [b - a for a, b in itertools.pairwise(series)]
    if len(series) < 3 or any(math.isnan(v) for v in steps):
        return []
    exact = [Fraction(v) for v in steps]
    mean = sum(exact) / len(exact)
    variance = sum((v - mean) ** 2 for v in exact) / len(exact)
    limit = Fraction(threshold) ** 2 * variance
    return [i for i, v in enumerate(exact) if variance > 0 and (v - mean) ** 2 > limit]


def speed(series: list[float], at: int) -> float:
    first, end = max(0, at - 2), min(len(series), at + 3)
    return abs(series[end - 1] - series[first]) / (end - first)


def first_quiet(series: list[float], window: int = 20) -> int:
    level = sum(map(Fraction, series)) / len(series)
    for end in range(window, len(series)):
        inside = [Fraction(x) for x in series[end - window : end]]
        mean = sum(inside) / window
        if sum((x - mean) ** 2 for x in inside) / window < (level / 10) ** 2:
            return end - window
    return -1


def percentile(sizes: list[float], share: float = 0.9) -> float:
    ranked = sorted(sizes)
    place = share * (len(ranked) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (place - below) * (ranked[above] - ranked[below])


def critical(series: list[float], order: int = 1) -> list[int]:
    for _ in range(order):
        series = [b - a for a, b in itertools.pairwise(series)]
    sizes = [abs(v) for v in series]
    limit = percentile(sizes)
    return [i for i, size in enumerate(sizes) if size > limit]


def coordination(critical_steps: list[list[int]], samples: int) -> list[float]:
    return [sum(at in steps for steps in critical_steps) / len(critical_steps)
            for at in range(samples)]  # fmt: skip


def falling_share(critical_steps: list[list[int]], loss: list[float]) -> float:
    shares = []
    for steps in critical_steps:
        falls = [loss[at + 1] - loss[at] < 0 for at in steps]
        shares.append(sum(falls) / len(falls) if falls else 0.0)
    return sum(shares) / len(shares)


def ranks(values: list[int]) -> list[float]:
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]


def spearman(x: list[int], y: list[int]) -> float:
    a, b = ranks(x), ranks(y)
    mean = (len(a) + 1) / 2
    top = sum((p - mean) * (q - mean) for p, q in zip(a, b, strict=True))
    bottom = sum((p - mean) ** 2 for p in a) * sum((q - mean) ** 2 for q in b)
    return top / math.sqrt(bottom)
