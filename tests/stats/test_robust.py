import math

import numpy as np
import pytest
import scipy.stats
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.robust import cluster_mean_interval, cluster_robust_t
from tests.common.compare import assert_close
from tests.oracles import statistics as oracle


def _normal(units, features, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(units, features, generator=g, dtype=torch.float64)


def test_t_is_the_sum_over_the_root_of_squares():
    scores = torch.tensor([[3.0, -1.0], [4.0, 0.0]], dtype=torch.float64)
    assert_close(cluster_robust_t(scores).t, [7 / 5, -1.0])


@pytest.mark.parametrize("shift", [0.0, 0.7, 1.5])
@pytest.mark.parametrize("tails", [0.0, 1.0])
def test_p_is_that_of_all_sign_patterns(shift, tails):
    scores = (_normal(11, 60) + shift) * (tails * _normal(11, 60, seed=1)).exp()
    exact, p = oracle.sign_flip_p(scores.numpy()), cluster_robust_t(scores).p.numpy()
    ratio = np.log2(p / exact)
    assert np.abs(ratio).max() < 1.1
    assert abs(np.median(ratio)) < 0.1


def test_far_tail_is_that_of_the_normal_with_many_equal_units():
    # sums of 4,000 fair signs: P(|sum| ≥ 400) = 2 · P(Binomial ≥ 2,200), lattice and all
    scores = torch.ones(4000, 1, dtype=torch.float64)
    scores[:1800] = -1
    exact = 2 * scipy.stats.binom.sf(2199, 4000, 0.5)
    assert exact < 1e-9
    assert 0.7 < cluster_robust_t(scores).p.item() / exact < 1.3


@pytest.mark.parametrize("units", [2, 5, 12, 40, 300])
def test_p_of_full_agreement_is_the_least_there_is(units):
    scores = _normal(units, 20).abs() + 0.01
    assert_close(cluster_robust_t(scores).p, torch.full((20,), 2.0 ** (1 - units)), rtol=1e-4)


def test_p_is_one_without_any_sum():
    scores = torch.tensor([[1.0], [-1.0], [2.0], [-2.0]])
    test = cluster_robust_t(scores)
    assert test.t.item() == 0 and test.p.item() == 1


def test_scale_sign_and_order_of_units_do_not_matter():
    scores = _normal(20, 30) + 0.3
    reference = cluster_robust_t(scores)
    for changed in (scores * 1e-200, scores * 1e150, -scores, scores.flip(0)):
        test = cluster_robust_t(changed)
        assert_close(test.p, reference.p, rtol=1e-7)
        assert_close(test.t.abs(), reference.t.abs(), rtol=1e-9)
        assert_close(test.dof, reference.dof, rtol=1e-7)


def test_dof_counts_the_units_that_matter():
    scores = torch.zeros(40, 3, dtype=torch.float64)
    scores[0, 0] = 1.0  # one unit
    scores[:, 1] = 1.0  # all of them
    scores[:4, 2] = 1.0
    assert_close(cluster_robust_t(scores).dof, [1.0, 39.0, 3 * 4 - 2])


def test_undefined_is_nan_and_leaves_the_others_alone():
    scores = _normal(12, 5)
    reference = cluster_robust_t(scores)
    scores[3, 0], scores[2, 1], scores[:, 2] = math.nan, math.inf, 0.0
    test = cluster_robust_t(scores)
    for value, whole in zip(
        (test.t, test.p, test.dof), (reference.t, reference.p, reference.dof), strict=True
    ):
        assert value[:3].isnan().all()
        assert_close(value[3:], whole[3:])


def test_one_unit_is_refused():
    with pytest.raises(InsufficientData, match="needs 2 units, got 1"):
        cluster_robust_t(torch.ones(1, 3))
    with pytest.raises(InsufficientData, match="needs 2 units, got 1"):
        cluster_mean_interval(torch.ones(1, 3))


def test_mean_interval_is_students():
    scores = _normal(9, 4)
    low, high = scipy.stats.t.interval(
        0.9, 8, loc=scores.numpy().mean(0), scale=scipy.stats.sem(scores.numpy(), axis=0)
    )
    interval = cluster_mean_interval(scores, level=0.9)
    assert_close(interval.low, low)
    assert_close(interval.high, high)
    assert_close(interval.estimate, scores.mean(0))


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_outside_is_refused(level):
    with pytest.raises(BadInput, match="strictly between 0 and 1"):
        cluster_mean_interval(_normal(9, 4), level=level)
