"""From sums to findings: every score beside its null, all sites in one family."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from energylens.energy.alignment import Alignment
from energylens.stats.matching import matched_max_t
from energylens.stats.multiplicity import benjamini_hochberg, max_t
from energylens.stats.nulls import enough_evidence
from energylens.stats.robust import cluster_mean_interval, cluster_robust_t
from energylens.studies.energy_lens.bench import Bench
from energylens.studies.energy_lens.lens import LENS, TUNED
from energylens.studies.energy_lens.scoring import Scored
from energylens.studies.energy_lens.tally import CODE_OF, HEADLINE, OTHER, PERMUTED, RANDOM

LEVEL = 0.05
# Ways to deal decoder rows out: a family-wise p as small as .0005.
ROW_DRAWS = 2_000
RANDOM_WEIGHTS = "random-weight model"


@dataclass(frozen=True, kw_only=True)
class SiteScores:
    """EFAS of every feature of one site for one energy, with its inference.

    Attributes:
        low: Lower end of the 95 % interval of EFAS: the cluster-robust interval of the covariance,
            divided by the standard deviations taken as known.
        p: Of the feature by itself, the larger of two: that activation and force covary at all
            (signs flipped by document), and the rank of its own decoder row among all rows.
        p_documents: Family-wise p that activation and force covary at all, signs flipped by
            document, over all scored features of all sites of the family.
        p_rows: Family-wise p that the own decoder row does better than other features' rows.
        scored: Features with enough evidence; the rest are undefined (nan).
        documents: Documents scored on.
        threshold: |t| that a feature must exceed to be beyond chance.
    """

    efas: Float[Tensor, " feature"]
    low: Float[Tensor, " feature"]
    high: Float[Tensor, " feature"]
    t: Float[Tensor, " feature"]
    p: Float[Tensor, " feature"]
    q: Float[Tensor, " feature"]
    p_documents: Float[Tensor, " feature"]
    p_rows: Float[Tensor, " feature"]
    attribution: Float[Tensor, " feature"]
    n_active: Float[Tensor, " feature"]
    n_units: Float[Tensor, " feature"]
    scored: Bool[Tensor, " feature"]
    threshold: float
    documents: int

    @property
    def p_max_t(self) -> Float[Tensor, " feature"]:
        """The larger of both: a finding must beat either null."""
        return torch.maximum(self.p_documents, self.p_rows)

    @property
    def beyond(self) -> Bool[Tensor, " feature"]:
        """Features that follow the energy beyond chance, one chance in twenty for all together."""
        return self.p_max_t <= LEVEL


Pairs = Callable[[str, Tensor], Tensor]


def score_family(
    alignments: Mapping[str, Alignment],
    pairs: Pairs,
    *,
    draws: int,
    generator: torch.Generator,
) -> dict[str, SiteScores]:
    """Inference for the features of all sites as one family, so that max-T covers them jointly.

    Two nulls, both to be beaten. Signs flipped by document: activation and force do not covary.
    Decoder rows dealt out among the features: they do, and any row would do as well. The signs
    are drawn once a document for all sites: what a document does to one it does to the others.

    Args:
        pairs: From a site and the indices of its scored features to their correlation with the
            force along each other's direction.
    """
    masked = {site: _evident(found) for site, found in alignments.items()}
    joint = max_t(torch.cat(list(masked.values()), dim=1), draws=draws, generator=generator)
    adjusted = joint.p_adjusted.split([m.shape[1] for m in masked.values()])
    chosen = {site: m[0].isfinite().nonzero()[:, 0] for site, m in masked.items()}
    rows = matched_max_t(
        (pairs(site, features) for site, features in chosen.items()),
        draws=min(draws, ROW_DRAWS), generator=generator,
    )  # fmt: skip
    scores = {}
    for site, p_documents, p in zip(masked, adjusted, rows, strict=True):
        adjusted_rows, each = (torch.full_like(p_documents, torch.nan) for _ in range(2))
        adjusted_rows[chosen[site]], each[chosen[site]] = p.p_adjusted, p.p
        scores[site] = _site_scores(
            alignments[site], masked[site], p_documents, adjusted_rows, each, joint.threshold_05
        )
    return scores


def _evident(found: Alignment) -> Float[Tensor, "unit feature"]:
    """Scores with nan for features whose evidence is too thin or that never vary."""
    scored = enough_evidence(found.n_active, found.n_units) & found.efas.isfinite()
    return torch.where(scored, found.scores, torch.nan)


def _site_scores(
    found: Alignment,
    scores: Float[Tensor, "unit feature"],
    p_documents: Float[Tensor, " feature"],
    p_rows: Float[Tensor, " feature"],
    p_row: Float[Tensor, " feature"],
    threshold: float,
) -> SiteScores:
    test = cluster_robust_t(scores)
    scored = scores[0].isfinite()
    efas = torch.where(scored, found.efas, torch.nan)
    p = torch.maximum(test.p, p_row)
    mean = cluster_mean_interval(scores)
    to_correlation = len(scores) / found.scale
    return SiteScores(
        efas=efas, low=mean.low * to_correlation, high=mean.high * to_correlation,
        t=test.t, p=p,
        q=benjamini_hochberg(p), p_documents=p_documents, p_rows=p_rows,
        attribution=torch.where(scored, found.attribution, torch.nan),
        n_active=found.n_active, n_units=found.n_units, scored=scored, threshold=threshold,
        documents=len(scores),
    )  # fmt: skip


def replicated(scores: SiteScores, halves: Sequence[Alignment]) -> Bool[Tensor, " feature"]:
    """Whether both halves of the documents agree in sign and each finds p < .05 by itself."""
    agree = scores.scored.clone()
    for half in halves:
        test = cluster_robust_t(_evident(half))
        agree &= (test.p < LEVEL) & (test.t.sign() == scores.t.sign())
    return agree


def score_half(
    scored: Scored, site: str, bench: Bench, *, half: int, energy: str = HEADLINE
) -> SiteScores:
    """Scores of one site over one half of the documents, to choose features by; its p-values of
    families are not read."""
    found = scored.alignment(f"{site}/{energy}", bench.dictionary.W_dec, half=half)
    unknown = torch.full_like(found.efas, torch.nan)
    return _site_scores(found, _evident(found), unknown, unknown, unknown, torch.nan)


def score_site(
    scored: Scored, site: str, bench: Bench, name: str, *, draws: int, seed: int
) -> SiteScores:
    """Scores of one site as a family of its own; `name` is an energy or the permuted decoder."""
    kind = "permuted" if name == PERMUTED else "dictionary"
    return score_sites({site: bench}, scored, name, kind, code="", draws=draws, seed=seed)[site]


@dataclass(frozen=True, kw_only=True)
class Inference:
    """Every score of a run.

    Attributes:
        energies: By energy, then by site.
        controls: By control, then by site; all for the headline energy.
        replicated: By site: features whose halves agree.
        headline_name: The energy that the finding rests on.
        unit: What the statistics count as independent.
    """

    energies: Mapping[str, Mapping[str, SiteScores]]
    controls: Mapping[str, Mapping[str, SiteScores]]
    replicated: Mapping[str, Bool[Tensor, " feature"]]
    headline_name: str = HEADLINE
    unit: str = "document"

    @property
    def headline(self) -> Mapping[str, SiteScores]:
        return self.energies[self.headline_name]


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

    def family(
        name: str, kind: str = "dictionary", *, code: str = "", over: Scored = scored
    ) -> dict[str, SiteScores]:
        return score_sites(benches, over, name, kind, code=code, draws=draws, seed=seed)

    energies = {HEADLINE: family(HEADLINE)}
    energies |= {
        energy: family(energy, code=CODE_OF[energy],
                       over=scored if energy == TUNED else scored.half_b)
        for energy in LENS
    }  # fmt: skip
    controls = {
        PERMUTED: family(PERMUTED, "permuted"),
        RANDOM: family(RANDOM, "random", code=RANDOM),
        OTHER: family(OTHER, code=OTHER),
    }
    if empty_benches is not None and empty_scored is not None:
        controls[RANDOM_WEIGHTS] = score_sites(
            empty_benches, empty_scored, HEADLINE, "dictionary", code="", draws=draws, seed=seed
        )
    agree = agreement(benches, scored, energies[HEADLINE], HEADLINE)
    return Inference(energies=energies, controls=controls, replicated=agree)


def agreement(
    benches: Mapping[str, Bench], scored: Scored, scores: Mapping[str, SiteScores], energy: str
) -> dict[str, Bool[Tensor, " feature"]]:
    """By site: the features whose halves agree."""
    return {
        site: replicated(scores[site], [
            scored.alignment(f"{site}/{energy}", bench.dictionary.W_dec, half=half)
            for half in (0, 1)
        ])
        for site, bench in benches.items()
    }  # fmt: skip


def score_sites(
    benches: Mapping[str, Bench],
    scored: Scored,
    name: str,
    kind: str,
    *,
    code: str = "",
    draws: int,
    seed: int,
) -> dict[str, SiteScores]:
    """Score what was summed under one name at every site; `code` names its activations where they
    are not those of the dictionary on all samples."""

    def directions(site: str) -> Tensor:
        bench = benches[site]
        return {
            "dictionary": bench.dictionary.W_dec, "permuted": bench.permuted,
            "random": bench.random.rows,
        }[kind]  # fmt: skip

    def activations(site: str) -> str:
        return f"{site}/{code}/features" if code else ""

    def pairs(site: str, chosen: Tensor) -> Tensor:
        return scored.pairs(f"{site}/{name}", directions(site), chosen, features=activations(site))

    found = {
        site: scored.alignment(f"{site}/{name}", directions(site), features=activations(site))
        for site in benches
    }
    generator = torch.Generator().manual_seed(seed)
    return score_family(found, pairs, draws=draws, generator=generator)
