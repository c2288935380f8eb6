import math

import numpy as np
import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.placement import placement_test
from tests.common.compare import assert_close


def _bursts(units, early, g):
    """Events in bursts of several at once, at `early` times the rate in the first tenth."""
    number = torch.poisson(3 * (0.7 * torch.randn(units, generator=g)).exp(), generator=g).long()
    unit = torch.arange(units).repeat_interleave(number)
    first = torch.rand(len(unit), generator=g) < early / (early + 9)
    share = torch.rand(len(unit), generator=g)
    time = torch.where(first, 0.1 * share, 0.1 + 0.9 * share)
    size = 1 + torch.poisson(torch.full((len(unit),), 2.0), generator=g).long()
    return time.repeat_interleave(size), unit.repeat_interleave(size)


@pytest.mark.parametrize("early", [1.0, 3.0])
def test_it_keeps_its_level_and_its_interval_covers(early, generator):
    covered, p = [], []
    for _ in range(600):
        time, unit = _bursts(40, early, generator)
        found = placement_test(time, unit, torch.full((40,), 0.1), generator, draws=199)
        covered.append(float(found.ratio.low) <= early <= float(found.ratio.high))
        p.append(found.p)
    assert 0.92 <= np.mean(covered) <= 0.98
    rate = np.mean(np.array(p) <= 0.05)
    assert 0.03 <= rate <= 0.065 if early == 1 else rate > 0.95


def test_a_test_that_takes_events_for_independent_would_fail_here(generator):
    p = []
    for _ in range(200):
        time, _ = _bursts(40, 1.0, generator)
        alone = torch.arange(len(time))
        boundary = torch.full((len(time),), 0.1)
        p.append(placement_test(time, alone, boundary, generator, draws=99).p)
    assert np.mean(np.array(p) <= 0.05) > 0.12


def test_each_unit_has_its_own_boundary_and_weight(generator):
    time, unit = torch.tensor([0.1, 0.3, 0.4, 0.9]), torch.tensor([0, 0, 1, 1])
    boundary, weight = torch.tensor([0.2, 0.5]), torch.tensor([1.0, 3.0])
    found = placement_test(time, unit, boundary, generator, weight=weight)
    assert (found.before, found.after, found.units) == (2, 2, 2)
    assert_close(found.ratio.estimate, (2.5 / (0.2 + 1.5)) / (2.5 / (0.8 + 1.5)))


def test_no_event_on_one_side_is_finite(generator):
    found = placement_test(torch.full((5,), 0.9), torch.arange(5), torch.full((5,), 0.1), generator)
    assert 0 < found.ratio.low < found.ratio.high < math.inf


def test_bad_input_is_refused(generator):
    half = torch.full((3,), 0.5)
    with pytest.raises(BadInput, match="shares of the watched time"):
        placement_test(torch.tensor([20.0]), torch.tensor([0]), half, generator)
    with pytest.raises(InsufficientData, match="an event"):
        placement_test(torch.ones(0), torch.ones(0).long(), half, generator)
