"""Tables of the saliency contest: how each score ranks, what it says of each feature."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.core.ports import Store
from energylens.core.sites import layer_of
from energylens.results.record import Estimate
from energylens.stats.ranking import Agreement, rank_agreement
from energylens.studies.energy_lens.contest import SCORES

Row = dict[str, Any]
EVERY, RANDOM = "all", "random"
# Fewer features say nothing about a ranking.
FEWEST_FEATURES = 10


@dataclass(frozen=True, kw_only=True)
class Field:
    """Scores and effects of some features, summed by document.

    Attributes:
        site: Which of the sites each feature is of.
    """

    scores: Float[Tensor, "score unit feature"]
    effects: Float[Tensor, "unit feature"]
    counts: Float[Tensor, "unit feature"]
    site: Int[Tensor, " feature"]

    @property
    def k(self) -> int:
        """The strongest quarter of a site's features, at least one."""
        return max(1, int(torch.bincount(self.site).max()) // 4) if len(self.site) else 1


def contest_rows(
    store: Store, sites: Sequence[str], documents: Mapping[str, Tensor], *, seed: int
) -> Iterator[Row]:
    """One row a score at each site and over all sites; the features chosen at random apart too."""
    everything = [site for site in sites if len(store.tensor(f"contest.{site}", "feature"))]
    if not everything:
        return
    for site in everything:
        here = _field(store, [site], documents, chosen_by=EVERY)
        yield from _ranked(here, store, [site], name=site, chosen_by=EVERY, seed=seed)
    for chosen_by in (EVERY, RANDOM):
        field = _field(store, everything, documents, chosen_by=chosen_by)
        if chosen_by == EVERY or len(field.site) >= FEWEST_FEATURES:
            yield from _ranked(field, store, everything, name="all", chosen_by=chosen_by, seed=seed)


def _field(
    store: Store, sites: Sequence[str], documents: Mapping[str, Tensor], *, chosen_by: str
) -> Field:
    everyone = torch.cat([documents[site] for site in sites]).unique()
    scores, effects, counts, of_site = [], [], [], []
    for number, site in enumerate(sites):
        found = store.tensors(f"contest.{site}")
        rules = dict(store.record(f"proof.{site}")["choices"])
        mine = torch.tensor([chosen_by in (EVERY, rules[f]) for f in found["feature"].tolist()])
        unit = torch.searchsorted(everyone, documents[site][found["window"]])
        measured, scored = found["measured"][:, mine], found["scores"][:, :, mine]
        here = measured.isfinite()
        width = measured.shape[1]
        effects.append(measured.new_zeros(len(everyone), width).index_add(
            0, unit, measured.nan_to_num(0)))  # fmt: skip
        counts.append(measured.new_zeros(len(everyone), width).index_add(0, unit, here.double()))
        # nan where the feature has no such score; places without an ablation count for nothing.
        summed = torch.where(here, scored, 0.0)
        scores.append(
            summed.new_zeros(len(SCORES), len(everyone), width).index_add(1, unit, summed)
        )
        of_site.append(torch.full((width,), number))
    counted = torch.cat(counts, dim=1)
    there = counted.sum(1) > 0
    return Field(
        scores=torch.cat(scores, dim=2)[:, there], effects=torch.cat(effects, dim=1)[there],
        counts=counted[there], site=torch.cat(of_site),
    )  # fmt: skip


def _ranked(
    field: Field, store: Store, sites: Sequence[str], *, name: str, chosen_by: str, seed: int
) -> Iterator[Row]:
    units = len(field.effects)
    generator = torch.Generator().manual_seed(seed)
    found = None
    if units >= 2:
        found = rank_agreement(field.scores, field.effects, field.counts, field.site, k=field.k,
                               generator=generator)  # fmt: skip
    absent = {k: v for site in sites for k, v in store.record(f"contest.{site}")["absent"].items()}
    for number, score in enumerate(SCORES):
        yield {
            "site": name, "layer": layer_of(name) if name != "all" else None,
            "chosen_by": chosen_by, "score": score, "n_documents": units,
            **_row(found, number), "k": field.k, "absent": absent.get(score, ""),
        }  # fmt: skip


def _row(found: Agreement | None, number: int) -> Row:
    if found is None:
        columns = (
            "spearman", "low", "high", "null_mean", "null_sd", "p", "precision", "precision_low",
            "precision_high", "precision_null", "behind", "behind_low", "behind_high",
        )  # fmt: skip
        return {"n_features": 0, "n_tied": 0, "sites": 0, **dict.fromkeys(columns, math.nan)}
    return {
        "n_features": int(found.n_features[number]), "n_tied": int(found.n_tied[number]),
        "sites": int(found.strata[number]),
        "spearman": float(found.spearman.estimate[number]),
        "low": float(found.spearman.low[number]), "high": float(found.spearman.high[number]),
        "null_mean": float(found.null_mean[number]), "null_sd": float(found.null_sd[number]),
        "p": float(found.p[number]),
        "precision": float(found.precision.estimate[number]),
        "precision_low": float(found.precision.low[number]),
        "precision_high": float(found.precision.high[number]),
        "precision_null": float(found.precision_null[number]),
        "behind": float(found.behind.estimate[number]),
        "behind_low": float(found.behind.low[number]),
        "behind_high": float(found.behind.high[number]),
    }  # fmt: skip


def saliency_rows(
    store: Store, sites: Sequence[str], documents: Mapping[str, Tensor]
) -> Iterator[Row]:
    """One row a feature: what ablating it did and what each score says, means over windows."""
    for site in sites:
        found = store.tensors(f"contest.{site}")
        rules = dict(store.record(f"proof.{site}")["choices"])
        means = found["scores"].nanmean(1)
        for column, feature in enumerate(found["feature"].tolist()):
            here = found["measured"][:, column].isfinite()
            yield {
                "site": site, "layer": layer_of(site), "feature": feature,
                "chosen_by": rules[feature], "n_contexts": int(here.sum()),
                "n_documents": int(documents[site][found["window"][here]].unique().numel()),
                "measured": float(found["measured"][here, column].mean()),
                **{score: float(means[n, column]) for n, score in enumerate(SCORES)},
            }  # fmt: skip


def completeness_rows(store: Store, sites: Sequence[str]) -> Iterator[Row]:
    """How far integrated gradients of all features are from summing to the change itself."""
    for site in sites:
        found, record = store.tensors(f"contest.{site}"), store.record(f"contest.{site}")
        change, summed = found["change"], found["summed"]
        yield {
            "site": site, "layer": layer_of(site), "n_contexts": len(change),
            "ablations": record["ablations"], "ablations_used": record["ablations_used"],
            "passes": record["passes"],
            "change": float(change.mean()), "summed": float(summed.mean()),
            "error": float((summed - change).abs().sum() / change.abs().sum()),
        }  # fmt: skip


def contest_figures(rows: Sequence[Row]) -> dict[str, Estimate]:
    """Pooled Spearman correlation of each score with the measured effects."""
    return {
        f"contest_spearman.{row['score']}": Estimate(
            row["spearman"], "Spearman correlation", low=row["low"], high=row["high"],
            null_mean=row["null_mean"], null_sd=row["null_sd"], p=row["p"], n=row["n_documents"],
            n_unit="documents", label=f"{row['score']} against measured ablation",
            note=f"{row['n_features']} features, mean over {row['sites']} sites; null: effects"
            " shuffled among the features of a site",
        )
        for row in rows
        if row["site"] == "all" and row["chosen_by"] == EVERY
    }  # fmt: skip


def contest_limits(rows: Sequence[Row]) -> list[str]:
    """What the contest cannot tell, and which scores could not enter it."""
    limits = []
    if rows:
        limits.append(
            "The saliency contest ranks features of which a third each were chosen by attribution,"
            " by EFAS and at random: what it says of all features rests on the random third."
        )
    absent = {row["score"]: row["absent"] for row in rows if row["absent"]}
    return limits + [f"{score} is not in the contest: {why}." for score, why in absent.items()]
