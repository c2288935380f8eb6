"""The common analysis in the schemas of the original: events with a null, in training steps."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from energylens.dynamics.original import phase_category
from energylens.dynamics.planner import CONTROL, plan_checkpoints
from energylens.studies.dynamics_analysis.events import dated
from energylens.studies.ndt_import.material import Material
from energylens.studies.ndt_import.phase_two import (
    EARLY,
    LATE,
    LEAST,
    mean,
    share,
    temporal_distribution,
)
from energylens.studies.ndt_import.reading import Experiment

Row = dict[str, Any]
MEASURE = "stable_rank"
LEVEL = 0.05
BUDGET = 30
PATTERNS = {"bottom_up": "bottom-up", "top_down": "top-down"}  # as the original spells them


def sound_jumps(material: Material) -> list[Row]:
    """Events of the true stable rank with the columns of the original's table.

    Steps are training steps and phases are parts of the training; `low` and `high` are the interval
    of the date. An event without one has no phase and no category of it.
    """
    experiments = material.by_name()
    return [
        {
            "step": row["step"], "magnitude": abs(row["amplitude"]), "speed": row["speed"],
            "direction": "increase" if row["direction"] == "up" else "decrease",
            "phase": row["phase"], "layer": row["site"], "experiment": row["run"],
            "arch_name": experiments[row["run"]].architecture,
            "dataset": experiments[row["run"]].dataset,
            "phase_category": phase_category(row["phase"]) if dated([row]) else None,
            "cluster": row.get("type"),
            "low": row["low"], "high": row["high"], "depth": row["depth"],
        }
        for row in material.rows("jumps", measure=MEASURE)
    ]  # fmt: skip


def sound_runs(material: Material, jumps: Sequence[Row]) -> list[Row]:
    """One row a run: its events, and coordination and loss link judged by their nulls."""
    by_layer = Counter((row["experiment"], row["layer"]) for row in jumps)
    judged = {row["run"]: row for row in material.rows("coordination", measure=MEASURE)}
    linked = {row["run"]: row for row in material.rows("loss_link", measure=MEASURE)}
    rows = []
    for one, counted in zip(material.experiments, material.true.runs, strict=True):
        layers = {name: by_layer[one.name, name] for name in one.layers}
        total = sum(layers.values())
        rows.append(counted | {
            "total_jumps": total, "jumps_per_layer": total / len(layers), "layer_analysis": layers,
            "loss_correlation": linked[one.name]["correlation"],
            "strong": judged[one.name]["q"] <= LEVEL,
        })  # fmt: skip
    return rows


def sound_convergence(material: Material) -> list[Row]:
    """One row a run with the keys of the original's list; -1 for a layer that never settled."""
    orders = {row["run"]: row for row in material.rows("order", measure=MEASURE)}
    points: dict[str, dict[str, int]] = {one.name: {} for one in material.experiments}
    for row in material.rows("settling", measure=MEASURE):
        at = -1 if row["censored"] else int(row["settled_step"])
        points[row["run"]][row["site"]] = at
    return [
        {
            "stabilization_points": points[one.name],
            "convergence_correlation": orders[one.name]["rho"],
            "convergence_p_value": orders[one.name]["p"],
            "convergence_pattern": PATTERNS.get(
                orders[one.name]["pattern"], orders[one.name]["pattern"]
            ),
            "num_stabilized_layers": sum(at >= 0 for at in points[one.name].values()),
            "total_layers": len(one.layers), "experiment_name": one.name,
            "arch_name": one.architecture, "dataset_name": one.dataset,
            "num_layers": len(one.layers),
        }
        for one in material.experiments
    ]  # fmt: skip


def sound_plans(
    material: Material, jumps: Sequence[Row], generator: torch.Generator
) -> dict[str, Row]:
    """Checkpoints before, at and after the strongest events of every run, with quiet controls."""
    return {one.name: _plan(one, [row for row in dated(jumps) if row["experiment"] == one.name],
                           generator)
            for one in material.experiments}  # fmt: skip


def _plan(one: Experiment, jumps: Sequence[Row], generator: torch.Generator) -> Row:
    step, low, high = (torch.tensor([int(row[key]) for row in jumps])
                       for key in ("step", "low", "high"))  # fmt: skip
    strength = torch.tensor([row["magnitude"] for row in jumps], dtype=torch.float64)
    if not jumps:
        return {"jumps": [], "checkpoint_steps": []}
    plan = plan_checkpoints(step, low, high, strength, num_steps=one.num_steps, budget=BUDGET,
                            generator=generator)  # fmt: skip
    chosen = []
    for window in sorted(plan.windows, key=lambda window: window.peak):
        event, quiet = jumps[window.event], window.kind == CONTROL
        chosen.append({
            "type": f"quiet control of step {event['step']}" if quiet else event["direction"],
            "cluster": None if quiet else event["cluster"], "step": window.peak,
            "phase": window.peak / one.num_steps, "magnitude": 0 if quiet else event["magnitude"],
            "layer": event["layer"], "checkpoints": list(window.steps),
        })  # fmt: skip
    return {"jumps": chosen, "checkpoint_steps": list(plan.steps)}


def sound_phase_two(material: Material, jumps: Sequence[Row]) -> Row:
    """`phase_2_findings` over all runs and dated events, not over chosen ones."""
    jumps = dated(jumps)
    families = {family: {one.name for one in material.of_family(family)}
                for family in ("transformer", "cnn", "mlp")}  # fmt: skip
    of = {family: [row for row in jumps if row["experiment"] in names]
          for family, names in families.items()}  # fmt: skip
    return {
        "temporal_distribution": temporal_distribution(jumps),
        "transformer_analysis": _around(material, of["transformer"]),
        "cnn_mlp_comparison": _beside(
            *(_totals(of[family], material.of_family(family)) for family in ("cnn", "mlp"))
        ),
        "early_late_comparison": _early_late(jumps),
    }


def _around(material: Material, jumps: Sequence[Row]) -> Row:
    """What the loss does over the interval of each event, and how many layers move with it."""
    experiments = material.by_name()
    around = [
        row | {"loss_change": _loss_change(experiments[row["experiment"]], row),
               "coordination": _together(row, jumps, experiments)}
        for row in jumps
    ]  # fmt: skip
    seconds, firsts = (sum(row["layer"].endswith(part) for row in jumps)
                       for part in ("linear2", "linear1"))  # fmt: skip
    parts = {"early_jumps": [row for row in around if row["phase"] < EARLY],
             "late_jumps": [row for row in around if row["phase"] >= LATE]}  # fmt: skip
    return {
        "num_jumps_analyzed": len(jumps), **_means(around, ("coordination", "loss_change")),
        **{name: {"count": len(some), **_means(some, ("phase", "loss_change", "coordination"))}
           for name, some in parts.items()},
        "layer_patterns": {"linear2_jumps": seconds, "linear1_jumps": firsts,
                           "ratio": seconds / max(firsts, 1)},
    }  # fmt: skip


def _loss_change(one: Experiment, row: Row) -> float:
    """Of the loss from the measurement before the event's interval to that after it."""
    last = len(one.steps) - 1
    before = int((one.steps < row["low"]).sum()) - 1
    after = int((one.steps <= row["high"]).sum())
    return float(one.loss[min(after, last)] - one.loss[max(before, 0)])


def _together(row: Row, jumps: Sequence[Row], experiments: Mapping[str, Experiment]) -> float:
    """Share of the run's layers with an event whose interval overlaps this one's."""
    moved = {
        other["layer"] for other in jumps if other["experiment"] == row["experiment"]
        and other["low"] <= row["high"] and row["low"] <= other["high"]
    }  # fmt: skip
    return len(moved) / len(experiments[row["experiment"]].layers)


def _totals(jumps: Sequence[Row], some: Sequence[Experiment]) -> Row:
    return {
        "total_jumps": len(jumps), **_means(jumps, ("phase",)),
        "layers_with_jumps": len({(row["experiment"], row["layer"]) for row in jumps}),
        "total_layers": sum(len(one.layers) for one in some),
        **_means(jumps, ("magnitude", "speed")),
    }  # fmt: skip


def _beside(cnn: Row, mlp: Row) -> Row:
    """Ratios of jumps a layer, since there are more runs of MLPs, with more layers."""
    first, second = (share(row["total_jumps"], row["total_layers"]) for row in (cnn, mlp))
    ratios = {f"{what}_ratio": cnn[f"mean_{what}"] / max(mlp[f"mean_{what}"], LEAST)
              for what in ("magnitude", "speed")}  # fmt: skip
    ratio = first / second if second and math.isfinite(second) else math.nan
    return {"cnn": cnn, "mlp": mlp, "comparison": {"jump_ratio": ratio, **ratios}}


def _early_late(jumps: Sequence[Row]) -> Row:
    counts = temporal_distribution(jumps)
    early, late = ([row for row in jumps if row["phase"] < EARLY],
                   [row for row in jumps if row["phase"] >= LATE])  # fmt: skip
    return {
        "total_jumps": len(jumps),
        **{f"{name}_jumps": counts[name] for name in ("early", "mid", "late")},
        "early_fraction": share(len(early), len(jumps)),
        "late_fraction": share(len(late), len(jumps)),
        **{
            f"{name}_characteristics": {
                **_means(some, ("magnitude", "speed")),
                "mean_layer_depth": mean(row["depth"] for row in some),
            }
            for name, some in (("early", early), ("late", late))
        },
    }


def _means(rows: Sequence[Row], names: Sequence[str]) -> Row:
    return {f"mean_{name}": mean(row[name] for row in rows) for name in names}
