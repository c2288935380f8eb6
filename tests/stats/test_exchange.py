import pytest
import torch

from energylens.core.errors import InsufficientData
from energylens.stats.exchange import accuracy_beyond_exchange


def mirrored(units):
    """Unit and the sign of the right token of each of two mirrored items."""
    return torch.arange(units).repeat_interleave(2), torch.tensor([1.0, -1.0]).repeat(units)


def test_a_model_that_reads_is_beyond_chance():
    unit, sign = mirrored(10)
    found = accuracy_beyond_exchange(sign[:, None] * sign[None, :], unit)
    assert (found.accuracy.estimate, found.chance, found.units) == (1.0, 0.5, 10)
    assert found.can


def test_a_model_that_prefers_one_token_is_not_however_often_it_is_right():
    """Right in nine of ten questions, because nine of ten have the same answer."""
    unit = torch.arange(20)
    sign = torch.ones(20)
    sign[::10] = -1
    found = accuracy_beyond_exchange(sign.expand(20, 20), unit)
    assert found.accuracy.estimate == 0.9 and abs(found.chance - 0.9) < 1e-6
    assert not found.can


def test_guessing_is_rarely_taken_for_reading(generator):
    unit, _ = mirrored(10)
    can = 0
    for _ in range(400):
        preferences = torch.randn(20, 20, generator=generator)
        can += accuracy_beyond_exchange(preferences, unit).can
    assert can <= 16  # 2.5 % nominal: the chance of more than 16 in 400 is .03


def test_items_of_a_unit_do_not_count_as_more_units():
    wide = accuracy_beyond_exchange(torch.ones(10, 10), torch.arange(10)).accuracy
    same = accuracy_beyond_exchange(torch.ones(40, 40), torch.arange(10).repeat(4)).accuracy
    assert wide.low == same.low


def test_ties_count_half():
    found = accuracy_beyond_exchange(torch.zeros(6, 6), torch.arange(6))
    assert (found.accuracy.estimate, found.chance) == (0.5, 0.5)


def test_one_unit_is_refused():
    with pytest.raises(InsufficientData, match="needs 2, got 1"):
        accuracy_beyond_exchange(torch.ones(3, 3), torch.zeros(3, dtype=torch.long))
