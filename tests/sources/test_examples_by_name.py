"""Sets of examples are found by name, in files and on a hub, and runs are called after them."""

import numpy as np
import pytest
import torch

from energylens.core.errors import BadInput, UnknownName
from energylens.sources.examples import split
from energylens.sources.examples_by_name import examples_named, short_name
from tests.sources.test_hub_examples import pictures
from tests.sources.test_idx import write_qmnist


def test_digits_of_one_writer_are_on_one_side(tmp_path, generator):
    writers = np.repeat(np.arange(20), 3)
    labels = np.stack([np.arange(60) % 10, np.zeros(60), writers, *np.zeros((5, 60))], 1)
    pixels = np.arange(60 * 16).reshape(60, 4, 4) % 256
    folder = write_qmnist(tmp_path / "Q MNIST", pixels.astype("u1"), labels.astype("i4"))
    found = examples_named(str(folder))
    assert found.shape == (1, 4, 4) and found.name == short_name(str(folder)) == "Q-MNIST"
    assert found.labels.tolist() == (np.arange(60) % 10).tolist() and len(found.classes) == 10
    assert found.inputs[1, 0, 0, 1].item() == pytest.approx(17 / 255)
    parts = split(found, generator)
    assert not set(parts.train.units.tolist()) & set(parts.held_out.units.tolist())
    assert len(parts.held_out) == 12 and len(parts.held_out.units.unique()) == 4


def test_images_of_an_npz_file_are_units_of_their_own(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, images=np.zeros((9, 5, 5), dtype="u1"), labels=np.arange(9) % 2)
    found = examples_named(str(path))
    assert found.name == "mine" and found.units.tolist() == list(range(9))
    with pytest.raises(BadInput, match=r"no images are at .*other.npz"):
        examples_named(str(tmp_path / "other.npz"))
    with pytest.raises(UnknownName, match="did you mean 'digits'"):
        examples_named("digit")


def test_columns_of_a_hub_are_asked_for(datasets, tmp_path):
    where = pictures(tmp_path / "d").name
    found = examples_named(f"hf:{where}#image,label")
    assert torch.equal(found.labels, torch.tensor([0, 1, 1])) and found.name == "d"
    for form in (f"hf:{where}", f"hf:{where}#image", f"hf:{where}#image,"):
        with pytest.raises(BadInput, match="should end in #GIVEN,LABEL"):
            examples_named(form)
