"""How well scores rank features by a measured effect: Spearman's ρ and precision at k.

Scores and effects are means over windows, so they vary with the documents that were drawn:
intervals resample whole documents. The null deals the effects out among the features of a stratum.
Strata (sites) are ranked one by one and averaged; ranks are never mixed between them.

Noise in the effects brings every ρ nearer to 0, and a resample has more of it than the sample: its
quantiles lie below what was observed. Intervals are therefore the observed value ± 1.96 standard
deviations of the resamples. They say how far ρ moves with other documents, as many as these; they
do not undo the noise.
"""

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int, Int64, Num
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.stats.bootstrap import cluster_bootstrap
from energylens.stats.interval import Interval

# Two features are always ranked perfectly, one way or the other.
FEWEST = 3
ENUMERATED = 7  # items, of 5,040 orders
LEVEL = 0.95


def average_ranks(values: Float[Tensor, "row item"]) -> Float64[Tensor, "row item"]:
    """Ranks within each row from 1; equal values share the mean of theirs, nan has none.

    Example:
        >>> average_ranks(torch.tensor([[30.0, 10.0, 30.0, float("nan")]])).tolist()
        [[2.5, 1.0, 2.5, nan]]
    """
    known = values.isfinite()
    filled = torch.where(known, values, torch.inf).contiguous()
    ordered = filled.sort(1).values
    below = torch.searchsorted(ordered, filled)
    up_to = torch.searchsorted(ordered, filled, right=True)
    return torch.where(known, (below + up_to + 1).double() / 2, torch.nan)


def spearman(x: Float[Tensor, "row item"], y: Float[Tensor, "row item"]) -> Float64[Tensor, " row"]:
    """Correlation of ranks in each row, over the items that are defined in both (Spearman 1904).

    nan with fewer than three such items, or where all of them are equal in one.

    Example:
        >>> spearman(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[10.0, 30.0, 20.0]])).item()
        0.5
    """
    here = x.isfinite() & y.isfinite()
    n = here.sum(1, keepdim=True).double()

    def centred(values: Tensor) -> Tensor:
        ranks = average_ranks(torch.where(here, values, torch.nan)).nan_to_num(0)
        return torch.where(here, ranks - ranks.sum(1, keepdim=True) / n, 0.0)

    a, b = centred(x), centred(y)
    scale = (a.square().sum(1) * b.square().sum(1)).sqrt()
    enough = (n[:, 0] >= FEWEST) & (scale > 0)
    return torch.where(enough, (a * b).sum(1) / scale, torch.nan)


@dataclass(frozen=True, kw_only=True)
class RankTest:
    """Spearman's ρ of a few items, and the two-sided p of dealing one side out anew.

    Attributes:
        p: Exact where all orders were gone through, else (1 + #) / (1 + draws); nan where ρ is.
        draws: Orders that were compared with; None where they were all there are.
    """

    rho: Float64[Tensor, ""]
    p: Float64[Tensor, ""]
    draws: int | None


def rank_test(
    x: Float[Tensor, " item"],
    y: Float[Tensor, " item"],
    generator: torch.Generator,
    *,
    stratum: Int[Tensor, " item"] | None = None,
    draws: int = 4999,
) -> RankTest:
    """Do two quantities go up together? Spearman's ρ against permutations of the items.

    With strata, such as data sets, ranks are taken and permuted within each, so that strata may
    differ in both quantities without making a ρ. Up to seven items of one stratum, all 5,040 orders
    are gone through. Items that are undefined in one quantity are left out.

    Example:
        >>> up = torch.arange(5.0)
        >>> found = rank_test(up, up.square(), torch.Generator())
        >>> found.rho.item(), round(found.p.item() * 120)  # 2 of the 120 orders are as extreme
        (1.0, 2)
    """
    here = x.isfinite() & y.isfinite()
    of = (torch.zeros_like(here).long() if stratum is None else stratum)[here]
    a, b = (_ranks_within(values[here], of) for values in (x, y))
    scale = (a.square().sum() * b.square().sum()).sqrt()
    if len(a) < FEWEST or not float(scale) > 0:
        nan = scale.new_tensor(torch.nan)
        return RankTest(rho=nan, p=nan, draws=draws)
    rho = (a * b).sum() / scale
    whole = len(a) <= ENUMERATED and stratum is None
    if whole:
        orders = torch.tensor(list(itertools.permutations(range(len(a)))), device=b.device)
    else:
        orders = _orders_within(of, draws, generator)
    null = ((b[orders] * a).sum(1) / scale).abs()
    beyond = (null >= rho.abs() - 1e-9).sum().double()
    p = beyond / len(orders) if whole else (1 + beyond) / (1 + draws)
    return RankTest(rho=rho, p=p, draws=None if whole else draws)


def spearman_interval(rho: float, items: int, *, level: float = LEVEL) -> Interval:
    """Interval of a ρ over independent items: normal in its inverse hyperbolic tangent, with the
    variance (1 + ρ² / 2) / (n − 3) of Bonett & Wright (2000). nan with fewer than four items.

    Example:
        >>> found = spearman_interval(0.5, 30)
        >>> round(found.low.item(), 2), round(found.high.item(), 2)
        (0.15, 0.74)
    """
    value = torch.tensor(rho, dtype=torch.float64)
    half = torch.special.ndtri(value.new_tensor((1 + level) / 2))
    half = half * ((1 + value.square() / 2) / (items - 3 if items > 3 else torch.nan)).sqrt()
    middle = value.clamp(-1 + 1e-12, 1 - 1e-12).atanh()
    return Interval(
        estimate=value, low=(middle - half).tanh(), high=(middle + half).tanh(), level=level
    )


def _ranks_within(values: Tensor, stratum: Tensor) -> Float64[Tensor, " item"]:
    """Ranks within each stratum, about their mean."""
    ranks = torch.zeros(len(values), dtype=torch.float64, device=values.device)
    for each in stratum.unique():
        mine = stratum == each
        own = average_ranks(values[mine][None])[0]
        ranks[mine] = own - own.mean()
    return ranks


def _orders_within(stratum: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Permutations of the items that leave each in its stratum."""
    drawn = torch.rand(draws, len(stratum), generator=generator, device=generator.device)
    drawn = drawn.to(stratum.device)
    dealt = (stratum + drawn.double()).argsort(
        1
    )  # a random order of each stratum, one after the other
    place = stratum.argsort(stable=True)
    orders = torch.empty_like(dealt)
    orders[:, place] = dealt
    return orders


def precision_at_k(
    x: Float[Tensor, "row item"], y: Float[Tensor, "row item"], k: int
) -> Float64[Tensor, " row"]:
    """Share of the k largest by x that are among the k largest by y, in each row.

    Items that tie for the last places share them equally, which is what breaking ties at random
    gives on average; so chance is k over the number of items. nan where there are no more than k.

    Example:
        >>> precision_at_k(torch.tensor([[4.0, 3.0, 2.0, 1.0]]),
        ...                torch.tensor([[9.0, 1.0, 8.0, 2.0]]), 2).item()
        0.5
    """
    here = x.isfinite() & y.isfinite()

    def member(values: Tensor) -> Tensor:
        known = torch.where(here, values, -torch.inf).double()
        last = known.topk(min(k, known.shape[1]), dim=1).values[:, -1:]
        above, tied = known > last, known == last
        left = k - above.sum(1, keepdim=True)
        return above.double() + tied * (left / tied.sum(1, keepdim=True))

    shared = (member(x) * member(y)).sum(1) / k
    return torch.where(here.sum(1) > k, shared, torch.nan)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well each score ranks the features; one entry a score.

    Attributes:
        spearman: Mean over strata of Spearman's ρ between score and effect.
        precision: Mean over strata of the precision at k.
        null_mean: Mean ρ with effects dealt out among the features of a stratum.
        null_sd: Its standard deviation.
        p: Two-sided: how often so large a |ρ| comes of that.
        precision_null: Precision at k that chance gives: the mean over strata of k / features.
        best: The score with the largest ρ; −1 where none is defined.
        behind: By how much ρ falls short of the best score's, both on the same draws.
        n_features: Features with a score and an effect.
        n_tied: Those of them whose score equals another's in the stratum.
        strata: Strata in which ρ is defined.
    """

    spearman: Interval
    precision: Interval
    null_mean: Float64[Tensor, " score"]
    null_sd: Float64[Tensor, " score"]
    p: Float64[Tensor, " score"]
    precision_null: Float64[Tensor, " score"]
    best: int
    behind: Interval
    n_features: Int64[Tensor, " score"]
    n_tied: Int64[Tensor, " score"]
    strata: Int64[Tensor, " score"]


def rank_agreement(
    scores: Float[Tensor, "score unit feature"],
    effects: Float[Tensor, "unit feature"],
    counts: Num[Tensor, "unit feature"],
    stratum: Int[Tensor, " feature"],
    *,
    k: int,
    draws: int = 2000,
    generator: torch.Generator,
) -> Agreement:
    """Rank features by |mean score| and by |mean effect|, and compare the two rankings.

    Args:
        scores: Sum of each score over a unit's windows; nan where it has none.
        effects: Sum of the effects measured in the same windows.
        counts: How many windows these are.
        stratum: Which features are ranked together.
        k: Size of the top that precision is about, in each stratum.
        draws: Bootstrap draws over units, and shuffles of features.

    Raises:
        InsufficientData: If there are fewer than two units.
    """
    if len(effects) < 2:
        raise InsufficientData(
            f"an interval over documents needs 2 of them, got {len(effects)}: use more documents"
        )
    n_scores = len(scores)
    members = [(stratum == s).nonzero()[:, 0] for s in stratum.unique()]
    sums = torch.cat([scores, effects[None]]).double()

    def means(weights: Tensor) -> Tensor:
        """|Mean| of every score and, last, of the effect, [score + 1, draw, feature]."""
        weights = weights.to(sums.device)
        return ((weights @ sums) / (weights @ counts.double())).abs()

    def compare(values: Tensor, effect: Tensor) -> Tensor:
        """ρ and precision by stratum, [draw 2 score stratum]."""
        rows = []
        for here in members:
            y = effect[:, here]
            rows.append(torch.stack([
                torch.stack([spearman(x, y), precision_at_k(x, y, k)], dim=1)
                for x in values[..., here]
            ], dim=2))  # fmt: skip
        return torch.stack(rows, dim=3)

    def statistic(weights: Tensor) -> Tensor:
        values = means(weights)
        return compare(values[:-1], values[-1]).nanmean(3)

    whole = means(torch.ones(1, len(effects), dtype=torch.float64))
    by_stratum = compare(whole[:-1], whole[-1])[0]
    observed = by_stratum.nanmean(2)
    drawn = cluster_bootstrap(statistic, len(effects), draws=draws, generator=generator)
    rho = observed[0]
    best = int(rho.nan_to_num(-2.0).argmax()) if bool(rho.isfinite().any()) else -1

    null = _shuffled(whole[:, 0], members, draws, generator)
    beyond = (null.abs() >= rho.abs() - 1e-12).sum(0)
    defined = whole[:-1, 0].isfinite() & whole[-1, 0].isfinite()
    sizes = torch.stack([defined[:, here].sum(1) for here in members], dim=1)
    chance = torch.where(sizes > k, k / sizes.double(), torch.nan)
    return Agreement(
        spearman=_around(rho, drawn[:, 0], least=-1.0),
        precision=_around(observed[1], drawn[:, 1], least=0.0),
        null_mean=null.mean(0), null_sd=null.std(0),
        p=torch.where(rho.isfinite(), (1 + beyond).double() / (1 + len(null)), torch.nan),
        precision_null=chance.nanmean(1), best=best,
        behind=_around(rho[best] - rho, drawn[:, 0, best, None] - drawn[:, 0], least=-2.0,
                       most=2.0),
        n_features=defined.sum(1), n_tied=_tied(whole[:n_scores, 0], defined, members),
        strata=by_stratum[0].isfinite().sum(1),
    )  # fmt: skip


def _around(observed: Tensor, draws: Tensor, *, least: float, most: float = 1.0) -> Interval:
    reach = torch.special.ndtri(observed.new_tensor(1 - (1 - LEVEL) / 2)) * draws.std(0)
    low, high = (observed - reach).clamp(min=least), (observed + reach).clamp(max=most)
    return Interval(estimate=observed, low=low, high=high, level=LEVEL)


def _shuffled(
    whole: Tensor, members: list[Tensor], draws: int, generator: torch.Generator
) -> Float64[Tensor, "draw score"]:
    """ρ with the effects dealt out among the features of each stratum, averaged over strata."""
    by_stratum = []
    for here in members:
        keys = torch.rand(draws, len(here), generator=generator, device=generator.device)
        effect = whole[-1, here][keys.argsort(1).to(whole.device)]
        by_stratum.append(torch.stack([
            spearman(values.expand(draws, -1), effect) for values in whole[:-1, here]
        ], dim=1))  # fmt: skip
    return torch.stack(by_stratum, dim=2).nanmean(2)


def _tied(values: Tensor, defined: Tensor, members: list[Tensor]) -> Int64[Tensor, " score"]:
    tied = torch.zeros(len(values), dtype=torch.long, device=values.device)
    for here in members:
        mine = torch.where(defined[:, here], values[:, here], torch.nan)
        tied += ((mine[:, :, None] == mine[:, None, :]).sum(2) > 1).sum(1)
    return tied
