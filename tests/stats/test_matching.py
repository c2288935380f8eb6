import pytest
import torch

from energylens.core.errors import InsufficientData
from energylens.stats.matching import matched_max_t, own_rows_test
from tests.common.compare import assert_close


def noise(seed: int, size: int = 60) -> torch.Tensor:
    """Pairs of random rows and directions of very unequal spread."""
    g = torch.Generator().manual_seed(seed)
    spread = torch.rand(size, 1, generator=g) * 5 + 0.1
    rows = torch.randn(size, 30, generator=g) * spread
    columns = torch.randn(size, 30, generator=g) * spread.flip(0)
    return rows @ columns.T


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_family_wise_level_holds_on_noise():
    wrong = sum(
        bool((matched_max_t([noise(seed)], draws=99, generator=generator(seed))[0].p_adjusted
              <= 0.05).any())
        for seed in range(200)
    )  # fmt: skip
    assert wrong <= 19  # 5 % of 200 is 10; 20 or more has a chance of .003


def test_a_special_direction_is_found_and_no_other():
    pairs = noise(3)
    pairs[7, 7] = 40 * pairs[7].abs().mean()
    found = matched_max_t([pairs], draws=499, generator=generator())[0]
    assert (found.p_adjusted <= 0.05).nonzero().tolist() == [[7]]
    assert_close(found.p[7], 1 / 60)


def test_many_special_directions_do_not_hide_each_other():
    pairs = torch.randn(80, 80, generator=generator(8))
    pairs[range(16), range(16)] += 12.0
    found = matched_max_t([pairs], draws=499, generator=generator())[0]
    assert (found.p_adjusted <= 0.05).nonzero()[:, 0].tolist() == list(range(16))


def test_a_feature_that_covaries_with_everything_is_not_special():
    pairs = noise(4)
    pairs[5] *= 1000
    pairs[:, 9] *= 1000
    found = matched_max_t([pairs], draws=199, generator=generator())[0]
    assert not (found.p_adjusted <= 0.05)[[5, 9]].any()


def test_p_by_itself_is_the_rank_among_all_directions():
    pairs = noise(5)
    found = matched_max_t([pairs], draws=19, generator=generator())[0]
    size = pairs.abs() / pairs.square().mean(1, keepdim=True).sqrt()
    size = size / size.square().mean(0, keepdim=True).sqrt()
    expected = [(size[f] >= size[f, f]).double().mean() for f in range(len(pairs))]
    assert_close(found.p, torch.stack(expected))


def test_sites_share_one_family():
    """A site beside a larger noisy one has a harder bar than alone."""
    small, large = noise(6, 20), noise(7, 200)
    alone = matched_max_t([small], draws=199, generator=generator())[0].p_adjusted
    together = matched_max_t([small, large], draws=199, generator=generator())
    assert len(together) == 2 and len(together[1].p) == 200
    assert (together[0].p_adjusted >= alone - 0.1).all()
    assert together[0].p_adjusted.mean() > alone.mean()


def test_an_empty_site_is_no_error():
    assert len(matched_max_t([torch.zeros(0, 0)], draws=19, generator=generator())[0].p) == 0


def test_too_few_draws_are_refused():
    with pytest.raises(InsufficientData, match="19 draws, got 5"):
        matched_max_t([noise(0)], draws=5, generator=generator())


def test_own_rows_hold_their_level_on_noise():
    p = [own_rows_test(noise(seed, 30), draws=199, generator=generator(seed)).p
         for seed in range(600)]  # fmt: skip
    assert 0.03 <= sum(value < 0.05 for value in p) / 600 <= 0.07


def test_own_rows_that_share_their_direction_are_found_as_a_kind():
    """Six kinds of ten features: none beats its nine siblings, all beat the other fifty."""
    kind = torch.arange(60) // 10
    pairs = (kind[:, None] == kind).float() * 3 + torch.randn(60, 60, generator=generator(1))
    found = own_rows_test(pairs, generator=generator())
    assert found.p < 0.001 and found.share > 0.8
    assert_close(found.null_mean, 0.5, atol=0.02)
    alone = matched_max_t([pairs], draws=499, generator=generator())[0]
    assert (alone.p_adjusted > 0.05).sum() > 50


def test_own_rows_need_three_features():
    with pytest.raises(InsufficientData, match="3 features"):
        own_rows_test(torch.eye(2), generator=generator())
