"""Training that was stopped goes on to the bit, and a damaged checkpoint is refused."""

import json
from dataclasses import replace

import pytest
import torch

from energylens.core.checkpoint import RECORD, FolderCheckpoint
from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.architecture import ARCHITECTURES
from energylens.features.train import train
from energylens.features.training import TrainOptions
from tests.features.planted import planted_rows

NAMES = sorted(ARCHITECTURES)
STEPS = 47


class Killed(BaseException):
    """As abrupt as a test can be in its own process."""


class Mortal(FolderCheckpoint):
    """Dies when it is asked to save after some steps, before or after it has."""

    def __init__(self, folder, *, every, last, saves):
        super().__init__(folder, every=every)
        self._left, self._saves = last, saves

    def save(self, tensors, record):
        self._left -= 1
        if self._saves or self._left:
            super().save(tensors, record)
        if not self._left:
            raise Killed


def _options(name: str) -> TrainOptions:
    return TrainOptions(
        architecture=name, width=64, k=4, epochs=4, batch=128, dead_after_tokens=600, aux_k=8
    )


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.fixture
def rows(generator) -> torch.Tensor:
    return planted_rows(generator, n=1500)[0]


def same(one, other) -> None:
    (a, traced), (b, expected) = one, other
    assert a.architecture == b.architecture and a.weights.keys() == b.weights.keys()
    for name, weight in a.weights.items():
        assert torch.equal(weight, b.weights[name]), name
    for series in ("loss", "fvu", "dead_share", "l0"):
        assert getattr(traced, series) == getattr(expected, series), series


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("saves", [True, False])
def test_killed_and_resumed_is_uninterrupted(name, saves, rows, tmp_path):
    whole = train(rows, _options(name), _seeded())
    for every, last in ((7, 1), (5, 3)):
        dying = Mortal(tmp_path / "kept", every=every, last=last, saves=saves)
        with pytest.raises(Killed):
            train(rows, _options(name), _seeded(), checkpoint=dying)
    resumed = train(rows, _options(name), _seeded(), checkpoint=FolderCheckpoint(tmp_path / "kept"))
    same(resumed, whole)
    assert len(list((tmp_path / "kept").iterdir())) <= 2


def test_a_finished_training_is_not_made_again(rows, tmp_path):
    kept = FolderCheckpoint(tmp_path, every=STEPS)
    whole = train(rows, _options("topk"), _seeded(), checkpoint=kept)
    same(train(rows, _options("topk"), _seeded(), checkpoint=kept), whole)


@pytest.mark.parametrize("where", [10, 5_000])
def test_a_flipped_bit_is_refused(rows, tmp_path, where):
    train(rows, _options("topk"), _seeded(), checkpoint=FolderCheckpoint(tmp_path, every=20))
    (file,) = tmp_path.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[where] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactRefused, match="has changed since it was written"):
        FolderCheckpoint(tmp_path).load()


@pytest.mark.parametrize("damage", ["truncated", "gone", "record"])
def test_a_damaged_checkpoint_is_refused(rows, tmp_path, damage):
    train(rows, _options("topk"), _seeded(), checkpoint=FolderCheckpoint(tmp_path, every=20))
    (file,) = tmp_path.glob("*.safetensors")
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-7])
    elif damage == "gone":
        file.unlink()
    else:
        (tmp_path / RECORD).write_text(json.dumps({"sha256": 3}))
    with pytest.raises(ArtifactRefused, match="remove the folder to train from the beginning"):
        FolderCheckpoint(tmp_path).load()


def test_another_training_is_refused(rows, tmp_path):
    train(rows, _options("topk"), _seeded(), checkpoint=FolderCheckpoint(tmp_path, every=20))
    with pytest.raises(BadInput, match="resume with the options it was begun with"):
        train(rows, _options("gated"), _seeded(), checkpoint=FolderCheckpoint(tmp_path))
    with pytest.raises(BadInput, match="resume with the options it was begun with"):
        train(rows[:900], _options("topk"), _seeded(), checkpoint=FolderCheckpoint(tmp_path))


@pytest.mark.parametrize("change", [{"lr": 1e-3}, {"architecture": "groupmax"}, {"aux_k": 3}])
def test_other_options_of_the_same_shape_are_refused(change, rows, tmp_path):
    train(rows, _options("topk"), _seeded(), checkpoint=FolderCheckpoint(tmp_path, every=20))
    (name,) = change
    with pytest.raises(BadInput, match=f"made with another {name}"):
        train(rows, replace(_options("topk"), **change), _seeded(),
              checkpoint=FolderCheckpoint(tmp_path))  # fmt: skip


def test_other_rows_are_refused(rows, tmp_path):
    train(rows, _options("topk"), _seeded(), checkpoint=FolderCheckpoint(tmp_path, every=20))
    with pytest.raises(BadInput, match="made on other rows"):
        train(2 * rows, _options("topk"), _seeded(), checkpoint=FolderCheckpoint(tmp_path))


def test_thresholds_stay_above_zero_by_either_route(rows):
    """At first nearly everything is active, and whole products are taken."""
    options = replace(_options("jumprelu"), lr=0.05)
    dictionary, record = train(rows, options, _seeded())
    assert record.l0[0] > 64 / 24 and float(dictionary.own["threshold"].min()) >= 0


def test_time_decides_when_to_save(tmp_path):
    assert FolderCheckpoint(tmp_path, seconds=0).due(1)
    assert not FolderCheckpoint(tmp_path, seconds=60).due(1)
    assert [FolderCheckpoint(tmp_path, every=3).due(n) for n in (1, 3)] == [False, True]
