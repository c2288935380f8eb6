"""EFAS by other correlations, and excess information, on half B: asked for with --variants."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.core.ports import Progress
from energylens.core.sites import layer_of
from energylens.energy.alignment_variants import variant_alignment
from energylens.stats.information import excess_mutual_information
from energylens.stats.multiplicity import benjamini_hochberg
from energylens.stats.ranking import spearman
from energylens.stats.rates import wilson_interval
from energylens.stats.robust import cluster_robust_t
from energylens.studies.energy_lens.bench import Bench
from energylens.studies.energy_lens.held import Held
from energylens.studies.energy_lens.statistics import SiteScores
from energylens.studies.energy_lens.tables import Row

INFORMATION = "information"
LEVEL = 0.05
FEATURES_AT_ONCE = 256


def variant_rows(
    site: str,
    bench: Bench,
    here: Held,
    scores: SiteScores,
    variants: Sequence[str],
    intervened: Sequence[int],
    *,
    generator: torch.Generator,
    progress: Progress,
) -> Iterator[Row]:
    """One row a variant and feature; permuted decoder rows beside the feature's own.

    Excess information costs a nearest-neighbour search for every draw of its null, so only the
    features that were intervened on have it.
    """
    ordinary = bench.ordinary.holds(here.states[:, 1:-1].flatten(0, 1))
    gradients = here.gradients[:, 1:-1].flatten(0, 1)[ordinary]
    unit = here.document.unique(return_inverse=True)[1]
    unit = unit.repeat_interleave(here.indices.shape[1])[ordinary]
    chosen = scores.scored.nonzero()[:, 0]
    shared = {"site": site, "layer": layer_of(site)}
    correlations = [name for name in variants if name != INFORMATION]
    with progress.task(f"variants {site}", len(chosen), "features") as advance:
        for some in chosen.split(FEATURES_AT_ONCE):
            activation = _activations(here, some, bench.dictionary.width)[ordinary]
            own, other = (-(gradients @ rows[some.to(gradients.device)].T)
                          for rows in (bench.dictionary.W_dec, bench.permuted))  # fmt: skip
            plain = variant_alignment(activation, own, unit, "all").value
            for name in correlations:
                found = variant_alignment(activation, own, unit, name)
                null = variant_alignment(activation, other, unit, name)
                columns = (
                    found.value, cluster_robust_t(found.scores).p, plain, null.value,
                    cluster_robust_t(null.scores).p,
                )  # fmt: skip
                for feature, *values in zip(some.tolist(), *(c.tolist() for c in columns),
                                            strict=True):  # fmt: skip
                    yield (
                        shared
                        | {"variant": name, "feature": feature}
                        | dict(
                            zip(
                                ("value", "p", "pearson", "null_value", "null_p"),
                                values,
                                strict=True,
                            )
                        )
                    )
            advance(len(some))
    if INFORMATION in variants:
        yield from _information_rows(bench, here, shared, intervened, generator, progress)


def _activations(here: Held, features: Tensor, width: int) -> Tensor:
    """Activations of some features at every place of half B, [sample feature]."""
    column = torch.full((width,), -1, device=here.indices.device)
    features = features.to(column.device)
    column[features] = torch.arange(len(features), device=column.device)
    at = column[here.indices.flatten(0, 1)]
    dense = here.values.new_zeros(len(at), len(features) + 1)
    # What is none of these features is summed in a last column and dropped.
    at = torch.where(at < 0, len(features), at)
    return dense.scatter_add_(1, at, here.values.flatten(0, 1))[:, :-1]


def _information_rows(
    bench: Bench,
    here: Held,
    shared: Row,
    features: Sequence[int],
    generator: torch.Generator,
    progress: Progress,
) -> Iterator[Row]:
    with progress.task(f"information {shared['site']}", len(features), "features") as advance:
        for feature in features:
            activation = here.activation(feature)
            force = here.force(bench.dictionary.W_dec[feature])
            try:
                found = excess_mutual_information(activation, force, generator=generator)
                value, p, null = found.value, found.p, found.null_mean
            except InsufficientData:
                value = p = null = float("nan")
            both = torch.stack([activation.flatten(), force.flatten()]).double()
            yield shared | {
                "variant": INFORMATION, "feature": feature, "value": value, "p": p,
                "pearson": float(torch.corrcoef(both)[0, 1]), "null_value": null,
                "null_p": float("nan"),
            }  # fmt: skip
            advance(1)


def with_q(rows: list[Row]) -> list[Row]:
    """q after Benjamini–Hochberg over all features of all sites, one family a variant."""
    for name in {row["variant"] for row in rows}:
        mine = [row for row in rows if row["variant"] == name]
        q = benjamini_hochberg(torch.tensor([row["p"] for row in mine], dtype=torch.float64))
        for row, value in zip(mine, q.tolist(), strict=True):
            row["q"] = value
    return rows


def variant_summaries(rows: Sequence[Mapping[str, object]]) -> Iterator[Row]:
    """One row a variant: how many have p < .05, how many when decoder rows are permuted, and
    whether it orders features as Pearson's does; information, without sign, as its size does."""
    for name in dict.fromkeys(str(row["variant"]) for row in rows):
        mine = [row for row in rows if row["variant"] == name]
        p, null, value, pearson, q = (
            torch.tensor([row[column] for row in mine], dtype=torch.float64)
            for column in ("p", "null_p", "value", "pearson", "q")
        )
        signed = name != INFORMATION
        pearson = pearson if signed else pearson.abs()
        rate, chance = (wilson_interval((x < LEVEL).sum(), x.isfinite().sum()) for x in (p, null))
        known = value.isfinite() & pearson.isfinite()
        clear = known & (q <= LEVEL)
        same = wilson_interval((value[clear].sign() == pearson[clear].sign()).sum(), clear.sum())
        yield {
            "variant": name, "n_features": int(p.isfinite().sum()),
            "undefined": int((~p.isfinite()).sum()),
            "rate_at_05": float(rate.estimate), "rate_low": float(rate.low),
            "rate_high": float(rate.high), "rate_permuted": float(chance.estimate),
            "below_q_05": int((q <= LEVEL).sum()),
            "rank_agreement": float(spearman(value[None], pearson[None])),
            "same_sign": float(same.estimate), "same_sign_low": float(same.low),
            "same_sign_high": float(same.high),
        }  # fmt: skip
