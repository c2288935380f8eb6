"""What a feature is active on, by looking at every token of every window, in float64 and lists."""

import itertools
import math


def occurrences(dense, windows, positions, documents, features):
    """Counts, sums and histograms of each feature, from a matrix as a list of rows."""
    found = []
    for feature in range(features):
        own = [(row[feature], w, p) for row, w, p in zip(dense, windows, positions, strict=True)
               if row[feature] > 0]  # fmt: skip
        bins = [0] * 64
        for value, _, _ in own:
            bins[min(63, max(0, math.floor(2 * math.log2(value)) + 32))] += 1
        peaks = {}
        for value, w, p in own:
            if w not in peaks or value > peaks[w][0]:
                peaks[w] = (value, p)
        found.append({
            "active": len(own), "total": math.fsum(value for value, _, _ in own),
            "windows": len(peaks), "documents": len({documents[w] for w in peaks}),
            "histogram": bins,
            # Largest first; among equals the window that came first.
            "top": sorted(((v, w, p) for w, (v, p) in peaks.items()), key=lambda t: (-t[0], t[1])),
        })  # fmt: skip
    return found


def trace(dense, windows, positions, feature, window, position, before, after, context):
    """Activations around a place, 0 where the window ends or nothing was read."""
    at = {(w, p): row[feature] for row, w, p in zip(dense, windows, positions, strict=True)}
    around = range(position - before, position + after + 1)
    return [at.get((window, p), 0.0) if 0 <= p < context else 0.0 for p in around]


def together(one, other, features):
    """On how many samples each pair is active, from two matrices of truth values."""
    counts = [[0] * features for _ in range(features)]
    for a, b in zip(one, other, strict=True):
        for f, g in itertools.product(range(features), repeat=2):
            counts[f][g] += bool(a[f]) and bool(b[g])
    return counts


def auroc(values, inside):
    """Share of pairs of a sample inside and one outside in which the first is larger; ties half."""
    wins, pairs = 0.0, 0
    each = list(zip(values, inside, strict=True))
    for a, b in itertools.product([v for v, i in each if i], [v for v, i in each if not i]):
        wins += 1.0 if a > b else 0.5 if a == b else 0.0
        pairs += 1
    return wins / pairs


def phi(a, b):
    """Pearson's correlation of two series of truth values."""
    n = len(a)
    x, y = [float(v) for v in a], [float(v) for v in b]
    mx, my = math.fsum(x) / n, math.fsum(y) / n
    cov = math.fsum((p - mx) * (q - my) for p, q in zip(x, y, strict=True))
    return cov / math.sqrt(
        math.fsum((p - mx) ** 2 for p in x) * math.fsum((q - my) ** 2 for q in y)
    )
