"""The original's raw JSON: one file a run, checked key by key before anything is computed."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from energylens.core.errors import ArtifactRefused, BadInput, InsufficientData
from energylens.core.files import sha256
from energylens.dynamics.original import WINDOW
from energylens.dynamics.settling import SettlingOptions
from energylens.stats.stationarity import FEWEST

METRICS = ("stable_rank", "participation_ratio", "effective_rank_90", "nuclear_norm_ratio")
TOP = ("measurements", "architecture_params", "final_accuracy", "arch_name", "dataset_name",
       "num_steps", "measurement_interval")  # fmt: skip
MOMENT = ("step", "loss", "grad_norm", "layer_metrics")
FAMILIES = ("transformer", "cnn", "mlp")
MOST_BYTES = 2**28
# The plateau that a series settles on is its last part, and takes as many as its test does.
LEAST = max(WINDOW + 1, round(FEWEST / SettlingOptions().plateau))


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One run of the original, as its file has it.

    Attributes:
        name: Of the file, without its suffix: what the original calls the experiment.
        architecture, dataset: As named in the file.
        layers: In the file's order, which is the network's.
        steps: Training steps of the measurements.
        stored: By metric of the file, what was stored. Undefined values are nan.
        loss, grad_norm: At the measurements; nan or infinite as stored.
        num_steps, interval: Training steps in all, and between measurements.
        final_accuracy: As stored.
        parameters: What the file says of the network.
        metrics: All that the file has of a layer, `METRICS` and others.
        sha256: Of the file.
    """

    name: str
    architecture: str
    dataset: str
    layers: tuple[str, ...]
    steps: Int64[Tensor, " sample"]
    stored: Mapping[str, Float64[Tensor, "layer sample"]]
    loss: Float64[Tensor, " sample"]
    grad_norm: Float64[Tensor, " sample"]
    num_steps: int
    interval: int
    final_accuracy: float
    parameters: Mapping[str, Any]
    metrics: tuple[str, ...]
    sha256: str

    @property
    def family(self) -> str:
        """`transformer`, `cnn` or `mlp`, as the original tells them: by the name."""
        return next((family for family in FAMILIES if family in self.architecture), "other")


def read_folder(folder: Path) -> list[Experiment]:
    """Every JSON file of a folder, in the order of names.

    Raises:
        BadInput: If there is none, one has another schema, or they are not of one experiment.
        InsufficientData: If a run has too few measurements for the original's window.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder: name the one with the raw JSON of the experiments")
    files = sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))
    if not files:
        raise BadInput(
            f"{folder} holds no JSON file: name the folder with the raw results, one file a run"
        )
    experiments = [read_experiment(path) for path in files]
    _refuse_mixed(experiments)
    return experiments


def read_experiment(path: Path) -> Experiment:
    """One run.

    Raises:
        ArtifactRefused: If the file is cut short, no JSON, or lacks a key, which is named.
        InsufficientData: If it has too few measurements.
    """
    record = _json(path)
    _require(record, TOP, path, "")
    moments = record["measurements"]
    if not isinstance(moments, list) or len(moments) < LEAST:
        count = len(moments) if isinstance(moments, list) else 0
        raise InsufficientData(
            f"{path.name} has {count} measurements, and what is looked for takes {LEAST}: measure"
            " more often, or move it out of the folder"
        )
    for place, moment in enumerate(moments):
        _require(moment, MOMENT, path, f"measurements[{place}].")
    layers = _layers(moments, path)
    steps = torch.tensor([_whole(m["step"], path, "step") for m in moments])
    num_steps, interval = (_whole(record[key], path, key)
                           for key in ("num_steps", "measurement_interval"))  # fmt: skip
    _check_steps(steps, interval, num_steps, path)
    return Experiment(
        name=path.stem, architecture=str(record["arch_name"]), dataset=str(record["dataset_name"]),
        layers=layers, steps=steps, num_steps=num_steps, interval=interval,
        stored={metric: _series(moments, layers, metric, path) for metric in METRICS},
        loss=_numbers([m["loss"] for m in moments], path, "loss"),
        grad_norm=_numbers([m["grad_norm"] for m in moments], path, "grad_norm"),
        final_accuracy=float(_numbers([record["final_accuracy"]], path, "final_accuracy")),
        parameters=_parameters(record["architecture_params"], path), sha256=sha256(path),
        metrics=tuple(sorted(moments[0]["layer_metrics"][layers[0]])),
    )  # fmt: skip


def _json(path: Path) -> Mapping[str, Any]:
    if path.stat().st_size > MOST_BYTES:
        raise ArtifactRefused(
            f"{path.name} is larger than {MOST_BYTES >> 20} MB: it is no file of one run"
        )
    try:
        record = json.loads(path.read_bytes())  # bare NaN is what the original writes
    except (ValueError, RecursionError) as error:
        raise ArtifactRefused(
            f"{path.name} is not whole JSON ({error}): copy it again from its source"
        ) from error
    if not isinstance(record, dict):
        raise ArtifactRefused(
            f"{path.name} holds a {type(record).__name__}, not the object of a run: move it out of"
            " the folder"
        )
    return record


def _require(found: Any, keys: Sequence[str], path: Path, where: str) -> None:
    if not isinstance(found, Mapping):
        raise ArtifactRefused(
            f"{path.name} has a {type(found).__name__} at {where.rstrip('.')}, where an object of"
            f" {', '.join(keys)} belongs"
        )
    missing = [key for key in keys if key not in found]
    if missing:
        raise ArtifactRefused(
            f"{path.name} lacks {', '.join(where + key for key in missing)}: it is no raw result of"
            " the original experiments; move it out of the folder"
        )


def _layers(moments: Sequence[Mapping[str, Any]], path: Path) -> tuple[str, ...]:
    """The layers, the same at every measurement."""
    first = moments[0]["layer_metrics"]
    if not isinstance(first, Mapping) or not first:
        raise ArtifactRefused(f"{path.name} has no layer in measurements[0].layer_metrics")
    for place, moment in enumerate(moments):
        odd = sorted(set(first) ^ set(moment["layer_metrics"]))
        if odd:
            raise ArtifactRefused(
                f"{path.name} has other layers in measurements[{place}] than in the first"
                f" ({', '.join(odd[:3])}): it mixes two networks"
            )
        for layer, metrics in moment["layer_metrics"].items():
            _require(metrics, METRICS, path, f"measurements[{place}].layer_metrics[{layer}].")
    return tuple(first)


def _series(
    moments: Sequence[Mapping[str, Any]], layers: Sequence[str], metric: str, path: Path
) -> Float64[Tensor, "layer sample"]:
    return torch.stack([
        _numbers([m["layer_metrics"][layer][metric] for m in moments], path, f"{layer}.{metric}")
        for layer in layers
    ])  # fmt: skip


def _numbers(values: Sequence[Any], path: Path, what: str) -> Float64[Tensor, " sample"]:
    """Numbers as stored; null is nan."""
    odd = [v for v in values if not (v is None or (isinstance(v, int | float)
                                                   and not isinstance(v, bool)))]  # fmt: skip
    if odd:
        raise ArtifactRefused(f"{path.name} has {odd[0]!r} for {what}, where a number belongs")
    return torch.tensor([math.nan if v is None else float(v) for v in values],
                        dtype=torch.float64)  # fmt: skip


def _whole(value: Any, path: Path, what: str) -> int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and float(value).is_integer()):
        raise ArtifactRefused(f"{path.name} has {value!r} for {what}, where a whole number belongs")
    return int(value)


def _parameters(found: Any, path: Path) -> Mapping[str, Any]:
    _require(found, ("depth", "width", "num_params"), path, "architecture_params.")
    return dict(found)


def _check_steps(steps: Tensor, interval: int, num_steps: int, path: Path) -> None:
    gaps = steps.diff()
    if interval < 1 or int(steps[0]) < 0 or int(steps[-1]) > num_steps:
        raise ArtifactRefused(
            f"{path.name} says {num_steps} training steps with a measurement every {interval}, and"
            f" has some from step {int(steps[0])} to {int(steps[-1])}: it is damaged"
        )
    if bool((gaps != interval).any()):
        place = int((gaps != interval).nonzero()[0])
        raise ArtifactRefused(
            f"{path.name} says that it measured every {interval} steps, and goes from step"
            f" {int(steps[place])} to {int(steps[place + 1])}: it mixes two runs or lacks one part"
        )


def _refuse_mixed(experiments: Sequence[Experiment]) -> None:
    """Refuse a folder whose files are not one experiment: each cell once, on one clock."""
    seen: dict[tuple[str, str], Experiment] = {}
    for one in experiments:
        cell = (one.architecture, one.dataset)
        if cell in seen:
            raise BadInput(
                f"{seen[cell].name}.json and {one.name}.json are both of {one.architecture} on"
                f" {one.dataset}: keep one of them in the folder"
            )
        seen[cell] = one
    for before, after in pairwise(experiments):
        for what, a, b in _clocks(before, after):
            if a != b:
                raise BadInput(
                    f"{before.name}.json has {a} {what}, and {after.name}.json {b}: these are two"
                    " experiments; give each a folder of its own"
                )


def _clocks(before: Experiment, after: Experiment) -> Iterator[tuple[str, str, str]]:
    """What two files of one experiment have in common."""
    yield "training steps", f"{before.num_steps:,}", f"{after.num_steps:,}"
    yield "steps between measurements", str(before.interval), str(after.interval)
    yield "as measures", ", ".join(before.metrics), ", ".join(after.metrics)
