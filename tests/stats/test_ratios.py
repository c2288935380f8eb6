"""Differences of two ratios over the same units: closed forms, coverage, misuse."""

import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.bootstrap import weighted_means_interval
from energylens.stats.ratios import difference_of_ratios_interval
from tests.common.compare import assert_close


def test_with_one_denominator_it_is_the_interval_of_the_differences(generator):
    s, other = (torch.rand(2, 30, generator=generator) + 1).double()
    n = torch.randint(1, 9, (30,), generator=generator).double()
    g = lambda: torch.Generator().manual_seed(3)
    found = difference_of_ratios_interval(s, n, other, n, draws=400, generator=g())
    expected = weighted_means_interval(s - other, n, draws=400, generator=g())
    for end in ("estimate", "low", "high"):
        assert_close(getattr(found, end), getattr(expected, end), rtol=1e-9)


def test_it_covers_the_truth_about_as_often_as_it_says():
    """Ratios 2 and 1 of sums that vary together, 25 documents of very different lengths."""
    g = torch.Generator().manual_seed(1)
    hits, runs = 0, 400
    for _ in range(runs):
        size = torch.rand(25, generator=g).double().mul(3).exp()
        shared = torch.randn(25, generator=g).double()
        noise = lambda: (shared + 0.5 * torch.randn(25, generator=g)) * size.sqrt()
        found = difference_of_ratios_interval(
            2 * size + noise(), size, 3 * size + noise(), 3 * size, draws=300, generator=g
        )
        hits += bool(found.low <= 1 <= found.high)
    assert 0.91 <= hits / runs <= 0.98


def test_one_thing_against_itself_differs_by_nothing_and_has_no_interval(generator):
    s = torch.rand(9, generator=generator)
    found = difference_of_ratios_interval(s, s + 1, s, s + 1, draws=50, generator=generator)
    assert float(found.estimate) == 0 and found.low.isnan() and found.high.isnan()


def test_misuse_is_refused(generator):
    one = torch.ones(4)
    with pytest.raises(BadInput, match="4 units and 3"):
        difference_of_ratios_interval(one, one, one[:3], one[:3], generator=generator)
    with pytest.raises(InsufficientData, match="2 units"):
        difference_of_ratios_interval(one[:1], one[:1], one[:1], one[:1], generator=generator)
