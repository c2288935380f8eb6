import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.rates import clustered_rate_interval, poisson_interval, wilson_interval
from tests.common.compare import assert_close
from tests.oracles import statistics as oracle

Z95 = 1.959963984540054


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 20), (3, 20), (20, 20), (7, 9)])
def test_wilson_solves_its_equation(successes, n):
    interval = wilson_interval(torch.tensor(successes), torch.tensor(n))
    assert_close([interval.low, interval.high], oracle.wilson(successes, n, Z95))
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_wilson_touches_the_ends_exactly():
    n = torch.arange(1, 400)
    for level in (0.5, 0.9, 0.95, 0.99):
        assert (wilson_interval(0 * n, n, level=level).low == 0).all()
        assert (wilson_interval(n, n, level=level).high == 1).all()


def test_no_trials_are_undefined():
    interval = wilson_interval(torch.tensor([0, 1]), torch.tensor([0, 2]))
    assert interval.estimate.isnan().tolist() == [True, False]
    assert interval.low.isnan().tolist() == [True, False] == interval.high.isnan().tolist()


@pytest.mark.parametrize(("successes", "n"), [(3, 2), (-1, 2)])
def test_impossible_counts_are_refused(successes, n):
    with pytest.raises(BadInput, match="0 ≤ successes ≤ trials"):
        wilson_interval(torch.tensor(successes), torch.tensor(n))
    with pytest.raises(BadInput, match="not negative, got -3"):
        poisson_interval(torch.tensor([4, -3]))


@pytest.mark.parametrize("count", [0, 1, 2, 15])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_poisson_tails_are_exact(count, level):
    interval = poisson_interval(torch.tensor([count]), level=level)
    low, high = oracle.poisson(count, (1 - level) / 2)
    assert_close([interval.low.item(), interval.high.item()], [low, high])


# ---- rates of trials that depend on each other


@pytest.mark.parametrize("alike", [1.0, 30.0])
def test_a_clustered_rate_covers_the_truth_where_wilson_does_not(alike):
    """Units have rates of their own (beta, mean .1): 40 units of 5 to 40 trials."""
    g = torch.Generator().manual_seed(0)
    covered = {"clustered": 0, "plain": 0}
    sets, truth = 600, 0.1
    gamma = torch.distributions.Gamma
    with torch.random.fork_rng():
        torch.manual_seed(1)
        a, b = gamma(truth * alike, 1.0), gamma((1 - truth) * alike, 1.0)
        drawn, other = a.sample((sets, 40)), b.sample((sets, 40))
    n = torch.randint(5, 41, (sets, 40), generator=g)
    hits = torch.binomial(n.float(), drawn / (drawn + other), generator=g)
    for successes, trials in zip(hits, n, strict=True):
        for name, ends in (("clustered", clustered_rate_interval(successes, trials)),
                           ("plain", wilson_interval(successes.sum(), trials.sum()))):  # fmt: skip
            covered[name] += bool(ends.low <= truth <= ends.high)
    assert 0.90 < covered["clustered"] / sets < 0.975
    assert covered["plain"] / sets < 0.9


def test_one_trial_a_unit_is_wilson_but_for_a_unit():
    hits = torch.tensor([1, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    found = clustered_rate_interval(hits, torch.ones(10, dtype=torch.long))
    wanted = wilson_interval(torch.tensor(0.2 * 9), torch.tensor(9))
    assert_close(
        [found.low, found.estimate, found.high], [wanted.low, wanted.estimate, wanted.high]
    )


def test_units_that_agree_count_as_one_trial_each():
    n = torch.tensor([50, 50, 0, 50])
    for hits in (0 * n, n):
        found = clustered_rate_interval(hits, n)
        wanted = wilson_interval((hits > 0).sum(), torch.tensor(3))
        assert_close([found.low, found.high], [wanted.low, wanted.high])


def test_no_trial_at_all_is_undefined_and_one_unit_refused():
    assert clustered_rate_interval(torch.zeros(4), torch.zeros(4)).estimate.isnan()
    with pytest.raises(InsufficientData, match="2 of them, got 1"):
        clustered_rate_interval(torch.tensor([1]), torch.tensor([2]))
    with pytest.raises(BadInput, match="successes"):
        clustered_rate_interval(torch.tensor([3, 0]), torch.tensor([2, 2]))
