"""Neighbours of rows: oracles, closed forms, and what rows of nothing have."""

import pytest
import torch

from energylens.core.errors import InsufficientData
from energylens.features import geometry
from tests.common.compare import assert_close
from tests.oracles import dictionary_metrics as oracle


@pytest.fixture
def rows(generator):
    return torch.randn(40, 12, generator=generator, dtype=torch.float64)


def test_neighbours_equal_the_oracle_in_blocks_too(rows, monkeypatch):
    monkeypatch.setattr(geometry, "_AT_ONCE", 7)
    expected = torch.tensor(oracle.nearest_cosine(rows.numpy()))
    assert_close(geometry.nearest_cosine(rows), expected)
    found = geometry.mean_max_cosine(rows[:15], rows[15:])
    assert_close(found, oracle.mean_max_cosine(rows[:15].numpy(), rows[15:].numpy()))


def test_a_rotated_and_reordered_copy_is_found_again_whole(rows, generator):
    order = torch.randperm(40, generator=generator)
    assert_close(geometry.mean_max_cosine(rows, 3 * rows[order]), 1.0)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64))[0]
    before = geometry.mean_max_cosine(rows[:20], rows[20:])
    assert_close(geometry.mean_max_cosine(rows[:20] @ turn, rows[20:] @ turn), before)


def test_rows_of_nothing_are_undefined_and_neighbours_of_none(rows):
    empty = rows.clone()
    empty[3] = 0
    nearest = geometry.nearest_cosine(empty)
    assert nearest[3].isnan() and int(nearest.isnan().sum()) == 1
    assert int(geometry.max_cosines(empty, rows).isnan().sum()) == 1
    assert geometry.encoder_decoder_cosine(empty, rows)[3].isnan()
    assert_close(geometry.encoder_decoder_cosine(2 * rows, rows), torch.ones(40).double())
    with pytest.raises(InsufficientData, match="got 1"):
        geometry.nearest_cosine(rows[:1])
