import pytest
import torch
from scipy.stats import ttest_rel

from energylens.core.errors import InsufficientData
from energylens.stats.spread import change_from_repeats, change_in_pairs
from tests.common.compare import assert_close

SETS = 4_000


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("repeats", [3, 4, 10])
def test_one_more_repeat_is_called_a_change_in_5_percent(repeats):
    drawn = 7 + 3 * normal(repeats + 1, SETS, seed=repeats)
    found = change_from_repeats(drawn[0], drawn[1:])
    assert 0.035 < (found.p < 0.05).double().mean() < 0.065
    outside = (found.interval.low > 0) | (found.interval.high < 0)
    assert torch.equal(outside, found.p < 0.05)


def test_a_large_change_is_found():
    repeats = normal(4, 1)
    assert change_from_repeats(torch.tensor([40.0]), repeats).p.item() < 0.01


def test_pairs_are_students_paired_test():
    one, other = normal(5, 3, seed=1), normal(5, 3, seed=2)
    found, known = change_in_pairs(one, other), ttest_rel(one.numpy(), other.numpy())
    assert_close(found.p, torch.as_tensor(known.pvalue))
    assert_close(found.interval.low, torch.as_tensor(known.confidence_interval().low))


def test_repeats_that_never_differ_say_nothing():
    found = change_from_repeats(torch.tensor(1.0), torch.zeros(4))
    assert found.interval.estimate == 1 and found.p.isnan() and found.interval.low.isnan()


def test_one_repeat_has_no_spread():
    with pytest.raises(InsufficientData, match="2 repeats, got 1: run more seeds"):
        change_from_repeats(torch.tensor(1.0), torch.zeros(1))


def test_counts_that_are_equal_by_luck_do_not_make_a_change():
    """Poisson counts of mean 1.5: four repeats are often alike."""
    g = torch.Generator().manual_seed(3)
    counts = torch.poisson(torch.full((5, 2_000), 1.5, dtype=torch.float64), generator=g)
    fired = [
        bool(change_from_repeats(c[0], c[1:], least=float(c.mean()) ** 0.5).p < 0.05)
        for c in counts.T
    ]
    assert sum(fired) / 2_000 < 0.06
    naive = change_from_repeats(counts[0], counts[1:]).p
    assert (naive < 0.05).double().mean() > sum(fired) / 2_000
    assert change_from_repeats(torch.tensor(3.0), torch.ones(4), least=1.0).p > 0.05
