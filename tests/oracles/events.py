"""Survival, settling, coordination and links by plain loops: slow, obvious, float64."""

import math

import numpy as np


def kaplan_meier(time: list[float], censored: list[bool]) -> dict[float, float]:
    """Share to which it has not happened after each time at which it happened."""
    share, curve = 1.0, {}
    for t in sorted(set(time)):
        at_risk = sum(u >= t for u in time)
        events = sum(u == t and not c for u, c in zip(time, censored, strict=True))
        share *= 1 - events / at_risk
        if events:
            curve[t] = share
    return curve


def log_rank_excess(time: list[float], censored: list[bool], group: list[int]) -> list[float]:
    """Observed minus expected events of each group, from the table at each event."""
    excess = [0.0] * (max(group) + 1)
    subjects = list(zip(time, censored, group, strict=True))
    for t in sorted({u for u, c, _ in subjects if not c}):
        at_risk = [g for u, _, g in subjects if u >= t]
        events = [g for u, c, g in subjects if u == t and not c]
        for g in range(len(excess)):
            excess[g] += events.count(g) - len(events) * at_risk.count(g) / len(at_risk)
    return excess


def last_outside(series: list[float], level: float, band: float) -> int:
    """Index of the last sample outside the band, −1 if there is none."""
    last = -1
    for i, value in enumerate(series):
        if abs(value - level) > band:
            last = i
    return last


def kpss(series: list[float], lags: int) -> float:
    """The statistic of a constant level with Bartlett's weights, by its definition."""
    n, mean = len(series), sum(series) / len(series)
    off = [x - mean for x in series]
    partial, squares = 0.0, 0.0
    for x in off:
        partial += x
        squares += partial**2

    def covariance(lag: int) -> float:
        return sum(off[t] * off[t - lag] for t in range(lag, n)) / n

    long_run = covariance(0) + 2 * sum(
        (1 - lag / (lags + 1)) * covariance(lag) for lag in range(1, lags + 1)
    )
    return squares / n**2 / long_run


def variance_of_mean(series: np.ndarray, turns: list[int]) -> float:
    """Over time, of the mean of series each turned back by so many samples."""
    turned = np.stack([np.roll(row, -turn) for row, turn in zip(series, turns, strict=True)])
    return float(turned.mean(0).var(ddof=1))


def lagged_rank_correlation(first: np.ndarray, second: np.ndarray, lag: int) -> float:
    """Of ranks over the whole series, the second a lag later; what has no partner adds nothing."""
    a, b = (np.argsort(np.argsort(x)).astype(float) for x in (first, second))
    a, b = a - a.mean(), b - b.mean()
    pairs = [(a[t], b[t + lag]) for t in range(len(a)) if 0 <= t + lag < len(b)]
    return sum(x * y for x, y in pairs) / math.sqrt((a**2).sum() * (b**2).sum())


def silhouette(points: np.ndarray, labels: list[int]) -> float:
    """Mean over points of (b − a) / max(a, b)."""
    scores = []
    for i, point in enumerate(points):
        near = {
            k: [np.linalg.norm(point - other) for j, other in enumerate(points)
                if labels[j] == k and j != i]
            for k in set(labels)
        }  # fmt: skip
        if not near[labels[i]]:
            scores.append(0.0)
            continue
        a = np.mean(near[labels[i]])
        b = min(np.mean(d) for k, d in near.items() if k != labels[i])
        scores.append((b - a) / max(a, b))
    return float(np.mean(scores))
