import pytest
import torch

from energylens.core.errors import BadInput
from energylens.stats.rates import poisson_interval, wilson_interval
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
