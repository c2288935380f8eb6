import math

import numpy as np
import pytest
import scipy.stats
import torch

from energylens.core.errors import InsufficientData
from energylens.stats.ranking import (
    average_ranks,
    precision_at_k,
    rank_agreement,
    rank_test,
    spearman,
    spearman_interval,
)
from tests.common.compare import assert_close
from tests.oracles import ranking as oracle


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def world(generator, *, sites=4, features=12, documents=24, per=5, link=0.0, noise=0.4, scores=2):
    """Effects and scores of features, each in a few documents; log sizes correlate by `link`."""
    n = sites * features
    size = torch.randn(n, generator=generator)
    effect = size.exp() * torch.randn(n, generator=generator).sign()
    rest = math.sqrt(1 - link**2)
    means = (link * size + rest * torch.randn(scores, n, generator=generator)).exp()
    order = torch.rand(documents, n, generator=generator).argsort(0).argsort(0)
    counts = (order < per).double()

    def measured(mean, *shape):
        return counts * mean * (1 + noise * torch.randn(*shape, generator=generator))

    return (
        measured(means[:, None], scores, documents, n).double(),
        measured(effect, documents, n).double(),
        counts,
        torch.arange(sites).repeat_interleave(features),
    )


# ---- one ranking


@pytest.mark.parametrize("levels", [3, 1000])
def test_spearman_is_scipys_with_ties_and_without(levels):
    x, y = (torch.randint(levels, (20, 15), generator=_generator(s)).double() for s in (0, 1))
    wanted = [scipy.stats.spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    assert_close(spearman(x, y), wanted, rtol=1e-12)
    assert_close(average_ranks(x), scipy.stats.rankdata(x, axis=1))


def test_what_is_undefined_is_left_out_of_both():
    x, y = (torch.randn(6, 15, generator=_generator(s), dtype=torch.float64) for s in (0, 1))
    x[:, 3], y[:, 8] = math.nan, math.nan
    kept = [i for i in range(15) if i not in (3, 8)]
    assert_close(spearman(x, y), spearman(x[:, kept], y[:, kept]))
    assert_close(precision_at_k(x, y, 4), precision_at_k(x[:, kept], y[:, kept], 4))


def test_two_features_or_equal_ones_have_no_correlation():
    two = torch.tensor([[1.0, 2.0, math.nan]])
    assert spearman(two, two).isnan().all()
    assert spearman(torch.ones(1, 5), torch.arange(5.0)[None]).isnan().all()


@pytest.mark.parametrize("k", [1, 2, 4])
def test_precision_breaks_ties_every_way(k):
    x, y = (torch.randint(3, (25, 6), generator=_generator(s)).double() for s in (0, 1))
    wanted = [oracle.precision_at_k(a.tolist(), b.tolist(), k) for a, b in zip(x, y, strict=True)]
    assert_close(precision_at_k(x, y, k), wanted)


def test_a_top_of_everything_says_nothing():
    x = torch.arange(3.0)[None]
    assert precision_at_k(x, x, 3).isnan().all() and precision_at_k(x, x, 2).item() == 1


# ---- many


def test_the_estimate_is_the_mean_of_scipys_over_sites():
    scores, effects, counts, site = world(_generator(), link=0.6)
    found = rank_agreement(scores, effects, counts, site, k=3, draws=50, generator=_generator())
    x, y = (scores.sum(1) / counts.sum(0)).abs(), (effects.sum(0) / counts.sum(0)).abs()
    for number in range(2):
        by_site = [
            scipy.stats.spearmanr(x[number, site == s], y[site == s]).statistic for s in range(4)
        ]
        assert_close(found.spearman.estimate[number], sum(by_site) / 4, rtol=1e-12)
    assert found.n_features.tolist() == [48, 48] and found.strata.tolist() == [4, 4]
    assert_close(found.precision_null, [0.25, 0.25])


def test_ranks_are_never_mixed_between_sites():
    """Both differ a thousandfold between sites, and are unrelated within them."""
    scores, effects, counts, site = world(_generator(5), sites=2, features=60)
    large = 1.0 + 999 * site.double()
    one = rank_agreement(scores * large, effects * large, counts, site, k=3, draws=50,
                         generator=_generator())  # fmt: skip
    other = rank_agreement(scores, effects, counts, site, k=3, draws=50, generator=_generator())
    assert_close(one.spearman.estimate, other.spearman.estimate)
    mixed = rank_agreement(scores * large, effects * large, counts, torch.zeros_like(site), k=3,
                           draws=50, generator=_generator())  # fmt: skip
    assert (mixed.spearman.estimate > 0.6).all() and (one.spearman.estimate < 0.4).all()


def test_what_is_planted_is_found_and_the_better_score_is_told_apart():
    scores, effects, counts, site = world(_generator(1), link=0.0, noise=0.2, scores=2)
    truth = effects.abs() * 2  # a third score that knows the effect itself
    found = rank_agreement(torch.cat([scores, truth[None]]), effects, counts, site, k=3, draws=300,
                           generator=_generator())  # fmt: skip
    assert found.best == 2 and found.spearman.estimate[2] > 0.9
    assert found.p[2] < 0.01 and found.precision.estimate[2] > 0.8
    assert (found.behind.low[:2] > 0).all()
    assert_close([found.behind.low[2], found.behind.high[2]], [0.0, 0.0])


def test_two_scores_of_equal_worth_are_seldom_told_apart():
    g, told = _generator(2), 0
    for _ in range(40):
        scores, effects, counts, site = world(g, link=0.7)
        found = rank_agreement(scores, effects, counts, site, k=3, draws=100, generator=g)
        told += bool(found.behind.low[1 - found.best] > 0)
    # The features that were chosen decide as well, and of them the interval does not speak.
    assert told / 40 < 0.5


def test_p_keeps_its_level_and_the_null_its_mean():
    g, sets = _generator(3), 240
    p = []
    for _ in range(sets):
        scores, effects, counts, site = world(g, sites=3, features=10, documents=12, per=4,
                                              scores=1)  # fmt: skip
        found = rank_agreement(scores, effects, counts, site, k=3, draws=99, generator=g)
        assert abs(float(found.null_mean[0])) < 0.06
        p.append(float(found.p[0]))
    rejected = sum(x <= 0.05 for x in p)
    low, high = scipy.stats.binom.interval(0.998, sets, 0.05)
    assert low <= rejected <= high
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.001


@pytest.mark.parametrize("link", [0.0, 0.8])
def test_the_interval_covers_what_other_documents_would_give(link):
    """The same features in other documents, as many: their mean ρ lies in 95 % of intervals."""
    hits = total = 0
    for seed in range(4):
        found = []
        for repeat in range(30):
            g = _generator(seed)
            size = torch.randn(48, generator=g)
            rest = math.sqrt(1 - link**2)
            mean = (link * size + rest * torch.randn(48, generator=g)).exp()
            g = _generator(1000 * seed + repeat)
            counts = (torch.rand(24, 48, generator=g).argsort(0).argsort(0) < 5).double()
            noise = torch.randn(2, 24, 48, generator=g, dtype=torch.float64)
            scores, effects = (
                counts * mean * (1 + 0.5 * noise[:1]),
                counts * size.exp() * (1 + 0.5 * noise[1]),
            )
            found.append(rank_agreement(
                scores, effects, counts, torch.arange(4).repeat_interleave(12), k=3, draws=100,
                generator=g,
            ).spearman)  # fmt: skip
        truth = torch.cat([ends.estimate for ends in found]).mean()
        hits += sum(bool(ends.low[0] <= truth <= ends.high[0]) for ends in found)
        total += len(found)
    assert hits / total > 0.87


def test_ties_and_what_has_no_score_are_counted():
    scores, effects, counts, site = world(_generator(4))
    scores = scores.clone()
    scores[0, :, 5] = math.nan
    scores[1] = counts * torch.arange(48.0).clamp(max=40).double()
    found = rank_agreement(scores, effects, counts, site, k=3, draws=50, generator=_generator())
    assert found.n_features.tolist() == [47, 48]
    assert found.n_tied.tolist() == [0, 8]


def test_a_score_that_is_nowhere_is_undefined_and_harms_no_other():
    scores, effects, counts, site = world(_generator(6), link=0.6)
    alone = rank_agreement(scores[1:], effects, counts, site, k=3, draws=50, generator=_generator())
    scores = scores.clone()
    scores[0] = math.nan
    both = rank_agreement(scores, effects, counts, site, k=3, draws=50, generator=_generator())
    assert both.spearman.estimate[0].isnan() and both.p[0].isnan() and both.best == 1
    assert_close(both.spearman.low[1:], alone.spearman.low)


def test_one_document_is_refused():
    with pytest.raises(InsufficientData, match="needs 2 of them, got 1"):
        rank_agreement(
            torch.ones(1, 1, 4), torch.ones(1, 4), torch.ones(1, 4), torch.zeros(4).long(), k=1,
            generator=_generator(),
        )  # fmt: skip


# ---- a test of few items


def test_rank_test_enumerates_few_items_and_draws_for_many(generator):
    x = torch.tensor([1.0, 2, 3, 4, 5, 6])
    y = torch.tensor([2.0, 1, 3, 6, 4, 5])
    found = rank_test(x, y, generator)
    known = scipy.stats.permutation_test(
        (y.numpy(),), lambda z: scipy.stats.spearmanr(x, z).statistic, permutation_type="pairings",
        n_resamples=np.inf,
    )  # fmt: skip
    assert_close(found.rho, known.statistic)
    assert_close(found.p, known.pvalue)
    assert found.draws is None
    x = torch.randn(40, generator=generator)
    y = 0.3 * x + torch.randn(40, generator=generator)
    many = rank_test(x, y, generator, draws=9999)
    assert_close(many.p, scipy.stats.spearmanr(x, y).pvalue, rtol=0.15, atol=0.003)


def test_strata_that_differ_in_both_make_no_rho(generator):
    """Rate of p ≤ .05 where two quantities go together between strata alone."""
    stratum = torch.arange(40) % 4
    level, pooled = [], []
    for _ in range(600):
        x, y = 2.0 * stratum + torch.randn(2, 40, generator=generator)
        level.append(rank_test(x, y, generator, stratum=stratum, draws=199).p <= 0.05)
        pooled.append(rank_test(x, y, generator, draws=199).p <= 0.05)
    assert 0.035 <= torch.stack(level).double().mean() <= 0.065
    assert torch.stack(pooled).double().mean() > 0.9
    x = torch.randn(40, generator=generator)
    found = rank_test(x + 9 * stratum, x - 9 * stratum, generator, stratum=stratum)
    assert_close(found.rho, 1.0)
    assert found.p < 0.01


def test_rank_test_of_ties_alone_or_of_two_items_is_undefined(generator):
    one = torch.ones(5)
    assert rank_test(one, torch.arange(5.0), generator).p.isnan()
    assert rank_test(one[:2], torch.arange(2.0), generator).rho.isnan()


def test_the_interval_of_rho_covers(generator):
    x = torch.randn(2000, 30, generator=generator)
    y = 0.6 * x + 0.8 * torch.randn(2000, 30, generator=generator)
    truth = 6 / torch.pi * math.asin(0.6 / 2)
    ends = [spearman_interval(rho, 30) for rho in spearman(x, y).tolist()]
    assert 0.93 <= np.mean([bool(e.low <= truth <= e.high) for e in ends]) <= 0.97
    assert spearman_interval(0.5, 3).low.isnan()
