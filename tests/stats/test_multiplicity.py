import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from energylens.core.errors import InsufficientData
from energylens.stats.multiplicity import (
    benjamini_hochberg,
    combined_p,
    draws_needed,
    max_t,
    rademacher,
    resampling_p,
    two_sided_p,
)
from energylens.stats.robust import cluster_robust_t
from tests.common.compare import assert_close
from tests.oracles import statistics as oracle


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _normal(units, features, seed=0):
    return torch.randn(units, features, generator=_generator(seed), dtype=torch.float64)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=12))
def test_q_agrees_with_the_definition(p):
    q = benjamini_hochberg(torch.tensor(p, dtype=torch.float64))
    assert_close(q, oracle.benjamini_hochberg(p))


def test_q_keeps_the_shape_and_all_undefined_is_nan():
    p = torch.tensor([[0.01, math.nan], [0.02, 0.5]])
    assert benjamini_hochberg(p).shape == (2, 2)
    assert benjamini_hochberg(torch.full((3,), math.nan)).isnan().all()


def test_too_few_draws_for_the_threshold_are_refused_by_name():
    p = torch.full((2049,), 0.5)
    p[0] = math.nan  # no hypothesis
    with pytest.raises(InsufficientData, match=r"over 2048 .* from 40960 draws, got 40959"):
        benjamini_hochberg(p, draws=40959)
    benjamini_hochberg(p, draws=40960)
    with pytest.raises(InsufficientData, match="20480"):
        benjamini_hochberg(p, draws=1000, level=0.1)


def test_draws_needed_are_just_enough():
    for hypotheses, level in ((1, 0.05), (20, 0.1), (333, 0.01)):
        needed = draws_needed(hypotheses, level)
        assert 1 / (1 + needed) < level / hypotheses <= 1 / (needed - 1)


def test_resampling_p_counts_itself_and_ties():
    null = torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, math.nan]])
    assert_close(resampling_p(torch.tensor([1.0, 1.0]), null), [0.75, math.nan])
    assert_close(resampling_p(torch.tensor([3.0, math.nan]), null), [0.25, math.nan])


@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_max_t_agrees_with_all_sign_patterns(shift):
    scores = _normal(9, 12) + shift
    exact = oracle.max_t_p(scores.numpy())
    error = (exact * (1 - exact) / 255) ** 0.5
    sampled = sum(
        max_t(scores, draws=255, generator=_generator(seed)).p_adjusted for seed in range(30)
    )
    assert (abs(sampled.numpy() / 30 - exact) < 4.5 * error / 30**0.5 + 1 / 256).all()
    enumerated = max_t(scores, draws=256, generator=_generator(), block=(100, 5))
    assert enumerated.draws == 256
    assert_close(enumerated.p_adjusted, exact)


def test_blocks_do_not_change_the_result():
    scores = _normal(20, 70)
    whole = max_t(scores, draws=500, generator=_generator(), block=(500, 70))
    parts = max_t(scores, draws=500, generator=_generator(), block=(37, 9))
    assert_close(parts.p_adjusted, whole.p_adjusted)
    assert_close(parts.threshold_05, whole.threshold_05, rtol=1e-5)


@pytest.mark.parametrize("draws", [19, 100, 1000])
def test_the_threshold_divides_at_five_percent(draws):
    scores = _normal(30, 400) + 0.5
    result = max_t(scores, draws=draws, generator=_generator())
    t = cluster_robust_t(scores).t.abs()
    discovered = result.p_adjusted <= 0.05
    assert 0 < discovered.sum() < 400
    assert (discovered == (t > result.threshold_05)).all()


def test_undefined_features_are_no_hypotheses():
    scores = _normal(12, 6) + 0.5
    wide = torch.cat([scores, torch.zeros(12, 2), torch.ones(12, 2)], 1)
    wide[3, -2:] = torch.tensor([math.nan, math.inf])
    narrow = max_t(scores, draws=200, generator=_generator())
    result = max_t(wide, draws=200, generator=_generator())
    assert_close(result.p_adjusted[:6], narrow.p_adjusted)
    assert result.p_adjusted[6:].isnan().all()
    assert result.threshold_05 == narrow.threshold_05


def test_nothing_defined_gives_nothing():
    result = max_t(torch.zeros(5, 3), draws=100, generator=_generator())
    assert result.p_adjusted.isnan().all() and math.isnan(result.threshold_05)


def test_five_units_never_reject():
    # the least p there is, 1/16: neither luck in the draws nor rounding may get below it
    scores = _normal(5, 3).abs()
    for seed in range(20):
        result = max_t(scores, draws=99, generator=_generator(seed))
        assert (result.p_adjusted >= 1 / 16).all()
        assert (cluster_robust_t(scores).t.abs() < result.threshold_05).all()


def test_too_few_draws_for_five_percent_are_refused():
    with pytest.raises(InsufficientData, match="at least 19 draws, got 18"):
        max_t(_normal(5, 5), draws=18, generator=_generator())


def test_signs_are_fair():
    signs = rademacher((1000, 100), _generator())
    assert signs.abs().eq(1).all()
    assert abs(signs.mean().item()) < 4 / 1e5**0.5


def test_two_sides_count_the_nearer_tail_twice():
    null = torch.arange(1.0, 20)
    for observed, wanted in ((20.0, 0.1), (0.0, 0.1), (18.0, 0.3), (10.0, 1.0)):
        assert_close(two_sided_p(torch.tensor(observed), null), wanted)


def test_combined_p_is_uniform_where_each_is():
    drawn = torch.randint(1, 101, (2000, 12), generator=torch.Generator().manual_seed(0)) / 100
    p = torch.tensor([combined_p(row, draws=99)[0] for row in drawn])
    for level in (0.05, 0.01):
        rate = (p <= level).double().mean()
        assert 0.4 * level <= rate <= 1.3 * level


def test_combined_p_leaves_out_what_is_undefined():
    found, tests = combined_p(torch.tensor([0.04, torch.nan]), draws=99)
    assert_close(found, 0.04)
    assert tests == 1
    found, tests = combined_p(torch.full((3,), torch.nan), draws=99)
    assert math.isnan(found) and tests == 0
    assert combined_p(torch.ones(4), draws=99)[0] < 1  # one that is 1 does not decide alone
