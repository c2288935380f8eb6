"""Examples of the hub, tried on folders of this machine."""

import numpy as np
import pytest
import torch

from energylens.core.errors import BadInput, UnknownName
from energylens.sources import hub_examples as room
from energylens.sources.examples import EXAMPLE_SETS
from energylens.sources.hub_examples import hub_examples
from energylens.sources.hub_text import HubText
from energylens.sources.words import WORDS, word_numbers

COLUMNS = {"given": "image", "label": "label"}


def written(folder, columns: dict, kinds: dict):
    """A dataset of one Parquet file that says what its columns are, as the hub's do."""
    import datasets

    folder.mkdir()
    features = datasets.Features(kinds | {"label": datasets.ClassLabel(names=["cat", "dog"])})
    made = datasets.Dataset.from_dict(columns, features=features)
    made.to_parquet(str(folder / "train-00000.parquet"))
    return HubText(name=str(folder))


def pictures(folder, sizes=((4, 4), (4, 4), (4, 4))):
    import datasets
    from PIL import Image

    drawn = [Image.fromarray(np.full(size, 10 * i, dtype=np.uint8)) for i, size in enumerate(sizes)]
    columns = {"image": drawn, "label": [0, 1, 1][: len(drawn)]}
    return written(folder, columns, {"image": datasets.Image()})


def test_images_come_with_their_classes(datasets, tmp_path):
    found = hub_examples(pictures(tmp_path / "d"), name="mine", **COLUMNS)
    assert found.shape == (1, 4, 4) and found.classes == ["cat", "dog"] and found.words == 0
    assert found.labels.tolist() == [0, 1, 1] and found.units.tolist() == [0, 1, 2]
    assert found.inputs[2].unique().item() == pytest.approx(20 / 255)
    assert found.source.startswith("dataset d ")


def test_colours_are_channels(datasets, tmp_path):
    wide = pictures(tmp_path / "d", sizes=((5, 3, 3),))
    assert hub_examples(wide, name="mine", **COLUMNS).shape == (3, 5, 3)


def test_texts_are_words_and_those_without_any_are_left_out(datasets, tmp_path):
    columns = {"text": ["war and peace", "1918", "peace"], "label": [0, 1, 1]}
    texts = written(tmp_path / "d", columns, {"text": datasets.Value("string")})
    found = hub_examples(texts, name="mine", given="text", label="label")
    assert found.words == WORDS and found.labels.tolist() == [0, 1]
    assert found.inputs[0, :3].tolist() == word_numbers("war and peace")


def test_rows_are_counted_off(datasets, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "MOST", 2)
    assert len(hub_examples(pictures(tmp_path / "d"), name="mine", **COLUMNS)) == 2


def test_what_cannot_be_read_is_one_sentence(datasets, tmp_path):
    good = pictures(tmp_path / "d")
    with pytest.raises(BadInput, match="has no column 'img': its columns are image, label"):
        hub_examples(good, name="mine", given="img", label="label")
    with pytest.raises(BadInput, match="its label <PIL"):
        hub_examples(good, name="mine", given="image", label="image")
    with pytest.raises(BadInput, match="is of type int: images and texts are read"):
        hub_examples(good, name="mine", given="label", label="label")
    with pytest.raises(UnknownName, match="no split of"):
        hub_examples(HubText(name=good.name, split="tests"), name="mine", **COLUMNS)
    uneven = pictures(tmp_path / "e", sizes=((4, 4), (4, 5)))
    with pytest.raises(BadInput, match="row 1 of e has the shape"):
        hub_examples(uneven, name="mine", **COLUMNS)


def test_sets_of_the_hub_say_what_is_missing(monkeypatch):
    """Without the package, or without a hub, a set is refused in a sentence, not with a trace."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hubs = [name for name, one in EXAMPLE_SETS.items() if not one.bundled]
    assert hubs == ["ag-news", "cifar10", "fashion-mnist"]
    for name in hubs:
        with pytest.raises(BadInput, match=r"energylens\[data\]|hub is switched off"):
            EXAMPLE_SETS[name].load()


def test_a_label_must_be_a_class():
    with pytest.raises(BadInput, match="its label 'dog' is no class"):
        room._read([{"image": np.zeros((2, 2)), "label": "dog"}], "image", "label", "here")
    with pytest.raises(BadInput, match="here has no rows"):
        room._read([], "image", "label", "here")
    inputs, labels, _ = room._read(
        [{"image": np.full((2, 2), 255, dtype=np.uint8), "label": 3}], "image", "label", "here"
    )
    assert torch.equal(inputs, torch.ones(1, 1, 2, 2)) and labels.tolist() == [3]
