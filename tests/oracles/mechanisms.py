"""What heads, filters, neurons and weights do, in plain loops and float64."""

import math

import numpy as np


def entropy(p) -> float:
    return -sum(float(x) * math.log(float(x)) for x in p if float(x) > 0)


def attention_entropy(a: np.ndarray) -> list[float]:
    """Of [sequence head query key]: one a head."""
    sequences, heads, queries, _ = a.shape
    return [
        sum(entropy(a[s, h, q]) for s in range(sequences) for q in range(queries))
        / (sequences * queries)
        for h in range(heads)
    ]


def head_divergence(a: np.ndarray) -> float:
    """Mean Kullback–Leibler divergence of the heads from their mean, over all queries."""
    sequences, heads, queries, keys = a.shape
    found = []
    for s in range(sequences):
        for q in range(queries):
            middle = [sum(a[s, h, q, k] for h in range(heads)) / heads for k in range(keys)]
            found.append(sum(
                a[s, h, q, k] * math.log(a[s, h, q, k] / middle[k])
                for h in range(heads) for k in range(keys) if a[s, h, q, k] > 0
            ) / heads)  # fmt: skip
    return sum(found) / len(found)


def share_on(a: np.ndarray, tokens: np.ndarray, wanted) -> list[float]:
    """Attention on the keys that `wanted(text, query)` names, mean over queries that have one."""
    found = []
    for h in range(a.shape[1]):
        shares = []
        for s, text in enumerate(tokens.tolist()):
            for q in range(len(text)):
                keys = wanted(text, q)
                if keys:
                    shares.append(sum(float(a[s, h, q, k]) for k in keys))
        found.append(sum(shares) / len(shares))
    return found


def earlier_copies(text, q):
    return [k for k in range(q) if text[k] == text[q]]


def after_earlier_copies(text, q):
    return [k + 1 for k in earlier_copies(text, q)]


def filter_cosines(weights: np.ndarray) -> np.ndarray:
    rows = weights.reshape(len(weights), -1)
    found = np.full((len(rows), len(rows)), math.nan)
    for f, one in enumerate(rows):
        for g, other in enumerate(rows):
            size = math.sqrt(sum(one**2)) * math.sqrt(sum(other**2))
            if f != g and size > 0:
                found[f, g] = sum(one * other) / size
    return found


def selectivity(x: np.ndarray, labels: np.ndarray) -> dict[str, list[float]]:
    """Index, d′ and η² of every neuron."""
    found: dict[str, list[float]] = {"index": [], "d_prime": [], "eta": []}
    classes = sorted(set(labels.tolist()))
    for column in x.T:
        means = {c: np.mean(column[labels == c]) for c in classes}
        best = max(classes, key=lambda c: means[c])
        rest = np.mean([means[c] for c in classes if c != best])
        found["index"].append((means[best] - rest) / (means[best] + rest))
        own, others = column[labels == best], column[labels != best]
        pooled = math.sqrt((np.var(own, ddof=1) + np.var(others, ddof=1)) / 2)
        found["d_prime"].append((own.mean() - others.mean()) / pooled)
        between = sum((labels == c).sum() * (means[c] - column.mean()) ** 2 for c in classes)
        found["eta"].append(between / sum((column - column.mean()) ** 2))
    return found


def hoyer(x: np.ndarray) -> float:
    n = len(x)
    return (math.sqrt(n) - sum(abs(x)) / math.sqrt(sum(x**2))) / (math.sqrt(n) - 1)


def treves_rolls(x: np.ndarray) -> float:
    n = len(x)
    return (1 - (sum(abs(x)) / n) ** 2 / (sum(x**2) / n)) / (1 - 1 / n)


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(0), y - y.mean(0)

    def cross(a, b):
        return sum(float(v) ** 2 for v in (a.T @ b).ravel())

    return cross(x, y) / math.sqrt(cross(x, x) * cross(y, y))


def hsic_1(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, equation 5, term by term."""
    n = len(x)
    k, m = (np.array([[0.0 if i == j else float(a[i] @ a[j]) for j in range(n)]
                      for i in range(n)]) for a in (x, y))  # fmt: skip
    one = np.ones(n)
    total = np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def debiased_cka(x: np.ndarray, y: np.ndarray) -> float:
    return hsic_1(x, y) / math.sqrt(hsic_1(x, x) * hsic_1(y, y))


def procrustes(x: np.ndarray, y: np.ndarray) -> float:
    """The best of the rotation that scipy finds."""
    from scipy.linalg import orthogonal_procrustes

    width = max(x.shape[1], y.shape[1])
    x, y = (np.pad(a - a.mean(0), ((0, 0), (0, width - a.shape[1]))) for a in (x, y))
    x, y = (a / np.sqrt((a**2).sum()) for a in (x, y))
    turn, _ = orthogonal_procrustes(x, y)
    return float((x @ turn * y).sum())
