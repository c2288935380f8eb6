"""Basins: planted ones are recovered exactly, noise has none, angles are angles."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from energylens.core.errors import BadInput
from energylens.energy.basins import angle, compare_basins, find_basins, switched
from energylens.energy.descent import descend, slope_of
from energylens.energy.energies.hopfield import hopfield
from tests.common.compare import assert_close


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same_partition(found, truth) -> bool:
    pairs = set(zip(found.tolist(), truth.tolist(), strict=True))
    return len(pairs) == len(set(found.tolist())) == len(set(truth.tolist()))


@pytest.mark.parametrize("seed", range(5))
def test_the_basins_of_a_hopfield_network_are_its_patterns(seed):
    patterns = normalize(drawn(6, 30, seed=seed), dim=1)
    truth = torch.arange(6).repeat_interleave(12)
    starts = patterns[truth] + 0.12 * drawn(72, 30, seed=seed + 100)

    slope = slope_of(lambda states: hopfield(states, patterns, 30.0))
    ends = descend(slope, starts, tolerance=1e-6, max_steps=500).ends
    found = find_basins(ends)
    assert len(found.centers) == 6 and same_partition(found.basin, truth)
    assert_close(found.mass.sort().values, torch.full((6,), 12 / 72))
    assert (found.of(ends) == found.basin).all()
    assert (found.of(-ends) == -1).all()


def test_clouds_are_told_apart_and_stragglers_left_alone():
    centers = 5 * torch.eye(4, dtype=torch.float64)
    truth = torch.arange(4).repeat_interleave(20)
    ends = torch.cat([centers[truth] + 0.3 * drawn(80, 4), -5 * torch.eye(4).double()])
    found = find_basins(ends)
    assert same_partition(found.basin[:80], truth)
    assert (found.basin[80:] == -1).all()
    assert float(found.mass.sum()) < 1


def test_the_norm_of_ends_matters_to_one_metric_only():
    ends = torch.cat([normalize(drawn(1, 6), dim=1)] * 10) * torch.tensor([1.0, 5.0]).repeat(5)[
        :, None
    ]  # fmt: skip
    assert len(find_basins(ends).centers) == 1
    assert len(find_basins(ends, metric="euclidean").centers) == 2


def test_too_few_ends_have_no_basin():
    found = find_basins(drawn(3, 4))
    assert found.basin.tolist() == [-1] * 3 and len(found.centers) == len(found.mass) == 0
    assert found.of(drawn(2, 4)).tolist() == [-1, -1]


def test_angles_are_exact_near_zero_too():
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    for wanted in (0.0, 1e-9, 0.3, math.pi / 2, 3.0):
        b = 4 * torch.tensor([[math.cos(wanted), math.sin(wanted)]], dtype=torch.float64)
        assert_close(angle(a, b), [wanted], rtol=1e-6, atol=1e-15)


def test_leaving_all_basins_is_a_switch():
    before, after = torch.tensor([0, 1, 2, -1]), torch.tensor([0, 2, -1, -1])
    assert switched(before, after).tolist() == [False, True, True, False]


def test_bad_ends_are_refused():
    with pytest.raises(BadInput, match="not finite"):
        find_basins(torch.full((9, 2), torch.nan))
    with pytest.raises(BadInput, match="at least 2"):
        find_basins(drawn(9, 2), fewest=1)


def test_starts_are_told_from_random_starts_where_they_differ_and_only_there():
    corners = torch.eye(4, dtype=torch.float64)
    chosen = torch.tensor([0] * 40 + [1] * 20 + [2] * 2 + [3] * 18)
    random = torch.tensor([0] * 12 + [1] * 20 + [2] * 30 + [3] * 18)
    found = compare_basins(corners[chosen], corners[random])
    order = found.basins.of(corners)
    assert_close(found.mass.estimate[order], torch.tensor([40, 20, 2, 18]) / 80)
    assert_close(found.null.estimate[order], torch.tensor([12, 20, 30, 18]) / 80)
    assert (found.q[order] < 0.05).tolist() == [True, False, False, False]
    shown = repr(found)
    assert "4 basins of 160 ends, 0 alone" in shown and "random starts 15 %" in shown


def test_a_comparison_of_equals_finds_nothing():
    false_alarms = 0
    for seed in range(100):
        corners = torch.eye(5, dtype=torch.float64)
        drawn_from = torch.randint(5, (2, 60), generator=torch.Generator().manual_seed(seed))
        found = compare_basins(corners[drawn_from[0]], corners[drawn_from[1]])
        false_alarms += bool((found.q <= 0.05).any())
    assert false_alarms <= 11  # 5 expected at the most; P of more than 11 is .004


def test_basins_show_that_they_have_no_null():
    shown = repr(find_basins(torch.eye(3).repeat_interleave(8, dim=0)))
    assert "3 basins of 24 ends, 0 alone" in shown and "no null" in shown and "33 %" in shown
