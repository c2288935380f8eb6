"""Waves in a + b, planted and not, against projections pair by pair."""

import math

import pytest
import torch

from energylens.core.errors import BadInput
from energylens.dynamics.fourier import (
    by_sum,
    excluded_loss,
    key_frequencies,
    number_power,
    planted_logits,
    restricted_loss,
    sum_power,
    waves,
)
from tests.common.compare import assert_close
from tests.oracles import progress as oracle

P = 7


@pytest.fixture
def logits(generator):
    return torch.randn(P, P, P, generator=generator, dtype=torch.float64)


def closed_form(p: int, frequencies: list[int], amplitude: float) -> float:
    """Loss of `planted_logits`: every pair sees the same waves from its own answer."""
    scores = [amplitude * sum(math.cos(2 * math.pi * k * d / p) for k in frequencies)
              for d in range(p)]  # fmt: skip
    return math.log(sum(math.exp(x) for x in scores)) - scores[0]


def test_power_equals_slow_sums(logits, generator):
    table = torch.randn(P, 4, generator=generator, dtype=torch.float64)
    assert_close(number_power(table), oracle.number_power(table.numpy()))
    assert_close(sum_power(logits), oracle.sum_power(logits.numpy()))
    assert_close(number_power(5 * table + 3), number_power(table))
    assert_close(sum_power(5 * logits + 3), sum_power(logits))
    for constant in (0.0, 0.1):
        assert number_power(torch.full((P, 2), constant)).isnan().all()
        assert sum_power(torch.full((P, P, P), constant)).isnan().all()


@pytest.mark.parametrize("kept", [[], [2], [1, 3], [1, 2, 3]])
def test_losses_equal_projections_pair_by_pair(logits, kept):
    frequencies = torch.tensor(kept, dtype=torch.long)
    expected = oracle.restricted_loss(logits.numpy(), kept)
    assert_close(restricted_loss(logits, frequencies), expected)
    pairs = [(0, 0, 3), (2, 6, 1), (5, 5, 0)]
    a, b, c = torch.tensor(pairs).T
    expected = oracle.excluded_loss(logits.numpy(), kept, pairs)
    assert_close(excluded_loss(logits, frequencies, a, b, c), expected)


@pytest.mark.parametrize("amplitude", [0.5, 2.0, 8.0])
def test_planted_waves_have_the_closed_form(amplitude):
    p, planted = 11, [2, 5]
    logits = planted_logits(p, torch.tensor(planted), amplitude=amplitude)
    assert_close(restricted_loss(logits, torch.tensor(planted)), closed_form(p, planted, amplitude))
    assert_close(restricted_loss(logits, torch.tensor([2])), closed_form(p, [2], amplitude))
    assert_close(restricted_loss(logits, torch.tensor([1])), math.log(p))
    a, b = torch.arange(p), torch.arange(p).flip(0)
    found = excluded_loss(logits, torch.tensor([5]), a, b, (a + b) % p)
    assert_close(found, closed_form(p, [2], amplitude))
    power = sum_power(logits)
    assert_close(power[[1, 4]], torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert key_frequencies(power).tolist() == planted


def test_what_is_no_function_of_the_sum_is_not_seen(generator):
    planted = planted_logits(P, torch.tensor([3]), amplitude=2.0)
    n = torch.arange(P)
    # A wave in a − b, with as many pairs of each sum up as down.
    other = (2 * torch.pi * (n[:, None] - n) / P).cos().unsqueeze(-1).expand(P, P, P)
    noisy = planted + other * torch.randn(P, generator=generator, dtype=torch.float64)
    assert_close(waves(noisy, torch.tensor([1, 2, 3])), waves(planted, torch.tensor([3])))
    assert_close(restricted_loss(noisy, torch.tensor([3])), closed_form(P, [3], 2.0))
    assert 0 < float(sum_power(noisy).sum()) < 1


def test_random_logits_have_the_power_of_their_null(generator):
    p = 13
    found = torch.stack([
        sum_power(torch.randn(p, p, p, generator=generator)) for _ in range(40)
    ]).mean(0)  # fmt: skip
    assert_close(found, torch.full((6,), 2 / (p**2 - 1)).double(), rtol=0.2)
    tables = torch.stack([
        number_power(torch.randn(p, 8, generator=generator)) for _ in range(200)
    ]).mean(0)  # fmt: skip
    assert_close(tables, torch.full((6,), 2 / (p - 1)).double(), rtol=0.1)


def test_sums_are_means_over_their_pairs(logits):
    for total in range(P):
        mine = [logits[a, (total - a) % P] for a in range(P)]
        assert_close(by_sum(logits)[total], torch.stack(mine).mean(0))


def test_key_frequencies_are_the_fewest_that_hold_enough():
    power = torch.tensor([0.05, 0.6, 0.0, 0.35])
    assert key_frequencies(power, share=0.5).tolist() == [2]
    assert key_frequencies(power, share=0.95).tolist() == [2, 4]
    assert key_frequencies(power, share=1.0).tolist() == [1, 2, 4]
    assert key_frequencies(torch.full((3,), torch.nan)).tolist() == []


def test_bad_input_is_one_sentence(logits):
    with pytest.raises(BadInput, match=r"frequency 4 was asked of numbers modulo 7: .* 1 to 3"):
        restricted_loss(logits, torch.tensor([4]))
    with pytest.raises(BadInput, match="frequency 0"):
        waves(logits, torch.tensor([0]))
    with pytest.raises(BadInput, match="numbers modulo 6"):
        number_power(torch.ones(6, 2))
    with pytest.raises(BadInput, match="7 × 5 pairs"):
        sum_power(logits[:, :5])
