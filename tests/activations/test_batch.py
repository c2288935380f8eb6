import pytest
import torch

from energylens.activations.batch import Batch
from energylens.core.errors import BadInput
from tests.common.compare import assert_close


def test_positions_targets_and_scored_places_follow_from_the_mask():
    batch = Batch.padded([[5, 6, 7, 8], [9, 4]], side="left")
    assert_close(batch.positions, [[0, 1, 2, 3], [0, 0, 0, 1]])
    assert_close(batch.has_next, [[1, 1, 1, 0], [0, 0, 1, 0]])
    assert_close(batch.scored, [[0, 1, 1, 0], [0, 0, 0, 0]])
    assert_close(batch.next_ids[batch.has_next], [6, 7, 8, 4])


def test_right_padding_has_no_next_token_at_its_end():
    batch = Batch.padded([[5, 6, 7], [9, 4]])
    assert_close(batch.has_next, [[1, 1, 0], [1, 0, 0]])


def test_a_full_batch_sends_no_mask():
    assert set(Batch.full(torch.ones(2, 3, dtype=torch.long)).inputs()) == {"input_ids"}


def test_an_empty_sequence_is_refused():
    with pytest.raises(BadInput, match="at least one token"):
        Batch.padded([[1], []])
