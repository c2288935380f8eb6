"""Networks iterated one state, one pattern and one token at a time, in plain floats."""

import math

import torch


def hopfield_fixed_point(patterns, start, beta: float, updates: int = 4_000) -> torch.Tensor:
    """x ← Σ_p p · exp(β ⟨p, x⟩) / Σ_q exp(β ⟨q, x⟩), until nothing moves."""
    x = [float(value) for value in start]
    rows = [[float(value) for value in row] for row in patterns]
    for _ in range(updates):
        overlaps = [beta * math.fsum(a * b for a, b in zip(row, x, strict=True)) for row in rows]
        top = max(overlaps)
        weights = [math.exp(overlap - top) for overlap in overlaps]
        total = math.fsum(weights)
        after = [
            math.fsum(weight * row[i] for weight, row in zip(weights, rows, strict=True)) / total
            for i in range(len(x))
        ]
        if max(abs(a - b) for a, b in zip(after, x, strict=True)) < 1e-14:
            break
        x = after
    return torch.tensor(x, dtype=torch.float64)


def block_force(g, block) -> torch.Tensor:
    """−∂E/∂g of an energy transformer, token by token and head by head."""
    force = torch.zeros_like(g)
    for b in range(len(g)):
        for memory in block.memories:
            overlap = float(memory @ g[b])
            if overlap > 0:
                force[b] += overlap * memory
    for W_Q, W_K in zip(block.W_Q, block.W_K, strict=True):
        for c in range(len(g)):
            others = [b for b in range(len(g)) if b != c]
            scores = [block.beta * float((W_K @ g[b]) @ (W_Q @ g[c])) for b in others]
            total = math.fsum(math.exp(score) for score in scores)
            for b, score in zip(others, scores, strict=True):
                share = math.exp(score) / total
                force[c] += share * W_Q.T @ (W_K @ g[b])
                force[b] += share * W_K.T @ (W_Q @ g[c])
    return force


def block_fixed_point(tokens, block, alpha: float, updates: int = 400) -> torch.Tensor:
    """g ← norm(g + α force), each token brought to mean 0 and variance 1."""
    g = tokens.clone()
    for _ in range(updates):
        g = g + alpha * block_force(g, block)
        g = torch.stack([(row - row.mean()) / (row - row.mean()).square().mean().sqrt()
                         for row in g])  # fmt: skip
    return g
