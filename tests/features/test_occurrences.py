"""The streamed pass against an oracle that looks at every token."""

from dataclasses import replace

import pytest
import torch

from energylens.core.errors import BadInput
from energylens.features.code import SparseCode
from energylens.features.occurrences import AFTER, BEFORE, Occurrences, bin_edge, bin_of
from tests.oracles import browsing

WIDTH, WINDOWS, CONTEXT, ACTIVE = 12, 30, 40, 3


@pytest.fixture
def text(generator):
    """A code of windows whose first and last places are not read, and a hole in one of them."""
    mask = torch.ones(WINDOWS, CONTEXT, dtype=torch.bool)
    mask[:, 0] = mask[:, -1] = mask[4, 9] = False
    places = mask.nonzero()
    scores = torch.rand(len(places), WIDTH - 1, generator=generator)  # the last is never active
    indices = scores.topk(ACTIVE, dim=1).indices
    values = torch.rand(len(places), ACTIVE, generator=generator).mul(8).round() / 2  # many ties
    return SparseCode(indices=indices, values=values, width=WIDTH), places


DOCUMENT = torch.arange(WINDOWS) // 2


def read(text, *, at_once, drawn=4, seed=0):
    code, places = text
    seen = Occurrences(width=WIDTH, top=3, drawn=drawn, context=CONTEXT, like=code.values)
    keys = torch.Generator().manual_seed(seed)
    for first in range(0, WINDOWS, at_once):
        here = (places[:, 0] >= first) & (places[:, 0] < first + at_once)
        seen.add(code.of_rows(here), places[here], DOCUMENT, keys)
    return seen


def oracle(text):
    code, places = text
    windows, positions = (column.tolist() for column in places.unbind(1))
    dense = code.dense().double().tolist()
    return (
        dense,
        windows,
        positions,
        browsing.occurrences(dense, windows, positions, DOCUMENT.tolist(), WIDTH),
    )


@pytest.mark.parametrize("at_once", [1, 7, WINDOWS])
def test_counts_and_top_windows_are_the_oracles(text, at_once):
    seen = read(text, at_once=at_once)
    dense, windows, positions, expected = oracle(text)
    assert seen.tokens == len(dense)
    for feature, there in enumerate(expected):
        for name in ("active", "windows", "documents"):
            assert int(getattr(seen, name)[feature]) == there[name], name
        assert float(seen.total[feature]) == pytest.approx(there["total"], rel=1e-12)
        assert seen.histogram[feature].tolist() == there["histogram"]
        slots = [
            (float(seen.top.score[feature, i]), int(seen.top.window[feature, i]),
             int(seen.top.position[feature, i]))
            for i in range(3) if bool(seen.top.filled[feature, i])
        ]  # fmt: skip
        assert slots == there["top"][:3]
        for i, (_, window, position) in enumerate(slots):
            around = browsing.trace(dense, windows, positions, feature, window, position,
                                    BEFORE, AFTER, CONTEXT)  # fmt: skip
            assert seen.top.trace[feature, i].tolist() == pytest.approx(around, abs=1e-6)


def test_the_drawn_windows_are_real_and_each_stands_once(text):
    seen = read(text, at_once=5)
    expected = oracle(text)[3]
    for feature, there in enumerate(expected):
        filled = seen.drawn.filled[feature]
        drawn = seen.drawn.window[feature][filled].tolist()
        assert len(drawn) == len(set(drawn)) == min(4, there["windows"])
        peaks = {(w, p): v for v, w, p in there["top"]}
        for slot in filled.nonzero()[:, 0].tolist():
            where = int(seen.drawn.window[feature, slot]), int(seen.drawn.position[feature, slot])
            assert float(seen.drawn.trace[feature, slot, BEFORE]) == pytest.approx(peaks[where])


def test_every_window_is_drawn_equally_often(text):
    counts = torch.zeros(WINDOWS)
    for seed in range(300):
        drawn = read(text, at_once=10, drawn=2, seed=seed).drawn
        counts += torch.bincount(drawn.window[0][drawn.filled[0]], minlength=WINDOWS)
    there = torch.tensor([w for _, w, _ in oracle(text)[3][0]["top"]])
    share = counts[there] / 300
    assert share.sum() == 2
    even = 2 / len(there)
    assert bool(((share - even).abs() < 4.5 * (even * (1 - even) / 300) ** 0.5).all())


def test_a_pass_that_is_taken_up_again_ends_the_same(text):
    code, places = text
    whole = read(text, at_once=15)
    keys = torch.Generator().manual_seed(0)
    half = Occurrences(width=WIDTH, top=3, drawn=4, context=CONTEXT, like=code.values)
    first = places[:, 0] < 15
    half.add(code.of_rows(first), places[first], DOCUMENT, keys)
    again = Occurrences(width=WIDTH, top=3, drawn=4, context=CONTEXT, like=code.values)
    again.restore({name: value.clone() for name, value in half.state().items()})
    again.add(code.of_rows(~first), places[~first], DOCUMENT, keys)
    for name, value in whole.state().items():
        assert torch.equal(again.state()[name], value), name


def test_rows_without_an_entry_are_no_harm(text):
    code, places = text
    silent = replace(code, values=torch.zeros_like(code.values))
    seen = Occurrences(width=WIDTH, top=3, drawn=4, context=CONTEXT, like=code.values)
    seen.add(silent, places, DOCUMENT, torch.Generator())
    assert seen.tokens == len(places) and int(seen.active.sum()) == 0


def test_a_code_of_another_width_is_refused(text):
    code, places = text
    seen = Occurrences(width=WIDTH + 1, top=1, drawn=1, context=CONTEXT, like=code.values)
    with pytest.raises(BadInput, match="places of 13 features were asked for, found a code of 12"):
        seen.add(code, places, DOCUMENT, torch.Generator())


def test_a_bin_holds_what_lies_between_its_edges():
    for number in (20, 32, 33, 50):
        low, high = bin_edge(number), bin_edge(number + 1)
        assert bin_of(torch.tensor([low * 1.0001, high * 0.9999])).tolist() == [number, number]
