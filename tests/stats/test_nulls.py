import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.nulls import (
    circular_shift,
    copula_surrogate,
    enough_evidence,
    permute_columns,
    permute_rows,
    random_unit_directions,
    split_units,
    states_alike,
    thresholds_matched_in_rate,
    unit_permutation,
)
from energylens.stats.ranking import spearman
from tests.common.compare import assert_close


def test_evidence_needs_samples_and_units():
    active, units = torch.tensor([30, 29, 1000, 30]), torch.tensor([5, 50, 4, 6])
    assert enough_evidence(active, units).tolist() == [True, False, False, True]
    assert enough_evidence(active, units, min_active=1, min_units=4).all()


def test_directions_are_unit_and_isotropic(generator):
    like = torch.empty(0, dtype=torch.float32)
    d = random_unit_directions(20_000, 6, generator, like=like)
    assert d.dtype == torch.float32
    assert_close(d.norm(dim=1), torch.ones(20_000), rtol=1e-5)
    assert_close(d.T @ d / len(d), torch.eye(6) / 6, atol=0.01)
    assert d.mean(0).abs().max() < 0.015


def test_states_alike_have_the_mean_covariance_and_sizes(generator):
    mixing = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    rows = 3 + torch.randn(4000, 5, generator=generator, dtype=torch.float64) @ mixing
    sizes = torch.linalg.vector_norm(rows, dim=1)
    states = states_alike(rows, sizes, generator)
    assert_close(torch.linalg.vector_norm(states, dim=1), sizes)
    free = states_alike(rows, torch.ones(20_000, dtype=torch.float64), generator)
    unit = rows / sizes[:, None]
    assert_close(free.mean(0), unit.mean(0), atol=0.03)
    assert_close(torch.cov(free.T), torch.cov(unit.T), atol=0.03)


def test_one_row_has_no_covariance(generator):
    with pytest.raises(InsufficientData, match="needs 2 rows, got 1"):
        states_alike(torch.ones(1, 4), torch.ones(2), generator)


def test_no_row_stays_and_none_is_lost(generator):
    for rows in (2, 3, 50):
        own = torch.arange(rows)[:, None].expand(rows, 2)
        for _ in range(20):
            permuted = permute_rows(own, generator)
            assert (permuted != own).all()
            assert_close(permuted.sort(0).values, own)


def test_derangements_are_equally_frequent(generator):
    own = torch.arange(4)
    seen = [tuple(permute_rows(own, generator).tolist()) for _ in range(1800)]
    counts = torch.tensor([seen.count(one) for one in set(seen)])
    assert len(counts) == 9  # !4
    assert counts.min() > 140 and counts.max() < 265  # 200 ± 4.5 standard deviations


def test_a_single_row_cannot_be_permuted(generator):
    with pytest.raises(InsufficientData, match="needs 2 rows, got 1"):
        permute_rows(torch.ones(1, 4), generator)


def test_units_are_permuted_whole(generator):
    values = torch.arange(12).reshape(6, 2)
    seen = {tuple(unit_permutation(values, generator)[:, 0].tolist()) for _ in range(50)}
    assert len(seen) > 40
    assert all(sorted(order) == [0, 2, 4, 6, 8, 10] for order in seen)


def test_thresholds_match_the_rate(generator):
    projections = torch.randn(1000, 300, generator=generator)
    rate = torch.rand(300, generator=generator)
    rate[:2] = torch.tensor([0.0, 1.0])
    thresholds = thresholds_matched_in_rate(projections, rate)
    assert thresholds.dtype == projections.dtype
    assert_close((projections > thresholds).double().mean(0), (rate * 1000).round() / 1000)


def test_ties_never_fire_more_often_than_asked():
    projections = torch.tensor([[1.0], [1.0], [1.0], [2.0]])
    threshold = thresholds_matched_in_rate(projections, torch.tensor([0.5]))
    assert (projections > threshold).sum() == 1


def test_a_rate_outside_is_refused():
    with pytest.raises(BadInput, match="between 0 and 1"):
        thresholds_matched_in_rate(torch.ones(3, 1), torch.tensor([30.0]))


def test_shift_turns_each_unit_by_its_own_amount(generator):
    ids = torch.tensor([7, 3, 7, 3, 3, 7, 9, 7])
    values = torch.arange(16).reshape(8, 2)
    turns = set()
    for _ in range(60):
        shifted = circular_shift(values, ids, generator)
        assert shifted[6].tolist() == values[6].tolist()  # alone in its unit
        turn = []
        for unit in (3, 7):
            before, after = values[ids == unit], shifted[ids == unit]
            turn += [k for k in range(len(before)) if before.roll(-k, 0).equal(after)]
        turns.add(tuple(turn))
    assert turns == {(a, b) for a in (1, 2) for b in (1, 2, 3)}


def test_halves_are_disjoint_equal_and_random(generator):
    for units in (2, 7, 40):
        a, b = split_units(units, generator)
        assert (a ^ b).all() and 0 <= a.sum() - b.sum() <= 1
    often = sum(split_units(5, generator)[0].double() for _ in range(500)) / 500
    assert (often - 0.6).abs().max() < 0.1
    with pytest.raises(InsufficientData, match="need 2 units, got 1"):
        split_units(1, generator)


def test_columns_dealt_out_keep_their_values_and_lose_what_they_shared(generator):
    shared = torch.randn(4000, 1, generator=generator)
    rows = shared + 0.1 * torch.randn(4000, 3, generator=generator)
    dealt = permute_columns(rows, generator)
    assert torch.equal(dealt.sort(0).values, rows.sort(0).values)
    assert float(torch.corrcoef(rows.T)[0, 1]) > 0.9
    assert abs(float(torch.corrcoef(dealt.T)[0, 1])) < 0.06


def test_a_copula_surrogate_keeps_values_and_rank_correlations(generator):
    x = torch.randn(2000, 3, generator=generator, dtype=torch.float64)
    x[:, 1] += x[:, 0]
    x = torch.cat([x.exp(), torch.randint(0, 3, (2000, 1), generator=generator)], 1)
    drawn = copula_surrogate(x, generator)
    assert_close(drawn.sort(0).values, x.sort(0).values)
    for columns in ([0, 1], [0, 2], [1, 3]):
        (a, b), (c, d) = x[:, columns].T[:, None], drawn[:, columns].T[:, None]
        assert abs(spearman(a, b) - spearman(c, d)).item() < 0.06


def test_a_copula_surrogate_has_no_clusters(generator):
    side = torch.randint(0, 2, (600, 1), generator=generator).double()
    x = 6 * side + torch.randn(600, 2, generator=generator, dtype=torch.float64)
    for rows, least, most in ((x, 0.0, 0.01), (copula_surrogate(x, generator), 0.1, 0.5)):
        assert least <= ((rows[:, 0] > 3) != (rows[:, 1] > 3)).double().mean() <= most
