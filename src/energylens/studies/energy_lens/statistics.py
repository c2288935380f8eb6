"""From sums to findings: every score beside its null, all sites in one family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from energylens.energy.alignment import Alignment
from energylens.stats.multiplicity import benjamini_hochberg, max_t
from energylens.stats.nulls import enough_evidence
from energylens.stats.robust import cluster_robust_t

LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class SiteScores:
    """EFAS of every feature of one site for one energy, with its inference.

    Attributes:
        low: Lower end of the 95 % interval of EFAS: the cluster-robust interval of the covariance,
            divided by the standard deviations taken as known.
        p_max_t: Family-wise p over all scored features of all sites of the same family.
        scored: Features with enough evidence; the rest are undefined (nan).
    """

    efas: Float[Tensor, " feature"]
    low: Float[Tensor, " feature"]
    high: Float[Tensor, " feature"]
    t: Float[Tensor, " feature"]
    p: Float[Tensor, " feature"]
    q: Float[Tensor, " feature"]
    p_max_t: Float[Tensor, " feature"]
    attribution: Float[Tensor, " feature"]
    n_active: Float[Tensor, " feature"]
    n_units: Float[Tensor, " feature"]
    scored: Bool[Tensor, " feature"]

    @property
    def beyond(self) -> Bool[Tensor, " feature"]:
        return self.p_max_t < LEVEL


def score_family(
    alignments: Mapping[str, Alignment], *, draws: int, generator: torch.Generator
) -> dict[str, SiteScores]:
    """Inference for the features of all sites as one family, so that max-T covers them jointly.

    The signs of the multiplier bootstrap are drawn once a document and shared by all sites: what
    a document does to one site it does to the others.
    """
    masked = {site: _evident(found) for site, found in alignments.items()}
    joint = max_t(torch.cat(list(masked.values()), dim=1), draws=draws, generator=generator)
    adjusted = joint.p_adjusted.split([m.shape[1] for m in masked.values()])
    return {
        site: _site_scores(alignments[site], masked[site], p)
        for site, p in zip(masked, adjusted, strict=True)
    }


def _evident(found: Alignment) -> Float[Tensor, "unit feature"]:
    """Scores with nan for features whose evidence is too thin or that never vary."""
    scored = enough_evidence(found.n_active, found.n_units) & found.efas.isfinite()
    return torch.where(scored, found.scores, torch.nan)


def _site_scores(
    found: Alignment, scores: Float[Tensor, "unit feature"], p_max_t: Float[Tensor, " feature"]
) -> SiteScores:
    test = cluster_robust_t(scores)
    scored = scores[0].isfinite()
    efas = torch.where(scored, found.efas, torch.nan)
    half_width = (efas / test.t).abs() * test.critical(LEVEL)
    return SiteScores(
        efas=efas, low=efas - half_width, high=efas + half_width, t=test.t, p=test.p,
        q=benjamini_hochberg(test.p), p_max_t=p_max_t,
        attribution=torch.where(scored, found.attribution, torch.nan),
        n_active=found.n_active, n_units=found.n_units, scored=scored,
    )  # fmt: skip


def replicated(
    scores: SiteScores, halves: Sequence[Alignment]
) -> Bool[Tensor, " feature"]:
    """Whether both halves of the documents agree in sign and each finds p < .05 by itself."""
    agree = scores.scored.clone()
    for half in halves:
        test = cluster_robust_t(_evident(half))
        agree &= (test.p < LEVEL) & (test.t.sign() == scores.t.sign())
    return agree
