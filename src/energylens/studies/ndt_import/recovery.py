"""The true stable rank from what the original stored, and its runs as histories.

The original divided the Frobenius norm by itself, so its stable rank is 1 up to rounding. But the
nuclear-norm ratio Σσ/σ₁ and the participation ratio (Σσ)²/Σσ² of the same singular values were
right, and the stable rank Σσ²/σ₁² is the square of the first over the second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa
import torch
from jaxtyping import Float64
from torch import Tensor

from energylens.dynamics.history import History
from energylens.studies.ndt_import.reading import Experiment

# Names here, and in the original's files; the rank itself is recovered.
STORED = {
    "participation_ratio_sigma": "participation_ratio",
    "energy_rank_90": "effective_rank_90",
    "nuclear_norm_ratio": "nuclear_norm_ratio",
}
MEASURES = ("stable_rank", *STORED)
ROUNDING = 1e-6
CLASSES = {"ag_news": 4}  # of the original's data sets; the images have ten
IMAGES = ("mnist", "fashion_mnist", "qmnist")
UNKNOWN = 0


def recovered_rank(
    nuclear_norm_ratio: Float64[Tensor, "*shape"], participation_ratio: Float64[Tensor, "*shape"]
) -> Float64[Tensor, "*shape"]:
    """Stable rank of a matrix from two ratios of its singular values; nan where undefined.

    Example:
        >>> σ = torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64)
        >>> nuclear, participation = σ.sum() / σ[0], σ.sum() ** 2 / σ.square().sum()
        >>> recovered_rank(nuclear, participation).item(), (σ.square().sum() / σ[0] ** 2).item()
        (1.5, 1.5)
    """
    rank = nuclear_norm_ratio.square() / participation_ratio
    known = (participation_ratio > 0) & rank.isfinite()
    return torch.where(known, rank, torch.nan)


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """Whether the stored ratios can be of one set of singular values.

    Attributes:
        values: Moments of layers at which the true rank is defined.
        undefined: Those at which it is not.
        within: Of the defined, those with 1 ≤ rank ≤ nuclear-norm ratio ≤ participation ratio,
            as singular values must have it.
        constant: Layers whose stored rank never leaves its first value by more than a millionth.
        layers: Layers in all.
        agreeing: Layers whose stored rank is the recovered one, as of files without the bug.
    """

    values: int
    undefined: int
    within: int
    constant: int
    layers: int
    agreeing: int


def consistency(experiments: Sequence[Experiment]) -> Consistency:
    """Count over all runs."""
    rank = torch.cat([true_rank(one).flatten() for one in experiments])
    nuclear, participation = (
        torch.cat([one.stored[name].flatten() for one in experiments])
        for name in ("nuclear_norm_ratio", "participation_ratio")
    )
    known = rank.isfinite()
    chain = (torch.ones_like(rank), rank, nuclear, participation)
    within = known.clone()
    for lower, upper in pairwise(chain):
        within &= lower <= upper * (1 + ROUNDING)
    stored = [one.stored["stable_rank"] for one in experiments]
    apart = [(s - true_rank(one)).abs().nan_to_num(0) for s, one in
             zip(stored, experiments, strict=True)]  # fmt: skip
    return Consistency(
        values=int(known.sum()), undefined=int((~known).sum()), within=int(within.sum()),
        constant=sum(int(_constant(values).sum()) for values in stored),
        layers=sum(len(values) for values in stored),
        agreeing=sum(int((gap.amax(dim=1) < ROUNDING * 100).sum()) for gap in apart),
    )  # fmt: skip


def _constant(values: Float64[Tensor, "layer sample"]) -> Tensor:
    return ((values - values[:, :1]).abs().nan_to_num(0).amax(dim=1)) <= ROUNDING


def true_rank(experiment: Experiment) -> Float64[Tensor, "layer sample"]:
    """The recovered rank of every layer and moment of a run."""
    return recovered_rank(
        experiment.stored["nuclear_norm_ratio"], experiment.stored["participation_ratio"]
    )


def history(experiment: Experiment) -> History:
    """A run in training steps, with every measure that its file can give.

    There is no second half of the probe, and how many rows and units a matrix had is not stored, so
    the ceiling is unknown, which is written as 0. Losses that are not finite are undefined.
    """
    values = {name: experiment.stored[stored] for name, stored in STORED.items()}
    finite = {
        name: torch.where(series.isfinite(), series, torch.nan)
        for name, series in {"loss": experiment.loss, "grad_norm": experiment.grad_norm}.items()
    }
    return History(
        steps=experiment.steps, sites=experiment.layers,
        values={"stable_rank": true_rank(experiment), **values}, again={},
        ceiling=torch.full((len(experiment.layers),), UNKNOWN), training=finite,
    )  # fmt: skip


def runs_table(experiments: Sequence[Experiment]) -> pa.Table:
    """One row a run: what was trained, on what, and where it ended."""
    return pa.Table.from_pylist([
        {
            "run": one.name, "architecture": one.architecture, "family": one.family,
            "dataset": one.dataset, "seed": None, "depth": int(one.parameters["depth"]),
            "width": float(one.parameters["width"]),
            "parameters": int(one.parameters["num_params"]), "num_steps": one.num_steps,
            "interval": one.interval,
            "final_accuracy": one.final_accuracy, "chance_accuracy": _chance(one.dataset),
            "final_loss": float(one.loss[-1]),
        }
        for one in experiments
    ])  # fmt: skip


def _chance(dataset: str) -> float:
    """One over the classes of a data set of the original; nan of another."""
    known = dataset in CLASSES or dataset in IMAGES
    return 1 / CLASSES.get(dataset, 10) if known else float("nan")
