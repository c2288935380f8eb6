"""From sums to findings: every score beside its null, all sites in one family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from energylens.energy.alignment import Alignment
from energylens.stats.multiplicity import benjamini_hochberg, max_t
from energylens.stats.nulls import enough_evidence
from energylens.stats.robust import cluster_mean_interval, cluster_robust_t
from energylens.studies.energy_lens.scoring import (
    HEADLINE,
    LENS,
    OTHER,
    PERMUTED,
    RANDOM,
    Bench,
    Scored,
)

LEVEL = 0.05
RANDOM_WEIGHTS = "random-weight model"


@dataclass(frozen=True, kw_only=True)
class SiteScores:
    """EFAS of every feature of one site for one energy, with its inference.

    Attributes:
        low: Lower end of the 95 % interval of EFAS: the cluster-robust interval of the covariance,
            divided by the standard deviations taken as known.
        p_max_t: Family-wise p over all scored features of all sites of the same family.
        scored: Features with enough evidence; the rest are undefined (nan).
        threshold: |t| that a feature must exceed to be beyond chance.
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
    threshold: float

    @property
    def beyond(self) -> Bool[Tensor, " feature"]:
        """Features that follow the energy beyond chance, one chance in twenty for all together."""
        return self.p_max_t <= LEVEL


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
        site: _site_scores(alignments[site], masked[site], p, joint.threshold_05)
        for site, p in zip(masked, adjusted, strict=True)
    }


def _evident(found: Alignment) -> Float[Tensor, "unit feature"]:
    """Scores with nan for features whose evidence is too thin or that never vary."""
    scored = enough_evidence(found.n_active, found.n_units) & found.efas.isfinite()
    return torch.where(scored, found.scores, torch.nan)


def _site_scores(
    found: Alignment,
    scores: Float[Tensor, "unit feature"],
    p_max_t: Float[Tensor, " feature"],
    threshold: float,
) -> SiteScores:
    test = cluster_robust_t(scores)
    scored = scores[0].isfinite()
    efas = torch.where(scored, found.efas, torch.nan)
    mean = cluster_mean_interval(scores)
    to_correlation = len(scores) / found.scale
    return SiteScores(
        efas=efas, low=mean.low * to_correlation, high=mean.high * to_correlation,
        t=test.t, p=test.p,
        q=benjamini_hochberg(test.p), p_max_t=p_max_t,
        attribution=torch.where(scored, found.attribution, torch.nan),
        n_active=found.n_active, n_units=found.n_units, scored=scored, threshold=threshold,
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


def score_half(scored: Scored, site: str, bench: Bench, *, half: int) -> SiteScores:
    """Scores of one site over one half of the documents; its family is that site alone."""
    found = scored.alignment(f"{site}/{HEADLINE}", bench.dictionary.W_dec, half=half)
    generator = torch.Generator().manual_seed(0)
    return score_family({site: found}, draws=199, generator=generator)[site]


@dataclass(frozen=True, kw_only=True)
class Inference:
    """Every score of a run.

    Attributes:
        energies: By energy, then by site.
        controls: By control, then by site; all for the headline energy.
        replicated: By site: features whose halves agree.
    """

    energies: Mapping[str, Mapping[str, SiteScores]]
    controls: Mapping[str, Mapping[str, SiteScores]]
    replicated: Mapping[str, Bool[Tensor, " feature"]]

    @property
    def headline(self) -> Mapping[str, SiteScores]:
        return self.energies[HEADLINE]


def infer(
    benches: Mapping[str, Bench],
    scored: Scored,
    empty_benches: Mapping[str, Bench] | None,
    empty_scored: Scored | None,
    *,
    draws: int,
    seed: int,
) -> Inference:
    """Score three energies and every control; each family covers all sites at once."""

    def family(alignments: Mapping[str, Alignment]) -> dict[str, SiteScores]:
        generator = torch.Generator().manual_seed(seed)
        return score_family(alignments, draws=draws, generator=generator)

    def aligned(name: str, half: int | None = None) -> dict[str, Alignment]:
        return {
            site: scored.alignment(f"{site}/{name}", bench.dictionary.W_dec, half=half)
            for site, bench in benches.items()
        }

    energies = {energy: family(aligned(energy)) for energy in (HEADLINE, *LENS)}
    controls = {
        PERMUTED: family({
            site: scored.alignment(f"{site}/{PERMUTED}", bench.permuted)
            for site, bench in benches.items()
        }),
        RANDOM: family({
            site: scored.alignment(f"{site}/{RANDOM}", bench.random.rows,
                                   features=f"{site}/{RANDOM}/features")
            for site, bench in benches.items()
        }),
        OTHER: family({
            site: scored.alignment(f"{site}/{OTHER}", bench.dictionary.W_dec,
                                   features=f"{site}/{OTHER}/features")
            for site, bench in benches.items()
        }),
    }  # fmt: skip
    if empty_benches is not None and empty_scored is not None:
        controls[RANDOM_WEIGHTS] = family({
            site: empty_scored.alignment(f"{site}/{HEADLINE}", bench.dictionary.W_dec)
            for site, bench in empty_benches.items()
        })  # fmt: skip
    halves = [aligned(HEADLINE, half) for half in (0, 1)]
    agree = {
        site: replicated(energies[HEADLINE][site], [half[site] for half in halves])
        for site in benches
    }
    return Inference(energies=energies, controls=controls, replicated=agree)
