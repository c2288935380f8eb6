"""Our own folder across layers: any architecture, written, read, and refused."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.formats import own_layers
from energylens.features.formats.recognise import load_dictionary
from tests.features.formats.test_cross_layer import inputs_of, transcoder


@pytest.mark.parametrize("name", ["topk", "groupmax", "jumprelu"])
def test_what_is_saved_is_what_is_loaded(name, generator, tmp_path):
    kind = "jumprelu" if name == "jumprelu" else "standard"
    made = replace(
        transcoder(kind, generator, feature_input_hook="resid_mid"), architecture=name,
        layers=(2, 3, 7),
    )  # fmt: skip
    folder = own_layers.save(made, tmp_path / "clt")
    found = load_dictionary(folder)
    assert (found.architecture, found.k, found.layers) == (name, 5, (2, 3, 7))
    assert found.metadata == made.metadata
    assert all(torch.equal(found.weights[n], w) for n, w in made.weights.items())
    rows = dict(zip(made.layers, inputs_of(generator).values(), strict=True))
    for layer, rebuilt in made.reconstruct(rows).items():
        assert torch.equal(found.reconstruct(rows)[layer], rebuilt)
    with pytest.raises(BadInput, match="exists already"):
        own_layers.save(made, folder)
    assert load_dictionary(folder / "cross_layer.safetensors").width == made.width


def test_what_training_alone_has_is_written_as_what_it_becomes(generator, tmp_path):
    made = replace(transcoder("jumprelu", generator), architecture="jumprelu_tanh")
    assert own_layers.load(own_layers.save(made, tmp_path / "clt")).architecture == "jumprelu"


def _settings(**change):
    def spoil(folder):
        said = json.loads((folder / "cross_layer.json").read_text())
        (folder / "cross_layer.json").write_text(json.dumps(said | change))

    return spoil


def _tensors(**change):
    def spoil(folder):
        path = folder / "cross_layer.safetensors"
        kept = {n: w for n, w in (load_file(path) | change).items() if w is not None}
        save_file(kept, path)

    return spoil


@pytest.mark.parametrize(("spoil", "words"), [
    (_settings(schema=2), "should say schema 1"),
    (_settings(layers=[1, 0, 2]), "ascending layers"),
    (_settings(architecture="none such"), "a known architecture"),
    (_settings(layers=[0, 1]), "should hold"),
    (_tensors(**{"W_enc.1": None}), "should hold"),
    (_tensors(**{"W_enc.1": torch.zeros(3, 8)}), r"W_enc.1 should be .* of shape"),
    (_tensors(**{"b_dec": torch.full((3, 6), torch.nan)}), "b_dec holds values that are nan"),
    (_tensors(**{"W_dec.1": torch.zeros(4, 3, 8)}), r"decoders to \[3, 3, 1\] layers"),
    (lambda folder: (folder / "cross_layer.json").write_text("{"), "is not JSON"),
    (lambda folder: (folder / "cross_layer.safetensors").write_bytes(b"x" * 99), "no readable"),
])  # fmt: skip
def test_what_is_damaged_is_refused(spoil, words, generator, tmp_path):
    made = replace(transcoder("standard", generator), architecture="topk")
    folder = own_layers.save(made, tmp_path / "clt")
    spoil(folder)
    with pytest.raises(ArtifactRefused, match=words) as told:
        own_layers.load(folder)
    assert "\n" not in str(told.value)


def test_what_is_not_finite_or_no_json_is_not_written(generator, tmp_path):
    made = transcoder("standard", generator)
    with pytest.raises(BadInput, match="b_dec holds values that are nan"):
        own_layers.save(replace(made, b_dec=made.b_dec * torch.nan), tmp_path / "a")
    with pytest.raises(BadInput, match="metadata must be finite JSON"):
        own_layers.save(replace(made, metadata={"x": torch.nan}), tmp_path / "b")
