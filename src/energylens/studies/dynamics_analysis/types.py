"""The types of jumps of many trainings, and what a table says of them."""

from collections.abc import Sequence
from typing import Any

import torch

from energylens.core.errors import InsufficientData
from energylens.dynamics.jump_types import FEATURES, JumpTypes, jump_types

Row = dict[str, Any]
MOST_DRAWS = 99  # a draw is a search for the clearest clusters, and takes as long


def type_jumps(jumps: Sequence[Row], generator: torch.Generator, draws: int) -> JumpTypes | None:
    """Cluster the changes of level, all measures together, by phase, relative size, relative speed
    and depth, and write each its type; None where there are too few.

    Changes of slope have no size to compare, and events without a date no phase: they stay without
    a type. So do all where the clusters are no clearer than chance.
    """
    level = [row for row in jumps if row["kind"] == "level"]
    for row in jumps:
        row["type"] = None
    features = torch.tensor(
        [[row["phase"], row["size"], row["size"] * row["speed"] / abs(row["amplitude"]),
          row["depth"]] for row in level],
        dtype=torch.float64,
    ).reshape(-1, len(FEATURES))  # fmt: skip
    try:
        found = jump_types(features, generator, draws=min(draws, MOST_DRAWS))
    except InsufficientData:
        return None
    if found.beyond_chance:
        for row, label in zip(level, found.label.tolist(), strict=True):
            row["type"] = label if label >= 0 else None
    return found


def type_rows(found: JumpTypes | None) -> list[Row]:
    """A row for each type, or for each cluster that is none; none where there are too few jumps."""
    if found is None:
        return []
    return [
        {
            "type": i, "description": found.descriptions[i], "n": found.sizes[i],
            "share": found.sizes[i] / sum(found.sizes),
            **dict(zip(FEATURES, found.centroids[i].tolist(), strict=True)),
            "stability": float(found.stability[i]), "agreement": found.agreement,
            "silhouette": found.silhouette, "null_mean": found.null_mean,
            "null_sd": found.null_sd, "p": found.p, "smooth_mean": found.smooth_mean,
            "smooth_sd": found.smooth_sd, "smooth_p": found.smooth_p,
            "beyond_chance": found.beyond_chance,
        }
        for i in range(len(found.sizes))
    ]  # fmt: skip
