"""Do two models have the same features? Partners chosen on half of the documents, judged on the
other half, beside the same with documents dealt out anew."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from energylens.features.match import (
    Matches,
    best_partners,
    correlations,
    standard_scores,
    with_partner,
)
from energylens.stats.bootstrap import cluster_jackknife
from energylens.stats.jackknife import jackknife_interval
from energylens.stats.nulls import split_units
from energylens.stats.permutation import PermutationTest, permutation_test
from energylens.studies.energy_lens.calibration import slope_and_correlations

STATISTICS = ("correlation", "efas_rank_correlation", "same_sign")
MIN_DOCUMENTS_ON = 5


@dataclass(frozen=True, kw_only=True)
class Side:
    """The features of one site on the common passages.

    Attributes:
        feature: Number of each in its dictionary.
        efas: Its energy-feature alignment, from the model's own held-out text; nan where none is
            asked about.
        activation: Mean activation by segment.
    """

    feature: Int64[Tensor, " feature"]
    efas: Float[Tensor, " feature"]
    activation: Float[Tensor, "document segment feature"]


def side(
    activation: Float[Tensor, "document segment feature"],
    efas: Float[Tensor, " feature"] | None = None,
) -> Side:
    """Features that may be matched: they are active in five documents, and EFAS, where it is
    given, is defined."""
    enough = (activation.amax(1) > 0).sum(0) >= MIN_DOCUMENTS_ON
    if efas is None:
        efas = torch.full((activation.shape[2],), torch.nan, dtype=torch.float64)
    else:
        enough = enough & efas.isfinite()
    feature = enough.nonzero()[:, 0]
    return Side(feature=feature, efas=efas[feature], activation=activation[:, :, feature])


@dataclass(frozen=True, kw_only=True)
class Halves:
    """Two sides as standard scores: of the half that chooses, and of the half that judges."""

    chooses: tuple[Tensor, Tensor]
    judges: tuple[Tensor, Tensor]
    segments: int
    efas: tuple[Tensor, Tensor]


def halves(one: Side, other: Side, generator: torch.Generator) -> Halves:
    """Split the documents, the same for both sides."""
    masks = split_units(len(one.activation), generator)

    def scores(of: Side, mask: Tensor) -> Tensor:
        return standard_scores(of.activation[mask].flatten(0, 1))

    first, second = ((scores(one, mask), scores(other, mask)) for mask in masks)
    return Halves(chooses=first, judges=second, segments=one.activation.shape[1],
                  efas=(one.efas, other.efas))  # fmt: skip


def judged(found: Halves, chooses: Tensor, judges: Tensor) -> tuple[Tensor, Matches, Tensor]:
    """The three statistics when the other side's segments stand in some order, the matches, and
    the correlation of each where it was judged."""
    matches = best_partners(correlations(found.chooses[0], found.chooses[1][chooses]))
    judge = with_partner(found.judges[0], found.judges[1][judges], matches.partner)
    mine, theirs = found.efas[0], found.efas[1][matches.partner]
    rank = slope_and_correlations(mine[None].double(), theirs[None].double())[0, 2]
    known = mine.isfinite() & theirs.isfinite()
    same = (mine.sign() == theirs.sign())[known].double().mean()
    return torch.stack([judge.nanmean().double(), rank, same]), matches, judge


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """How well one site's features are found again at another's.

    Attributes:
        dealt: Null: documents dealt out anew, so that nothing is shared but the matching itself.
        turned: Null: the segments of each document turned, which keeps what a document is about.
        low, high: 95 % interval of the mean correlation over documents, partners as chosen.
        judge: Correlation of each feature with its partner on documents that did not choose it.
    """

    dealt: PermutationTest
    turned: PermutationTest
    low: float
    high: float
    matches: Matches
    judge: Float[Tensor, " feature"]
    documents: int


def consistency(
    one: Side, other: Side, *, draws: int, generator: torch.Generator
) -> Consistency | None:
    """Match one side's features to the other's; None where a side has fewer than three."""
    if min(len(one.feature), len(other.feature)) < 3:
        return None
    found = halves(one, other, generator)
    counts = [len(scores[0]) // found.segments for scores in (found.chooses, found.judges)]
    still = [torch.arange(count * found.segments) for count in counts]
    observed, matches, judge = judged(found, still[0], still[1])

    def dealt(generator: torch.Generator) -> Tensor:
        orders = [_dealt(count, found.segments, generator) for count in counts]
        return judged(found, orders[0], orders[1])[0]

    def turned(generator: torch.Generator) -> Tensor:
        orders = [_turned(count, found.segments, generator) for count in counts]
        return judged(found, orders[0], orders[1])[0]

    tests = [permutation_test(observed, null, draws=draws, generator=generator)
             for null in (dealt, turned)]  # fmt: skip
    low, high = _interval(found, matches, counts[1])
    return Consistency(
        dealt=tests[0], turned=tests[1], low=low, high=high, matches=matches, judge=judge,
        documents=sum(counts),
    )  # fmt: skip


def _dealt(documents: int, segments: int, generator: torch.Generator) -> Tensor:
    order = torch.randperm(documents, generator=generator)
    return (order[:, None] * segments + torch.arange(segments)).flatten()


def _turned(documents: int, segments: int, generator: torch.Generator) -> Tensor:
    """Each document turned by a number of segments of its own, never by none."""
    turn = torch.randint(1, max(2, segments), (documents, 1), generator=generator)
    place = (torch.arange(segments) + turn) % segments
    return (torch.arange(documents)[:, None] * segments + place).flatten()


def _interval(found: Halves, matches: Matches, documents: int) -> tuple[float, float]:
    """Of the mean correlation, over the documents that judge."""
    x, y = found.judges[0], found.judges[1][:, matches.partner]
    sums = [v.view(documents, found.segments, -1).sum(1).double()
            for v in (x, y, x * x, y * y, x * y)]  # fmt: skip

    def statistic(weights: Tensor) -> Tensor:
        n = weights.sum(1, keepdim=True) * found.segments
        mx, my, xx, yy, xy = (weights @ s / n for s in sums)
        return ((xy - mx * my) / ((xx - mx**2) * (yy - my**2)).sqrt()).nanmean(1)

    once = statistic(torch.ones(1, documents, dtype=torch.float64))[0]
    bounds = jackknife_interval(cluster_jackknife(statistic, documents), observed=once).interval
    return float(bounds.low), float(bounds.high)


def columns(found: Consistency) -> dict[str, Any]:
    """The statistics as columns, each beside both nulls."""
    row: dict[str, Any] = {}
    for i, name in enumerate(STATISTICS):
        row[name] = float(found.dealt.observed[i])
        for null, test in (("dealt", found.dealt), ("turned", found.turned)):
            row |= {f"{name}_{null}_mean": float(test.null_mean[i]),
                    f"{name}_{null}_sd": float(test.null_sd[i]),
                    f"{name}_{null}_p": float(test.p[i])}  # fmt: skip
    return row | {"low": found.low, "high": found.high, "n_documents": found.documents}
