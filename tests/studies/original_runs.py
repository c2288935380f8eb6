"""Folders of raw files in the original's schema, made up: singular values that wander.

What is stored is what the original would have stored of them: its stable rank with the Frobenius
norm in both places, and right ratios.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

# The 55 runs of the original, by architecture: hidden layers and data sets.
SETS = ("ag_news", "fashion_mnist", "mnist", "qmnist")
MLPS = {"shallow_2": 2, "medium_5": 5, "deep_10": 10, "verydeep_15": 15, "narrow": 4, "medium": 4,
        "wide": 4, "verywide": 4}  # fmt: skip
CNNS = {"shallow": 2, "medium": 3, "deep": 4}
TRANSFORMERS = {"deep": 6, "medium": 4, "shallow": 2}


def cells() -> list[tuple[str, str]]:
    """Architecture and data set of every run of the original."""
    found = [(f"mlp_{name}", data) for name in MLPS for data in SETS]
    found += [(f"cnn_{name}", data) for name in CNNS for data in SETS[1:]]
    found += [(f"transformer_{name}", data) for name in TRANSFORMERS for data in SETS]
    return found + [("transformer_narrow", data) for data in SETS[1:3]]


def layers_of(architecture: str) -> list[str]:
    """Names in the network's order."""
    family, _, kind = architecture.partition("_")
    if family == "mlp":
        return [f"network.{2 * k}" for k in range(MLPS[kind] + 1)]
    if family == "cnn":
        return [*(f"conv_layers.{3 * k}" for k in range(CNNS[kind])), "fc"]
    blocks = TRANSFORMERS.get(kind, 4)
    inner = [f"transformer.layers.{k}.linear{i}" for k in range(blocks) for i in (1, 2)]
    return ["input_proj", *inner, "fc"]


def singular_values(
    architecture: str, dataset: str, *, samples: int, seed: int = 0, step_at: int | None = None
) -> dict[str, np.ndarray]:
    """Eight of every layer at every sample: they fall slowly, and waver.

    Args:
        architecture: As the original names it.
        dataset: Likewise.
        samples: Measurements.
        seed: Of the values.
        step_at: Sample from which on the smaller half of the first layer's are doubled.
    """
    rng = np.random.default_rng([seed, *map(ord, architecture + dataset)])
    time = np.arange(samples)[:, None]
    found = {}
    for place, layer in enumerate(layers_of(architecture)):
        slow = 1 + 0.5 * np.exp(-time / (20 + 10 * place)) * rng.uniform(0.2, 1, 8)
        noise = rng.normal(scale=0.01, size=(samples, 8))
        values = np.sort(rng.uniform(1, 9, 8))[::-1] * slow * np.exp(noise)
        if step_at is not None and not place:
            values[step_at:, 4:] *= 2
        found[layer] = 10 * values
    return found


def raw_run(
    architecture: str, dataset: str, *, samples: int = 400, interval: int = 5, **how: Any
) -> dict[str, Any]:
    """One file's content; the rest is as in `singular_values`."""
    sigma = singular_values(architecture, dataset, samples=samples, **how)
    rng = np.random.default_rng([1, *map(ord, architecture + dataset)])
    time = np.arange(samples)
    loss = 2.3 * np.exp(-time / 60) + rng.normal(scale=0.05, size=samples) + 0.2
    return {
        "measurements": [
            {
                "step": interval * at, "epoch": 1 + at // 10, "loss": float(loss[at]),
                "grad_norm": float(rng.uniform(0.5, 2)),
                "layer_metrics": {layer: _metrics(values[at]) for layer, values in sigma.items()},
            }
            for at in range(samples)
        ],
        "architecture_params": {
            "depth": len(sigma) - 1, "width": 64.0, "min_width": 32, "max_width": 64,
            "num_params": 50_000, "connectivity": 469.0,
        },
        "final_accuracy": 0.9, "arch_name": architecture, "dataset_name": dataset,
        "elapsed_time": 143.0, "num_steps": samples * interval, "measurement_interval": interval,
    }  # fmt: skip


def _metrics(sigma: np.ndarray) -> dict[str, float]:
    squares = sigma**2
    frobenius = float(squares.sum())
    share = np.cumsum(np.sort(squares)[::-1]) / frobenius
    return {
        "stable_rank": frobenius / (frobenius + 1e-10),
        "participation_ratio": float(sigma.sum() ** 2 / frobenius),
        "effective_rank_90": float((share < 0.9).sum() + 1),
        "nuclear_norm_ratio": float(sigma.sum() / sigma.max()),
    }


def write_run(folder: Path, architecture: str, dataset: str, **how: Any) -> Path:
    """A file under the name that the original gave it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{architecture}_{dataset}.json"
    path.write_text(json.dumps(raw_run(architecture, dataset, **how)), encoding="utf-8")
    return path
