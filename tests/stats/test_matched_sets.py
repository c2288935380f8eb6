from itertools import product

import pytest
import torch

from energylens.core.errors import InsufficientData
from energylens.stats.matched_sets import draw_matched, matched_set_test
from tests.common.compare import assert_close


def naive(values):
    """All choices one by one, in plain Python: p of each column, and of its maximum."""
    sets, members, columns = values.shape
    picks = list(product(range(members), repeat=sets))
    off = values - values.mean(1, keepdim=True)
    scale = off.square().mean(1).sum(0).sqrt()
    null = torch.stack([sum(off[s, m] for s, m in enumerate(pick)) / scale for pick in picks])
    own = null[0]
    p = [(null[:, c] >= own[c] - 1e-9).double().mean() for c in range(columns)]
    joint = [(null.amax(1) >= own[c] - 1e-9).double().mean() for c in range(columns)]
    return torch.stack(p), torch.stack(joint), null.std(0, correction=0) * scale


def test_p_is_that_of_all_choices_one_by_one(generator):
    values = torch.randn(4, 3, 5, generator=generator, dtype=torch.float64)
    found = matched_set_test(values, generator=generator)
    p, joint, spread = naive(values)
    assert found.patterns == 81
    assert_close(found.p, p, rtol=1e-12)
    assert_close(found.p_adjusted, joint, rtol=1e-12)
    difference = (values[:, 0] - values[:, 1:].mean(1)).mean(0)
    assert_close(found.difference, difference, rtol=1e-12)
    assert_close(found.null_sd, spread * 3 / 2 / 4, rtol=1e-9)


def test_draws_agree_with_all_choices(generator):
    values = torch.randn(7, 3, 4, generator=generator, dtype=torch.float64)
    values[:, 0, 0] += 1.0
    every = matched_set_test(values, generator=generator)
    drawn = matched_set_test(values, draws=2000, generator=generator)
    assert (every.patterns, drawn.patterns) == (2187, 2000)
    assert_close(drawn.p, every.p, atol=0.04)
    assert float(drawn.p.min()) > 0


def test_the_level_is_kept_whatever_features_do(generator):
    """Heavy-tailed effects, correlated over columns; no member is special."""
    single, family = [], []
    for _ in range(400):
        shared = torch.randn(5, 3, 1, generator=generator).exp()
        values = (shared * torch.randn(5, 3, 6, generator=generator)).abs()
        found = matched_set_test(values, generator=generator)
        single.append(found.p[0] <= 0.05)
        family.append(found.p_adjusted.min() <= 0.05)
    # exact tests: at most 5 %, and 400 draws of a .05 coin are above 30 once in 100
    assert 6 <= sum(single) <= 30
    assert sum(family) <= 30


def test_a_planted_difference_is_found(generator):
    values = torch.rand(5, 3, 6, generator=generator)
    values[:, 0, 2] += 2.0
    found = matched_set_test(values, generator=generator)
    assert found.p_adjusted[2] <= 0.05
    assert (found.p_adjusted[[0, 1, 3, 4, 5]] > 0.05).all()


def test_equal_members_are_undefined(generator):
    values = torch.rand(5, 3, 2, generator=generator)
    values[..., 1] = 3.0
    found = matched_set_test(values, generator=generator)
    assert found.p[1].isnan() and found.p_adjusted[1].isnan() and found.difference[1] == 0
    assert found.p[0].isfinite()


def test_too_few_sets_are_refused(generator):
    with pytest.raises(InsufficientData, match="2 sets of 3 can be dealt in 9 ways"):
        matched_set_test(torch.rand(2, 3, 1), generator=generator)


def test_matches_are_near_free_and_never_twice(generator):
    traits = torch.stack([torch.arange(60.0), torch.zeros(60)], dim=1)
    allowed = torch.ones(60, dtype=torch.bool)
    allowed[20:25] = False
    drawn = draw_matched(traits, allowed, [10, 12, 40], 2, nearest=6, generator=generator)
    flat = [one for some in drawn for one in some]
    assert len(set(flat)) == 6 and not set(flat) & {10, 12, 40, *range(20, 25)}
    for own, some in zip([10, 12, 40], drawn, strict=True):
        assert all(abs(one - own) <= 5 for one in some)


def test_too_few_candidates_are_refused(generator):
    with pytest.raises(InsufficientData, match="too few are left"):
        draw_matched(torch.rand(4, 2), torch.ones(4, dtype=torch.bool), [0, 1], 2,
                     generator=generator)  # fmt: skip


def test_sets_may_differ_in_size_and_what_is_not_there_does_not_matter(generator):
    values = torch.randn(4, 3, 2, generator=generator, dtype=torch.float64)
    members = torch.tensor([3, 2, 3, 2])
    found = matched_set_test(values, members=members, generator=generator)
    values[[1, 3], 2] = torch.nan
    again = matched_set_test(values, members=members, generator=generator)
    assert found.patterns == 36
    assert_close(again.p, found.p, rtol=1e-12)
    assert_close(again.difference, found.difference, rtol=1e-12)
    drawn = matched_set_test(values.repeat(3, 1, 1), members=members.repeat(3), draws=2000,
                             generator=generator)  # fmt: skip
    assert drawn.patterns == 2000 and drawn.p.isfinite().all()


def test_two_sides_see_what_one_cannot(generator):
    values = torch.rand(5, 3, 1, generator=generator)
    values[:, 0] -= 2.0
    assert matched_set_test(values, generator=generator).p == 1.0
    assert matched_set_test(values, generator=generator, two_sided=True).p <= 0.05
