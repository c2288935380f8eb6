"""What heads, filters, neurons and weights of a network do at one moment, and between two.

A `Snapshot` is what a network is and does on a fixed probe. `state_measures` are of one snapshot,
and change from one to the next; `pair_measures` are of two. Each is a mapping from measure and site
to the mean over the heads, filters or neurons of the site.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from energylens.dynamics.attention import attention_entropy, head_divergence, head_entropy_range
from energylens.dynamics.dimension import dimensions
from energylens.dynamics.filters import filter_cosine, filter_orthogonality, isotropic_filter_cosine
from energylens.dynamics.probe import Forward, call
from energylens.dynamics.selectivity import (
    class_d_prime,
    class_selectivity,
    class_variance_share,
)
from energylens.dynamics.similarity import debiased_cka, procrustes_similarity
from energylens.dynamics.sites import Site, find_sites, rows_of, tensor_of, watched
from energylens.dynamics.sparsity import hoyer_sparsity, treves_rolls_sparsity, zero_share
from energylens.dynamics.unseen import unseen
from energylens.dynamics.weight_change import (
    relative_weight_change,
    same_parameters,
    weight_cosine,
)

Found: TypeAlias = dict[tuple[str, str], float]
"""A number for each measure and site; nan where it is undefined."""
SELECTIVITY: dict[str, Callable[..., Tensor]] = {
    "class_selectivity": class_selectivity,
    "class_d_prime": class_d_prime,
    "class_variance_share": class_variance_share,
}
SPARSITY: dict[str, Callable[..., Tensor]] = {
    "zero_share": zero_share,
    "hoyer_sparsity": hoyer_sparsity,
    "treves_rolls_sparsity": treves_rolls_sparsity,
}
ATTENTION: dict[str, Callable[..., Tensor]] = {
    "attention_entropy": attention_entropy,
    "head_divergence": head_divergence,
    "head_entropy_range": head_entropy_range,
}
FILTERS: dict[str, Callable[..., Tensor]] = {
    "filter_cosine": filter_cosine,
    "filter_orthogonality": filter_orthogonality,
}
ROWS = 1024
"""Places or positions that sparsity is taken over at most, the same ones always."""
PAIRS = ("representation_change", "representation_turn", "relative_weight_change", "weight_turn")


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a network is looked at; names as a `Tracker` takes them.

    Attributes:
        representations: Tensors that are compared between moments.
        rectified: Activations that are not negative, for selectivity and sparsity.
        attention: Probabilities of attention, [sample head query key].
        units: Axis of the units, by module, where it is neither the last nor that of channels: a
            rectifier does not know that it works on maps.
    """

    representations: Sequence[str]
    rectified: Sequence[str] = ()
    attention: Sequence[str] = ()
    units: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A network at one moment, on a fixed probe.

    Attributes:
        representations: One row a sample: the mean over places of a map, or over positions.
        rectified: One row a place or position of a sample, some drawn once where there are many.
        pooled: The same, one row a sample.
        attention: Probabilities.
        weights: Of linear maps and convolutions.
    """

    representations: Mapping[str, Float[Tensor, "sample _"]]
    rectified: Mapping[str, Float[Tensor, "_ _"]]
    pooled: Mapping[str, Float[Tensor, "sample _"]]
    attention: Mapping[str, Float[Tensor, "sample _ _ _"]]
    weights: Mapping[str, Float[Tensor, "_ ..."]]


def snapshot(model: nn.Module, probe: Any, places: Places, *, forward: Forward = call) -> Snapshot:
    """Run the probe through the network in evaluation mode, and leave the network as it was.

    Raises:
        UnknownName: If there is no such site; carries the nearest names.
        SiteNotAvailable: If a site holds no activations.
    """
    kinds = {"representations": places.representations, "rectified": places.rectified,
             "attention": places.attention}  # fmt: skip
    sites = {kind: find_sites(model, names, places.units) for kind, names in kinds.items()}
    seen: dict[str, dict[str, Tensor]] = {kind: {} for kind in (*kinds, "pooled")}

    def see(site: Site, module: nn.Module, output: object) -> None:
        value = tensor_of(output, site)
        if site in sites["attention"]:
            seen["attention"][site.name] = value.clone()
        for kind, pooled in (("representations", True), ("rectified", False), ("pooled", True)):
            if site in sites["rectified" if kind == "pooled" else kind]:
                most = None if pooled else ROWS
                seen[kind][site.name] = rows_of(
                    value, site, module, pooled=pooled, most=most, padding=None
                )

    watch = dict.fromkeys(site for some in sites.values() for site in some)
    with unseen(model), watched(model, tuple(watch), see):
        forward(model, probe)
    return Snapshot(weights=_filters_of(model), **seen)


def state_measures(now: Snapshot, labels: Int[Tensor, " sample"]) -> Found:
    """Every measure of one moment.

    Args:
        labels: The class of each sample of the probe.

    Raises:
        BadInput, InsufficientData: As the measures: labels that do not fit, classes with one
            sample alone, attention that is no distribution.
    """
    found: Found = {}
    for site, rows in now.representations.items():
        found["stable_rank", site] = float(dimensions(rows, centred=True)["stable_rank"])
    for site, pattern in now.attention.items():
        found |= {(name, site): _mean(of(pattern)) for name, of in ATTENTION.items()}
    for site, rows in now.pooled.items():
        found |= {(name, site): _mean(of(rows, labels)) for name, of in SELECTIVITY.items()}
    for site, rows in now.rectified.items():
        found |= {(name, site): _mean(of(rows.T)) for name, of in SPARSITY.items()}
    for site, weights in now.weights.items():
        found |= {(name, site): _mean(of(weights)) for name, of in FILTERS.items()}
    return found


def pair_measures(before: Snapshot, after: Snapshot) -> Found:
    """Every measure of two moments: 0 where nothing has changed.

    `representation_change` is 1 − `debiased_cka`, `representation_turn` 1 −
    `procrustes_similarity`, and `weight_turn` 1 − `weight_cosine`.

    Raises:
        BadInput: If the snapshots are of different networks or probes.
    """
    found: Found = {}
    for site in same_parameters(before.representations, after.representations):
        pair = before.representations[site], after.representations[site]
        found["representation_change", site] = 1 - float(debiased_cka(*pair))
        found["representation_turn", site] = 1 - float(procrustes_similarity(*pair))
    for site in same_parameters(before.weights, after.weights):
        pair = before.weights[site], after.weights[site]
        found["relative_weight_change", site] = float(relative_weight_change(*pair))
        found["weight_turn", site] = 1 - float(weight_cosine(*pair))
    return found


def blind_value(
    measure: str, site: str, now: Snapshot, labels: Int[Tensor, " sample"]
) -> float | None:
    """What a state measure would be of heads that look at all alike (without a mask), of filters
    drawn at random, of neurons that know no class; None where that takes resampling."""
    if measure in ("head_divergence", "head_entropy_range"):
        return 0.0
    if measure == "attention_entropy":
        return float(torch.tensor(float(now.attention[site].shape[-1])).log())
    if measure in FILTERS:
        d = now.weights[site][0].numel()
        return isotropic_filter_cosine(d) if measure == "filter_cosine" else 1 - 1 / d
    if measure == "class_variance_share":
        return (len(labels.unique()) - 1) / (len(labels) - 1)
    return None


def _filters_of(model: nn.Module) -> dict[str, Tensor]:
    """Weights of linear maps and convolutions that have two filters or more, copied."""
    return {
        name: module.weight.detach().clone()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
        and len(module.weight) > 1
    }


def _mean(values: Tensor) -> float:
    """Over heads, filters or neurons; those for which it is undefined have no part in it."""
    return float(values.nanmean())
