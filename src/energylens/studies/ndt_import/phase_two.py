"""The findings of the original's second phase, by its definitions, from its own choice of runs.

They rest on five chosen jumps of one transformer, on one CNN beside one MLP, and on a cut of phases
that leaves out jumps at phase 0; and they look measurements up at a fifth of the index they mean.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from energylens.dynamics.original import NO_INDEX
from energylens.dynamics.original_plan import PlannedJump
from energylens.studies.ndt_import.compat import Layers, Reading
from energylens.studies.ndt_import.reading import Experiment

Row = dict[str, Any]
CHOSEN = {
    "transformer": "transformer_deep_mnist", "cnn": "cnn_deep_mnist", "mlp": "mlp_narrow_mnist",
}  # fmt: skip
EARLY, LATE = 0.10, 0.50
MOVES = 1e-9
LEAST = 1e-20
REACH = 2


def phase_two(
    reading: Reading,
    experiments: Mapping[str, Experiment],
    plans: Mapping[str, Sequence[PlannedJump]],
) -> Row:
    """`phase_2_findings` of the integrated report; null where a chosen run is not in the folder."""
    transformer, cnn, mlp = (CHOSEN[family] for family in ("transformer", "cnn", "mlp"))
    one = experiments.get(transformer)
    return {
        "temporal_distribution": temporal_distribution(reading.jumps),
        "transformer_analysis": None if one is None else transformer_analysis(
            plans[transformer], one, reading.layers[transformer]
        ),
        "cnn_mlp_comparison": _beside(reading, experiments.get(cnn), experiments.get(mlp)),
        "early_late_comparison": early_late(reading.jumps),
    }  # fmt: skip


def temporal_distribution(jumps: Sequence[Row]) -> Row:
    """Counts before a tenth, up to half, and after."""
    early = sum(jump["phase"] < EARLY for jump in jumps)
    late = sum(jump["phase"] >= LATE for jump in jumps)
    return {
        "early": early, "mid": len(jumps) - early - late, "late": late,
        "early_percentage": share(100 * early, len(jumps)),
        "late_percentage": share(100 * late, len(jumps)),
    }  # fmt: skip


def transformer_analysis(
    plan: Sequence[PlannedJump], experiment: Experiment, layers: Layers
) -> Row:
    """What changes around the planned jumps of one transformer."""
    interval, names = experiment.interval, list(layers.names)
    around: list[Row] = []
    for planned in plan:
        before, _, after = (at // interval for at in planned.checkpoints)
        if after < len(experiment.steps):
            moved = (layers.series[:, after] - layers.series[:, before]).abs()
            around.append({
                "kind": planned.kind, "phase": planned.jump.phase,
                "loss_change": float(experiment.loss[after] - experiment.loss[before]),
                "coordination": int((moved > MOVES).sum()) / len(names),
            })  # fmt: skip
    seconds, firsts = (sum(part in p.jump.layer for p in plan) for part in ("linear2", "linear1"))
    return {
        "num_jumps_analyzed": len(plan),
        "mean_coordination": mean(row["coordination"] for row in around),
        "mean_loss_change": mean(row["loss_change"] for row in around),
        "early_jumps": _of_kind(around, "Type 5"), "late_jumps": _of_kind(around, "Type 4"),
        "layer_patterns": {"linear2_jumps": seconds, "linear1_jumps": firsts,
                           "ratio": seconds / max(firsts, 1)},
    }  # fmt: skip


def _of_kind(around: Sequence[Row], kind: str) -> Row:
    some = [row for row in around if kind in row["kind"]]
    means = {name: mean(row[key] for row in some) if some else 0 for name, key in
             (("mean_phase", "phase"), ("mean_loss_change", "loss_change"),
              ("mean_coordination", "coordination"))}  # fmt: skip
    return {"count": len(some), **means}


def _beside(reading: Reading, cnn: Experiment | None, mlp: Experiment | None) -> Row | None:
    if cnn is None or mlp is None:
        return None
    first, second = _totals(reading, cnn), _totals(reading, mlp)
    ratios = {
        f"{what}_ratio": first[f"mean_{what}"] / max(second[f"mean_{what}"], LEAST)
        for what in ("magnitude", "speed")
    }
    jumps = first["total_jumps"] / max(second["total_jumps"], 1)
    return {"cnn": first, "mlp": second, "comparison": {"jump_ratio": jumps, **ratios}}


def _totals(reading: Reading, experiment: Experiment) -> Row:
    jumps = [row for row in reading.jumps if row["experiment"] == experiment.name]
    return {
        "total_jumps": len(jumps), "mean_phase": mean(row["phase"] for row in jumps),
        "layers_with_jumps": len({row["layer"] for row in jumps}),
        "total_layers": len(experiment.layers),
        "mean_magnitude": mean(row["magnitude"] for row in jumps),
        "mean_speed": mean(row["speed"] for row in jumps),
    }  # fmt: skip


def timing(phase: float | int) -> str:
    """`early`, `mid` or `late`; empty for a jump at phase 0, which the original's cut drops."""
    if phase <= 0:
        return ""
    return "early" if phase <= EARLY else "mid" if phase <= LATE else "late"


def early_late(jumps: Sequence[Row]) -> Row:
    """Early jumps beside late ones, by the cut that drops phase 0."""
    parts = {name: [row for row in jumps if timing(row["phase"]) == name]
             for name in ("early", "mid", "late")}  # fmt: skip
    return {
        "total_jumps": len(jumps),
        **{f"{name}_jumps": len(rows) for name, rows in parts.items()},
        "early_fraction": share(len(parts["early"]), len(jumps)),
        "late_fraction": share(len(parts["late"]), len(jumps)),
        "early_characteristics": _characteristics(parts["early"]),
        "late_characteristics": _characteristics(parts["late"]),
    }


def _characteristics(jumps: Sequence[Row]) -> Row:
    if not jumps:
        return {"mean_magnitude": 0, "mean_speed": 0, "mean_layer_depth": 0}
    return {
        "mean_magnitude": mean(row["magnitude"] for row in jumps),
        "mean_speed": mean(row["speed"] for row in jumps),
        "mean_layer_depth": mean(named_depth(row["layer"]) for row in jumps),
    }


def named_depth(layer: str) -> int:
    """The first number in a layer's name; 999 for a plain `fc`, 0 for any other without one.

    Example:
        >>> [named_depth(name) for name in ("network.4", "layers.3.linear1", "fc", "input_proj")]
        [4, 3, 999, 0]
    """
    numbers = re.findall(r"\d+", layer)
    if numbers:
        return int(numbers[0])
    return NO_INDEX if "fc" in layer.lower() else 0


def improving_shares(reading: Reading, experiments: Mapping[str, Experiment]) -> dict[str, float]:
    """Share of jumps around which the loss falls, by timing, averaged over the chosen runs.

    Around is two samples either way of a fifth of the jump's index; jumps too near an end are left
    out. nan where no chosen run has a jump of that timing.
    """
    found: dict[str, list[float]] = {"early": [], "mid": [], "late": []}
    for name in CHOSEN.values():
        if name in experiments:
            for part, falls in _falls(reading, experiments[name]).items():
                found[part].append(float(np.mean(falls)))
    return {part: mean(shares) for part, shares in found.items()}


def _falls(reading: Reading, experiment: Experiment) -> dict[str, list[bool]]:
    falls: dict[str, list[bool]] = {}
    for row in reading.jumps:
        at, part = row["step"] // experiment.interval, timing(row["phase"])
        inside = at > REACH and at + REACH < len(experiment.steps)
        if row["experiment"] == experiment.name and part and inside:
            change = experiment.loss[at + REACH] - experiment.loss[at - REACH]
            falls.setdefault(part, []).append(bool(change < 0))
    return falls


def share(part: float | int, whole: int) -> float:
    return part / whole if whole else math.nan


def mean(values: Iterator[float | int] | Sequence[float | int]) -> float:
    kept = list(values)
    return float(np.mean(kept)) if kept else math.nan
