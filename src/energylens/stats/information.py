"""Mutual information beyond what noise gives: an estimate minus the mean of its permutations."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.nulls import enough_evidence, unit_permutation

FEWEST_SAMPLES = 50


@dataclass(frozen=True, kw_only=True)
class ExcessInformation:
    """Mutual information of two series beside its null.

    Attributes:
        value: Estimate minus the mean of its permutations, nats; about 0 for independent series.
        raw: The estimate itself, which noise makes positive.
        null_mean, null_sd: Of the estimate with the units of one series permuted.
        p: One-sided, (1 + #{null ≥ raw}) / (1 + draws).
    """

    value: float
    raw: float
    null_mean: float
    null_sd: float
    p: float
    samples: int
    units: int


def excess_mutual_information(
    x: Float[Tensor, "unit place"],
    y: Float[Tensor, "unit place"],
    *,
    generator: torch.Generator,
    draws: int = 39,
    neighbours: int = 3,
    most_samples: int = 2_000,
) -> ExcessInformation:
    """Kraskov–Stögbauer–Grassberger information (2004), as scikit-learn computes it.

    The null permutes whole units of y, so that what lies within a unit stays together. All draws
    and the real pairing look at the same places. A series that is active once among n samples has
    the same information whatever its size, so series that seldom leave their commonest value are
    refused (`nulls.enough_evidence`).

    Args:
        x, y: The same places of the same units; units are independent.
        draws: Permutations; 39 reach p = .025.
        neighbours: k of the nearest-neighbour estimate.
        most_samples: Places beyond so many are left out, at random and alike in all units.

    Raises:
        BadInput: If the two are of different shape or not finite.
        InsufficientData: If there are fewer than 50 samples or 5 units, or a series leaves its
            commonest value in fewer than 30 samples or 5 units.
    """
    from sklearn.feature_selection import mutual_info_regression

    _check(x, y)
    units, places = x.shape
    kept = torch.randperm(places, generator=generator)[: max(1, most_samples // units)]
    first, second = (series[:, kept.to(series.device)].double() for series in (x, y))
    if first.numel() < FEWEST_SAMPLES or units < 5:
        raise InsufficientData(
            f"mutual information needs {FEWEST_SAMPLES} samples of 5 units, found"
            f" {first.numel()} of {units}: give more text"
        )
    for series in (first, second):
        _varies(series)
    column = first.flatten().numpy(force=True)[:, None]

    def information(other: Tensor) -> float:
        # scikit-learn breaks ties with noise: the same seed each time, so that draws compare
        found = mutual_info_regression(
            column, other.flatten().numpy(force=True), n_neighbors=neighbours, random_state=0
        )
        return float(found[0])

    raw = information(second)
    null = torch.tensor(
        [information(unit_permutation(second, generator)) for _ in range(draws)],
        dtype=torch.float64,
    )
    return ExcessInformation(
        value=raw - float(null.mean()), raw=raw, null_mean=float(null.mean()),
        null_sd=float(null.std()), p=(1 + int((null >= raw).sum())) / (1 + draws),
        samples=first.numel(), units=units,
    )  # fmt: skip


def _varies(series: Float[Tensor, "unit place"]) -> None:
    """One value apart from the rest has H(1 / n) of information whatever it is: too little said."""
    apart = series != series.flatten().mode().values
    if not bool(enough_evidence(apart.sum()[None], apart.any(1).sum()[None])):
        raise InsufficientData(
            f"a series that is off its commonest value in {int(apart.sum())} samples of"
            f" {int(apart.any(1).sum())} units says too little: information needs 30 of 5"
        )


def _check(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape:
        raise BadInput(f"series of shape {list(x.shape)} and {list(y.shape)}: give the same places")
    bad = int((~(x.isfinite() & y.isfinite())).sum())
    if bad:
        raise BadInput(f"{bad} places hold nan or infinity: leave their units out")
