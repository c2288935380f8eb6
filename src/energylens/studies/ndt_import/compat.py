"""All runs by the original's definitions: its counts if given what it stored."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from energylens.dynamics import original
from energylens.studies.ndt_import.reading import Experiment

Row = dict[str, Any]
COORDINATED = 0.5
STRONG = 0.3


@dataclass(frozen=True, kw_only=True)
class Layers:
    """What the original's definitions find in the layers of one run, in its order of layers.

    Attributes:
        names: Sorted as text, as the original went through them, so that `network.10` comes before
            `network.2`.
        series: What was analysed.
        jumps: Where an increment is a jump.
        speeds: Of every increment.
        critical, transitions: Where velocity and acceleration are beyond their 90th percentile.
        stabilised: Index of the first quiet window; -1 if there is none.
    """

    names: tuple[str, ...]
    series: Float64[Tensor, "layer sample"]
    jumps: Bool[Tensor, "layer increment"]
    speeds: Float64[Tensor, "layer increment"]
    critical: Bool[Tensor, "layer increment"]
    transitions: Bool[Tensor, "layer turn"]
    stabilised: Tensor

    @property
    def count(self) -> int:
        """Jumps of the run."""
        return int(self.jumps.sum())

    def spans(self) -> dict[str, float]:
        """How far each layer's series goes, from its least to its largest value."""
        low, high = self.series.aminmax(dim=1)
        return dict(zip(self.names, (high - low).tolist(), strict=True))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One series of every layer, read by the original's definitions.

    Attributes:
        layers: By run.
        jumps: One row a jump, in the original's order, with the columns of its table.
        runs: One row a run.
        convergence: One row a run, with the keys of the original's file.
    """

    layers: Mapping[str, Layers]
    jumps: list[Row]
    runs: list[Row]
    convergence: list[Row]

    @property
    def total(self) -> int:
        return len(self.jumps)


def read_as_original(
    experiments: Sequence[Experiment], series: Mapping[str, Float64[Tensor, "layer sample"]]
) -> Reading:
    """The original's steps 1.1 to 1.3 on one series of every layer.

    Args:
        experiments: In the order of names.
        series: By experiment, in the file's order of layers.
    """
    found = {one.name: analyse_layers(one, series[one.name]) for one in experiments}
    jumps = [row for one in experiments for row in _jump_rows(one, found[one.name])]
    for row, cluster in zip(jumps, _clusters(jumps), strict=True):
        row["cluster"] = cluster
    return Reading(
        layers=found, jumps=jumps,
        runs=[_run_row(one, found[one.name]) for one in experiments],
        convergence=[_convergence_row(one, found[one.name]) for one in experiments],
    )  # fmt: skip


def analyse_layers(experiment: Experiment, series: Float64[Tensor, "layer sample"]) -> Layers:
    """What the definitions find in one run."""
    order = sorted(range(len(experiment.layers)), key=lambda place: experiment.layers[place])
    values = series[order]
    return Layers(
        names=tuple(experiment.layers[place] for place in order), series=values,
        jumps=original.global_z_jumps(values), speeds=original.speeds(values),
        critical=original.critical_increments(values),
        transitions=original.critical_increments(values, order=2),
        stabilised=original.first_quiet_window(values),
    )  # fmt: skip


def _jump_rows(experiment: Experiment, layers: Layers) -> Iterator[Row]:
    change = layers.series.diff(dim=1)
    for place, at in layers.jumps.nonzero().tolist():
        phase = at / experiment.num_steps
        yield {
            "step": at, "magnitude": abs(float(change[place, at])),
            "speed": float(layers.speeds[place, at]),
            "direction": "increase" if change[place, at] > 0 else "decrease",
            "phase": phase, "layer": layers.names[place], "experiment": experiment.name,
            "arch_name": experiment.architecture, "dataset": experiment.dataset,
            "phase_category": original.phase_category(phase),
        }  # fmt: skip


def _clusters(jumps: Sequence[Row]) -> list[int]:
    columns = [torch.tensor([row[name] for row in jumps], dtype=torch.float64)
               for name in ("phase", "magnitude", "speed")]  # fmt: skip
    return original.jump_types(*columns).tolist()


def _run_row(experiment: Experiment, layers: Layers) -> Row:
    together = original.coordination(layers.critical).numpy()
    link = original.falling_loss_share(layers.critical, experiment.loss)
    highest = float(together.max())
    return {
        "experiment": experiment.name, "arch_name": experiment.architecture,
        "dataset": experiment.dataset, "total_jumps": layers.count,
        "num_layers": len(layers.names), "jumps_per_layer": layers.count / len(layers.names),
        "layer_analysis": dict(zip(layers.names, layers.jumps.sum(dim=1).tolist(), strict=True)),
        "total_critical_steps": int(layers.critical.sum()),
        "total_transitions": int(layers.transitions.sum()),
        "num_coordinated_periods": int((together >= COORDINATED).sum()),
        "max_coordination": highest, "mean_coordination": float(np.mean(together)),
        "loss_correlation": link, "strong": highest > STRONG and link > STRONG,
    }  # fmt: skip


def _convergence_row(experiment: Experiment, layers: Layers) -> Row:
    order = original.convergence_order(layers.names, layers.stabilised)
    return {
        "stabilization_points": dict(zip(layers.names, layers.stabilised.tolist(), strict=True)),
        "convergence_correlation": order.rho, "convergence_p_value": order.p,
        "convergence_pattern": order.pattern,
        "num_stabilized_layers": int((layers.stabilised >= 0).sum()),
        "total_layers": len(layers.names), "experiment_name": experiment.name,
        "arch_name": experiment.architecture, "dataset_name": experiment.dataset,
        "num_layers": len(layers.names),
    }  # fmt: skip
