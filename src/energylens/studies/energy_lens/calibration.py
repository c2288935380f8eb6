"""Calibration: does what the slope predicts of an ablation agree with what was measured?

A correlation of sizes is decided by the few largest effects. Where these are features that are
active nearly everywhere, whose removal is no small step, it can vanish although the slope predicts
nearly every other feature: so the correlation of ranks stands beside it, and both by how features
were chosen.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from energylens.core.ports import Store
from energylens.core.sites import layer_of
from energylens.stats.bootstrap import cluster_bootstrap, interval
from energylens.stats.ranking import spearman
from energylens.studies.energy_lens.parts import part_of
from energylens.studies.energy_lens.proof import ABLATE, KINDS, RULES

Row = dict[str, Any]
Proof = tuple[dict[str, Tensor], Tensor]
DRAWS = 2000
_COLUMNS = (
    *(f"{name}{end}" for name in ("slope", "correlation", "rank_correlation")
      for end in ("", "_low", "_high")),
    *(f"null_{name}_{what}" for name in ("correlation", "rank_correlation")
      for what in ("mean", "sd", "p")),
)  # fmt: skip


def calibration_rows(
    store: Store, sites: Collection[str], documents: Mapping[str, Tensor], *, seed: int
) -> Iterator[Row]:
    """Predicted against measured ablation over the features of each site."""
    proofs = {site: store.tensors(part_of("proof", site)) for site in sites}
    for site, proof in proofs.items():
        row = calibrate([(proof, documents[site])], seed=seed)
        yield {"site": site, "layer": layer_of(site), **row}


def pooled_calibration(
    store: Store, sites: Collection[str], documents: Mapping[str, Tensor], *, seed: int
) -> Row:
    """The same over the features of all sites together."""
    everything = [(store.tensors(part_of("proof", site)), documents[site]) for site in sites]
    return {"sites": len(everything), **calibrate(everything, seed=seed)}


def calibration_by_rule(
    store: Store, sites: Collection[str], documents: Mapping[str, Tensor], *, seed: int
) -> Iterator[Row]:
    """The same over the features of all sites that were chosen by one rule."""
    for rule in RULES:
        chosen = [(_of_rule(store, site, rule), documents[site]) for site in sites]
        yield {"chosen_by": rule, **calibrate(chosen, seed=seed)}


def _of_rule(store: Store, site: str, rule: str) -> dict[str, Tensor]:
    choices = store.record(part_of("proof", site))["choices"]
    features = torch.tensor([feature for feature, by in choices if by == rule], dtype=torch.long)
    proof = store.tensors(part_of("proof", site))
    mine = torch.isin(proof["feature"], features)
    return {name: tensor[mine] for name, tensor in proof.items()}


def calibrate(proofs: Sequence[Proof], *, seed: int) -> Row:
    """Slope and correlations with a bootstrap over documents, and with features shuffled."""
    predicted, measured, count = _by_document(proofs)
    generator = torch.Generator().manual_seed(seed)

    def statistic(weights: Tensor) -> Tensor:
        n = weights @ count
        x, y = (weights @ predicted) / n, (weights @ measured) / n
        return slope_and_correlations(x, y)

    units = len(count)
    n_features = count.shape[1]
    behind = {"n_features": n_features, "n_documents": units}
    if n_features < 3 or units < 2:
        return dict.fromkeys(_COLUMNS, float("nan")) | behind
    observed = statistic(torch.ones(1, units, dtype=torch.float64))[0]
    draws = cluster_bootstrap(statistic, units, draws=DRAWS, generator=generator)
    # A draw may leave a feature without a window; such a feature is left out of that draw.
    bounds = interval(draws, observed=observed)
    x, y = predicted.sum(0) / count.sum(0), measured.sum(0) / count.sum(0)
    shuffles = torch.stack([torch.randperm(n_features, generator=generator) for _ in range(DRAWS)])
    null = slope_and_correlations(x.expand(DRAWS, -1), y[shuffles])
    p = (1 + (null.abs() >= observed.abs()).sum(0)) / (1 + DRAWS)
    row: Row = {}
    for number, name in enumerate(("slope", "correlation", "rank_correlation")):
        row |= {name: float(observed[number]), f"{name}_low": float(bounds.low[number]),
                f"{name}_high": float(bounds.high[number])}  # fmt: skip
        if name != "slope":
            row |= {
                f"null_{name}_mean": float(null[:, number].mean()),
                f"null_{name}_sd": float(null[:, number].std()),
                f"null_{name}_p": float(p[number]),
            }
    return row | behind


def slope_and_correlations(x: Tensor, y: Tensor) -> Tensor:
    """Least-squares slope of y on x, their correlation and that of their ranks, [draw 3].

    Entries that are nan in either are left out.
    """
    here = x.isfinite() & y.isfinite()
    n = here.sum(1, keepdim=True)
    ranks = spearman(x, y)
    x, y = torch.where(here, x, 0.0), torch.where(here, y, 0.0)
    a = torch.where(here, x - x.sum(1, keepdim=True) / n, 0.0)
    b = torch.where(here, y - y.sum(1, keepdim=True) / n, 0.0)
    product, xx, yy = (a * b).sum(1), a.square().sum(1), b.square().sum(1)
    return torch.stack([product / xx, product / (xx * yy).sqrt(), ranks], dim=1)


def _by_document(proofs: Sequence[Proof]) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of predicted and measured ablation effects and counts, [document feature]."""
    kept = []
    for number, (proof, documents) in enumerate(proofs):
        mine = proof["kind"] == KINDS.index(ABLATE)
        kept.append(torch.stack([
            documents[proof["window"][mine]].double(),
            number * 1e7 + proof["feature"][mine].double(),
            proof["predicted"][mine], proof["measured"][mine].double(),
        ]))  # fmt: skip
    rows = torch.cat(kept, dim=1)
    unit = rows[0].unique(return_inverse=True)[1]
    feature = rows[1].unique(return_inverse=True)[1]
    shape = (int(unit.max()) + 1, int(feature.max()) + 1) if len(unit) else (0, 0)
    where = (unit, feature)

    def sums(values: Tensor) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64).index_put(where, values, accumulate=True)

    return sums(rows[2]), sums(rows[3]), sums(torch.ones_like(rows[2]))
