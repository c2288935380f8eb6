"""Every inference on pure noise keeps its level, and on planted effects finds them."""

import functools

import pytest
import torch
from tools.clustered import simulate

from energylens.stats.bootstrap import (
    bca_interval,
    cluster_bootstrap,
    cluster_jackknife,
    interval,
    weighted_means_interval,
)
from energylens.stats.multiplicity import benjamini_hochberg, max_t
from energylens.stats.nulls import enough_evidence
from energylens.stats.robust import cluster_mean_interval, cluster_robust_t
from tests.controls import seed_000


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@functools.cache
def _null_scores(units, sparse, at_least):
    """Scores of null features, those that have enough evidence."""
    g, kept = _generator(units), []
    while sum(s.shape[1] for s in kept) < at_least:
        drawn = simulate(units, 500, g, sparse=sparse)
        kept.append(drawn.scores[:, enough_evidence(drawn.n_active, drawn.n_units)])
    return torch.cat(kept, 1)


# A feature of 5 documents has 16 patterns of signs and cannot be rejected at 5 % but by what the
# other documents add to it; with many documents that is little, and the law a little conservative.
LEAST = {(units, sparse): 0.035 for units in (10, 40, 160) for sparse in (False, True)}
LEAST[40, True] = LEAST[160, True] = 0.028


@pytest.mark.parametrize("features", [1200, pytest.param(8000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("units", "sparse"), LEAST)
def test_cluster_t_keeps_its_level(units, sparse, features):
    p = cluster_robust_t(_null_scores(units, sparse, features)).p
    assert LEAST[units, sparse] < (p < 0.05).double().mean() < 0.065
    assert (p < 0.01).double().mean() < 0.016
    assert (p < 0.001).double().mean() < 0.004


def test_a_test_that_takes_tokens_for_units_would_fail_here():
    """The simulation can fail a test: thousands of correlated tokens are not thousands of units."""
    scores = _null_scores(40, False, 1200)
    tokens_a_unit = 42
    t = scores.sum(0) / (scores.square().sum(0) / tokens_a_unit).sqrt()
    assert (t.abs() > 1.96).double().mean() > 0.5


def test_cluster_t_finds_planted_effects():
    effect = torch.zeros(400)
    effect[:100] = 0.6
    drawn = simulate(40, 400, _generator(1), effect=effect)
    found = cluster_robust_t(drawn.scores).p < 0.05
    assert found[:100].double().mean() > 0.6
    assert found[100:].double().mean() < 0.09


# Signs of 5 to 10 documents seldom reach as far as the largest of 20 features must.
@pytest.mark.parametrize(("sparse", "least"), [(False, 0.015), (True, 0.0)])
def test_max_t_keeps_the_family_wise_error(sparse, least):
    g, families, members = _generator(20), 300, 20
    drawn = simulate(24, families * members, g, sharing=members, sparse=sparse)
    rejected = [
        bool((max_t(scores, draws=199, generator=g).p_adjusted <= 0.05).any())
        for scores in drawn.scores.split(members, dim=1)
    ]
    assert least <= sum(rejected) / families < 0.07


def test_max_t_finds_a_strong_effect_among_many():
    effect = torch.zeros(500)
    effect[:10] = 1.5
    drawn = simulate(40, 500, _generator(3), effect=effect)
    p = max_t(drawn.scores, draws=2000, generator=_generator()).p_adjusted
    assert (p[:10] <= 0.05).double().mean() >= 0.7
    assert (p[10:] <= 0.05).sum() <= 1


def test_benjamini_hochberg_keeps_the_false_discovery_rate():
    families, members, planted, q = 30, 200, 40, 0.1
    effect = torch.zeros(members)
    effect[:planted] = 0.8
    drawn = simulate(30, families * members, _generator(4), effect=effect.repeat(families))
    p = cluster_robust_t(drawn.scores).p.split(members)
    found = torch.stack([benjamini_hochberg(family) <= q for family in p]).double()
    false, true = found[:, planted:].sum(1), found[:, :planted].sum(1)
    assert 0.02 < (false / (false + true).clamp(min=1)).mean() <= q
    assert true.mean() / planted > 0.7


def _documents(units, sets, generator):
    """Sums and counts of units of unequal size whose means vary: the truth is 0."""
    counts = torch.randint(20, 128, (units, sets), generator=generator).double()
    means = torch.randn(units, sets, generator=generator, dtype=torch.float64)
    noise = torch.randn(units, sets, generator=generator, dtype=torch.float64)
    return counts * means + counts.sqrt() * noise, counts


def _coverage(ends, truth=0.0):
    return ((ends.low <= truth) & (truth <= ends.high)).double().mean().item()


@pytest.mark.parametrize("units", [10, 20, 40])
def test_weighted_means_cover_the_truth(units):
    sums, counts = _documents(units, 2000, _generator(5))
    ends = weighted_means_interval(sums, counts, draws=999, generator=_generator(6))
    assert 0.93 < _coverage(ends) < 0.97


@pytest.mark.parametrize("units", [10, 40])
def test_mean_over_units_covers_the_truth(units):
    sums, counts = _documents(units, 4000, _generator(7))
    assert 0.93 < _coverage(cluster_mean_interval(sums / counts)) < 0.97


def test_bootstrap_intervals_cover_the_truth():
    units = 100
    sums, counts = _documents(units, 2000, _generator(8))

    def ratio(weights):
        return (weights @ sums) / (weights @ counts)

    draws = cluster_bootstrap(ratio, units, draws=999, generator=_generator(9))
    observed = sums.sum(0) / counts.sum(0)
    jackknife = cluster_jackknife(ratio, units)
    assert 0.93 < _coverage(interval(draws, observed=observed)) < 0.97
    assert 0.93 < _coverage(bca_interval(draws, observed=observed, jackknife=jackknife)) < 0.97


def test_the_first_reports_numbers_are_those_of_noise():
    """Read as it was read, noise alone gives the headline: mean .378, p95 .74, maximum .856."""
    naive = torch.stack([_headline(_generator(seed)) for seed in range(4)]).mean(0)
    mean, high, maximum = naive.tolist()
    assert 0.33 < mean < 0.43
    assert 0.64 < high < 0.76
    assert 0.80 < maximum < 0.92


def _headline(generator):
    layers = [seed_000.simulate(generator) for _ in range(seed_000.LAYERS)]
    found = torch.cat([seed_000.naive_correlations(texts) for texts in layers])
    return torch.stack([found.mean(), found.quantile(0.95), found.max()])


@pytest.mark.parametrize("seed", range(4))
def test_the_first_report_holds_no_discovery(seed):
    g = _generator(seed)
    for _ in range(seed_000.LAYERS):
        texts = seed_000.simulate(g)
        scored = enough_evidence(*seed_000.evidence(texts))
        assert scored.sum() <= 10  # of 2,048: five short texts are hardly evidence of anything
        scores = seed_000.scores(texts)
        for family in (torch.where(scored, scores, torch.nan), scores):
            result = max_t(family, draws=1000, generator=g)
            assert not (result.p_adjusted <= 0.05).any()


def test_more_of_the_same_noise_holds_no_discovery_either():
    texts = seed_000.simulate(_generator(11), texts=150)
    scored = enough_evidence(*seed_000.evidence(texts))
    assert scored.sum() > 80
    scores = torch.where(scored, seed_000.scores(texts), torch.nan)
    assert not (max_t(scores, draws=999, generator=_generator()).p_adjusted <= 0.05).any()
    assert not (benjamini_hochberg(cluster_robust_t(scores).p) <= 0.05).any()
