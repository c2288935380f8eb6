"""Features against attributes, prompt by prompt in plain Python."""

from collections.abc import Sequence

from numpy.typing import NDArray


def f1(fired: Sequence[bool], holds: Sequence[bool]) -> float:
    """Harmonic mean of precision and recall, from counts."""
    hits = sum(1 for a, b in zip(fired, holds, strict=True) if a and b)
    if not any(holds):
        return float("nan")
    if not hits:
        return 0.0
    precision, recall = hits / sum(map(bool, fired)), hits / sum(map(bool, holds))
    return 2 * precision * recall / (precision + recall)


def greedy_union(active: NDArray, holds: Sequence[bool], most: int) -> list[tuple[int, float]]:
    """Members and the F1 reached with each; stops where no feature helps."""
    covered = [False] * len(active)
    steps: list[tuple[int, float]] = []
    for _ in range(most):
        tried = [
            f1([c or bool(a) for c, a in zip(covered, active[:, feature], strict=True)], holds)
            for feature in range(active.shape[1])
        ]
        best = max(range(len(tried)), key=lambda feature: (tried[feature], -feature))
        if tried[best] <= (steps[-1][1] if steps else 0.0) * (1 + 1e-12):
            break
        covered = [c or bool(a) for c, a in zip(covered, active[:, best], strict=True)]
        steps.append((best, tried[best]))
    return steps
