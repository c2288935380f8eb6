"""Batches of the buffer against everything in memory, and against themselves after a restore."""

import math
from collections import Counter
from dataclasses import replace
from itertools import chain

import pytest
import torch

from energylens.activations.batch import Batch
from energylens.activations.buffer import MEGABYTE, ShuffleBuffer
from energylens.activations.stream import ModelRows
from energylens.core.errors import BadInput, InsufficientData, NoRoom
from energylens.sources.windows import TokenWindows
from tests.activations.models import subject, tokens
from tests.common.compare import assert_close

SITES = ["blocks.0.resid_post", "blocks.1.mlp.post"]


class Numbered:
    """Blocks of rows that say their own number, at two sites; counts the blocks it gave."""

    total = None

    def __init__(self, lengths, *, total=None):
        self.lengths, self.total, self.given = lengths, total, 0
        self.largest = max(lengths, default=0)
        self.layout = {"a": torch.empty(0, 3), "b": torch.empty(0, 2, dtype=torch.float64)}

    def blocks(self, seed, first):
        for number in range(first, len(self.lengths)):
            start = sum(self.lengths[:number])
            row = torch.arange(start, start + self.lengths[number])
            self.given += 1
            yield {"a": row.float().expand(3, -1).T, "b": -row.double().expand(2, -1).T}


def buffer(source, *, batch=4, rows=24, seed=0, **options):
    """A buffer whose ring has room for `rows` rows."""
    row_bytes = sum(e.shape[1] * e.element_size() for e in source.layout.values())
    held = rows * (row_bytes + 8) + (source.largest + 2 * batch) * row_bytes
    generator = torch.Generator().manual_seed(seed)
    return ShuffleBuffer(source, batch, generator, budget_mb=held / MEGABYTE, **options)


def numbers(batches):
    return [batch["a"][:, 0].int().tolist() for batch in batches]


def kept(batches):
    """Batches that outlive the ring they are parts of."""
    return [{site: rows.clone() for site, rows in batch.items()} for batch in batches]


def windows_of(ids, *, documents=1):
    return TokenWindows(
        ids=ids, document=torch.arange(len(ids)) % documents, starts=torch.arange(len(ids)),
        document_names=("d",) * documents, kinds=("text",) * documents,
    )  # fmt: skip


def test_an_epoch_serves_every_row_once_and_sites_stay_together():
    served = kept(buffer(Numbered([5, 0, 7, 12, 12, 1]), epochs=1))
    assert sorted(chain(*numbers(served))) == list(range(37))
    assert [len(batch["a"]) for batch in served] == [4] * 9 + [1]
    for batch in served:
        assert torch.equal(batch["a"][:, :2].double(), -batch["b"])
        assert batch["a"].dtype == torch.float32 and batch["b"].dtype == torch.float64


def test_batches_are_a_permutation_of_consecutive_rows():
    """The oracle holds all rows, and permutes each ring of them with the same generator."""
    lengths, rows = [5, 0, 7, 12, 12, 1], 24
    generator = torch.Generator().manual_seed(3)
    expected = []
    torch.randint(2**62, (), generator=generator)
    for first in range(0, 37, rows):
        order = torch.randperm(rows, generator=generator, dtype=torch.int32)
        dealt = [sorted(some.tolist()) for some in order.split(4)]
        there = [first + row for batch in dealt for row in batch if first + row < 37]
        expected += [there[start : start + 4] for start in range(0, len(there), 4)]
    assert numbers(buffer(Numbered(lengths), rows=rows, seed=3, epochs=1)) == expected


def test_what_lies_ahead_is_what_will_be_served():
    for rows, epochs in ((24, 1), (60, 1)):
        held = buffer(Numbered([5, 0, 7, 12, 12, 1]), rows=rows, epochs=epochs)
        first = held.ahead()["a"][:, 0].int().tolist()
        assert len(first) == min(rows, 37) and held.ahead()["a"][:, 0].int().tolist() == first
        served = list(chain(*numbers(held)))
        assert served[: len(first)] == first and sorted(served) == list(range(37))


def test_a_batch_is_a_part_of_the_ring_and_no_copy():
    held = buffer(Numbered([12] * 9))
    first, second = next(held), next(held)
    for site, ring in held._ring.items():
        assert first[site].data_ptr() == ring.data_ptr()
        assert second[site].data_ptr() == ring[4:].data_ptr()


def test_rows_of_the_next_epoch_follow_those_of_the_last():
    served = numbers(buffer(Numbered([10, 9]), batch=5, rows=25, epochs=3))
    assert [len(batch) for batch in served] == [5] * 11 + [2]
    assert Counter(chain(*served)) == dict.fromkeys(range(19), 3)
    endless = buffer(Numbered([10, 9]), batch=5, rows=25)
    assert Counter(chain(*numbers(next(endless) for _ in range(190)))) == dict.fromkeys(
        range(19), 50
    )


def test_rows_meet_across_the_whole_ring():
    """Rows r and r + 1 share a batch as often as any two of a ring: (batch − 1) / (rows − 1)."""
    source = Numbered([12] * 2000)
    together = 0
    for batch in numbers(buffer(source, batch=4, rows=24, epochs=1)):
        here = set(batch)
        together += sum(row + 1 in here for row in batch if row % 24 != 23)
    share, expected = together / (1000 * 23), 3 / 23
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / 23_000)


@pytest.mark.parametrize("stop", range(0, 22))
def test_after_a_restore_the_batches_are_the_same(stop):
    lengths = [5, 0, 7, 12, 12, 1]
    whole = numbers(buffer(Numbered(lengths), seed=5, epochs=2))
    first = buffer(Numbered(lengths), seed=5, epochs=2)
    for _ in range(min(stop, len(whole))):
        next(first)
    state = {name: value.clone() for name, value in first.state().items()}
    again = buffer(Numbered(lengths), seed=99, epochs=2)
    next(again), next(again)
    again.restore(state)
    assert numbers(again) == whole[stop:]
    first.restore(state)  # the ring may still be there
    assert numbers(first) == whole[stop:]
    same = buffer(Numbered(lengths), seed=5, epochs=2)  # as a run that begins again makes it
    same.restore(state)
    assert numbers(same) == whole[stop:]
    assert sum(value.numel() * value.element_size() for value in state.values()) < 8192


def test_looking_ahead_costs_no_second_filling():
    source = Numbered([12] * 100)
    ahead = buffer(source)
    start = ahead.state()
    seen = numbers([next(ahead), next(ahead)])
    given = source.given
    ahead.restore(start)
    assert numbers([next(ahead), next(ahead)]) == seen and source.given == given
    served = seen + numbers(next(ahead) for _ in range(20))
    straight = buffer(Numbered([12] * 100))
    assert numbers(next(straight) for _ in range(22)) == served


class Faulty(Numbered):
    """Fails once, at the block of this number."""

    def __init__(self, lengths, *, at):
        super().__init__(lengths)
        self.at = at

    def blocks(self, seed, first):
        for number, block in enumerate(super().blocks(seed, first), start=first):
            if number == self.at:
                self.at = None
                raise KeyboardInterrupt
            yield block


@pytest.mark.parametrize("at", range(9))
def test_rows_are_not_lost_where_a_pass_fails(at):
    lengths = [12, 5, 12, 7, 12, 12, 1, 12, 12]
    whole = numbers(buffer(Numbered(lengths), epochs=2))
    failing = buffer(Faulty(lengths, at=at), epochs=2)
    served = []
    with pytest.raises(KeyboardInterrupt):
        for batch in failing:
            served += numbers([batch])
    again = buffer(Numbered(lengths), seed=3, epochs=2)
    again.restore(failing.state())
    assert served + numbers(failing) == served + numbers(again) == whole


def test_a_state_of_another_size_is_refused():
    state = buffer(Numbered([12] * 9)).state()
    with pytest.raises(BadInput, match="24 rows in batches of 4 and this one has 28"):
        buffer(Numbered([12] * 9), rows=28).restore(state)


def test_memory_stays_within_the_budget():
    source = Numbered([100] * 50)
    for budget in (0.02, 0.1, 1):
        held = ShuffleBuffer(source, 32, torch.Generator(), budget_mb=budget)
        ring = sum(value.untyped_storage().nbytes() for value in held._ring.values())
        assert ring < held.num_bytes <= budget * MEGABYTE
        assert held.capacity % 32 == 0
    with pytest.raises(NoRoom, match="two batches of 32 rows and two blocks of 100 take 1 MB"):
        ShuffleBuffer(source, 32, torch.Generator(), budget_mb=0.01)
    small = ShuffleBuffer(Numbered([100] * 2, total=200), 32, torch.Generator(), budget_mb=100)
    assert small.capacity == 224, "no larger than the source"


def test_nothing_and_less_are_refused():
    with pytest.raises(InsufficientData, match="no row was found"):
        next(buffer(Numbered([0, 0])))
    for batch, epochs in ((0, 1), (1, 0)):
        with pytest.raises(BadInput, match="both start at 1"):
            ShuffleBuffer(Numbered([4]), batch, torch.Generator(), budget_mb=1, epochs=epochs)


# ---- rows of a model


def test_rows_of_a_model_are_those_of_single_passes():
    """The oracle runs one window at a time and keeps all; documents are cut across passes."""
    found, ids = subject(), tokens(21, 8)
    pieces = [windows_of(ids[:2]), windows_of(ids[2:19], documents=3), windows_of(ids[19:])]
    source = ModelRows(found, lambda: pieces, SITES, budget_mb=50)
    blocks = list(source.blocks(0, 0))
    assert [len(block[SITES[0]]) for block in blocks] == [48, 48, 30]
    expected = {site: [] for site in SITES}
    for window in ids:
        with found.capture(*SITES) as seen:
            found.forward(Batch.full(window[None]))
        for site in SITES:
            expected[site].append(seen[site][0, 1:-1])
    for site in SITES:
        assert source.layout[site].shape == (0, expected[site][0].shape[1])
        got = torch.cat([block[site] for block in blocks])
        assert_close(got, torch.cat(expected[site]), rtol=1e-9)
    later = list(source.blocks(0, 2))
    assert len(later) == 1 and torch.equal(later[0][SITES[1]], blocks[2][SITES[1]])
    documents = torch.cat([batch.document for batch in source.passes()])
    assert documents.tolist() == [0, 0, *(1 + torch.arange(17) % 3).tolist(), 4, 4]


def test_special_tokens_give_no_row():
    found, ids = subject(), tokens(9, 8)
    special = frozenset(ids[[0, 4], [3, 2]].tolist())
    found = replace(found, loaded=replace(found.loaded, special_ids=special))
    source = ModelRows(found, lambda: [windows_of(ids)], SITES, budget_mb=50)
    rows = sum(len(block[SITES[0]]) for block in source.blocks(0, 0))
    ordinary = sum(int(i) not in special for i in ids[:, 1:-1].flatten())
    assert rows == ordinary < 9 * 6


def test_rows_take_the_type_that_is_asked_for():
    source = ModelRows(
        subject(), lambda: [windows_of(tokens(9, 8))], SITES, budget_mb=50, dtype=torch.bfloat16
    )
    assert {empty.dtype for empty in source.layout.values()} == {torch.bfloat16}
    assert next(source.blocks(0, 0))[SITES[0]].dtype == torch.bfloat16


def test_a_model_read_through_the_buffer_goes_on_bit_for_bit():
    found, ids = subject(), tokens(40, 8)

    def fresh(seed):
        source = ModelRows(found, lambda: [windows_of(ids[:9]), windows_of(ids[9:])], SITES,
                           budget_mb=50)  # fmt: skip
        return buffer(source, batch=16, rows=96, seed=seed, epochs=2)

    whole = kept(fresh(0))
    assert sum(len(batch[SITES[0]]) for batch in whole) == 2 * 40 * 6
    for stop in range(0, len(whole), 7):
        first, again = fresh(0), fresh(1)
        for _ in range(stop):
            next(first)
        again.restore(first.state())
        rest = kept(again)
        assert len(rest) == len(whole) - stop
        for batch, expected in zip(rest, whole[stop:], strict=True):
            assert all(torch.equal(batch[site], expected[site]) for site in SITES)


def test_windows_of_two_lengths_and_none_at_all_are_refused():
    mixed = [windows_of(tokens(2, 8)), windows_of(tokens(2, 9))]
    with pytest.raises(BadInput, match="windows of 9 tokens came after windows of 8"):
        list(ModelRows(subject(), lambda: mixed, SITES, budget_mb=50).passes())
    with pytest.raises(InsufficientData, match="no window"):
        ModelRows(subject(), lambda: [], SITES, budget_mb=50)
