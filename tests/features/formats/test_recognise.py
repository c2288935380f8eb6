"""Which format lies at a path, and what is said when none does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import energylens as el
from energylens.core.checkpoint import FolderCheckpoint
from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.crosscoder import SITES, Crosscoder
from energylens.features.formats import (
    circuit_tracer,
    cross_layer,
    own_layers,
    saelens,
    sparsify,
)
from energylens.features.formats.recognise import FORMATS, load_dictionary, load_one
from tests.common.compare import assert_close
from tests.features.formats.made import D, dictionary, draw, save_pickle, write_json
from tests.features.formats.test_cross_layer import LAYERS, transcoder
from tests.features.formats.test_dictionary_learning import state_of, write
from tests.features.formats.test_gemma_scope import params, write_npz
from tests.features.formats.test_openai import state_of as openai_state


def _saelens(folder, generator):
    return saelens.save(dictionary("gated", generator), folder), "gated"


def _sparsify(folder, generator):
    return sparsify.save(dictionary("groupmax", generator), folder), "groupmax"


def _dictionary_learning(folder, generator):
    return write(folder, "AutoEncoderTopK", state_of("AutoEncoderTopK", generator)[0]), "topk"


def _openai(folder, generator):
    return save_pickle(folder / "0.pt", openai_state(generator)), "standard"


def _gemma_scope(folder, generator):
    return write_npz(folder / "params.npz", params(generator)).parent, "jumprelu"


def _gemma_scope_2(folder, generator):
    folder.mkdir()
    kept = {n.replace("W_", "w_"): w for n, w in params(generator).items()}
    save_file(kept, folder / "params.safetensors")
    return folder, "jumprelu"


def _circuit_tracer(folder, generator):
    made = dictionary("standard", generator, subtracts_b_dec=False)
    return circuit_tracer.save(made, folder / "layer_3.safetensors"), "standard"


def _cross_layer(folder, generator):
    return cross_layer.save(transcoder("jumprelu", generator), folder), "jumprelu"


def _own_layers(place, generator):
    made = replace(transcoder("standard", generator), architecture="topk")
    return own_layers.save(made, place), "topk"


WRITERS = {
    "SAELens": _saelens, "sparsify": _sparsify, "dictionary_learning": _dictionary_learning,
    "OpenAI": _openai, "Gemma Scope": _gemma_scope, "Gemma Scope 2": _gemma_scope_2,
    "circuit-tracer": _circuit_tracer, "circuit-tracer across layers": _cross_layer,
    "Energylens across layers": _own_layers,
}  # fmt: skip


def test_every_format_is_tried_here():
    assert set(WRITERS) == set(FORMATS)


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_format_is_found_out(name, generator, tmp_path):
    path, architecture = WRITERS[name](tmp_path / "d", generator)
    found = load_dictionary(path, allow_pickle=True)
    assert found.architecture == architecture
    x = draw(generator, 4, D)
    inside = [path / n for n in FORMATS[name].files] if path.is_dir() else [str(path)]
    assert inside
    for stand_in in inside:
        again = load_dictionary(stand_in, allow_pickle=True)
        if name.endswith("across layers"):
            inputs = dict.fromkeys(range(LAYERS), x)
            made, expected = (torch.stack(list(m.reconstruct(inputs).values()))
                              for m in (again, found))  # fmt: skip
            assert torch.equal(made, expected)
        else:
            assert torch.equal(again.reconstruct(x), found.reconstruct(x))
    if FORMATS[name].pickle:
        with pytest.raises(ArtifactRefused, match="is a pickle"):
            load_dictionary(path)


def test_who_works_on_one_site_is_not_given_several(generator, tmp_path):
    one = saelens.save(dictionary("topk", generator), tmp_path / "one")
    assert load_one(one).architecture == "topk"
    several = cross_layer.save(transcoder("jumprelu", generator), tmp_path / "several")
    with pytest.raises(ArtifactRefused, match="is a CrossLayerTranscoder, and a dictionary of one"):
        load_one(several)


def test_a_state_of_training_is_of_dictionary_learning(generator, tmp_path):
    folder, _ = _dictionary_learning(tmp_path / "d", generator)
    (folder / "ae.pt").rename(folder / "moved.pt")
    (folder / "checkpoints").mkdir()
    (folder / "moved.pt").rename(folder / "checkpoints" / "ae_9.pt")
    assert load_dictionary(folder / "checkpoints/ae_9.pt", allow_pickle=True).architecture == "topk"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "expected are .*found nothing"),
        (
            ["notes.txt", "a.bin"],
            "cfg.json with sae_weights.safetensors of SAELens.*found a.bin,",
        ),
        (["cfg.json"], "holds cfg.json, but not sae_weights.safetensors of SAELens or sae.safet"),
        (["sae_weights.safetensors"], "holds sae_weights.safetensors, but not cfg.json of SAELens"),
        (["ae.pt"], "holds ae.pt, but not config.json of dictionary_learning"),
    ],
)
def test_a_folder_that_is_none_says_what_is_missing(files, message, tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    for name in files:
        (folder / name).write_text("{}")
    with pytest.raises(ArtifactRefused, match=message):
        load_dictionary(folder)


def test_a_folder_of_dictionaries_names_one_of_them(generator, tmp_path):
    _sparsify(tmp_path / "layers.5", generator)
    with pytest.raises(ArtifactRefused, match="but layers.5 in it is one of sparsify: name it"):
        load_dictionary(tmp_path)
    _circuit_tracer(tmp_path / "set", generator)
    with pytest.raises(ArtifactRefused, match="layer_3.safetensors in it is one of circuit-tracer"):
        load_dictionary(tmp_path / "set")


def test_a_folder_of_two_programs_is_refused(generator, tmp_path):
    folder, _ = _saelens(tmp_path / "d", generator)
    write_npz(folder / "params.npz", params(generator))
    with pytest.raises(ArtifactRefused, match="could be of Gemma Scope or SAELens"):
        load_dictionary(folder)


def test_a_checkpoint_of_training_is_called_what_it_is(generator, tmp_path):
    checkpoint = FolderCheckpoint(tmp_path / "kept", every=1)
    checkpoint.save({"W_enc": draw(generator, 4, D)}, {"step": 3})
    for path in (tmp_path / "kept", *(tmp_path / "kept").iterdir()):
        with pytest.raises(ArtifactRefused, match="is a checkpoint of a training .*not a dict"):
            load_dictionary(path)
    with pytest.raises(ArtifactRefused, match="no dictionary that can be read.*found kept"):
        load_dictionary(tmp_path)


def test_a_path_with_nothing_or_something_else_is_refused(tmp_path):
    with pytest.raises(ArtifactRefused, match="nowhere does not exist"):
        load_dictionary(tmp_path / "nowhere")
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(ArtifactRefused, match="found the file x.csv"):
        load_dictionary(tmp_path / "x.csv")
    write_json(tmp_path / "d" / "config.json")
    np.save(tmp_path / "d" / "x.npy", np.zeros(2))
    with pytest.raises(ArtifactRefused, match="holds config.json, but not ae.pt"):
        load_dictionary(tmp_path / "d")


def test_every_kind_of_dictionary_is_read_back_as_it_was_saved(tmp_path, generator):
    one, layers = dictionary("topk", generator), transcoder("topk", generator)
    sites = [{"name": n, "width": D // 2, "spread": 1.0} for n in "ab"]
    two = Crosscoder.of(replace(one, metadata={SITES: sites}))
    for made in (one, two, layers):
        folder = el.save_dictionary(made, tmp_path / type(made).__name__)
        again = el.load_dictionary(folder)
        assert type(again) is type(made) and again.weights.keys() == made.weights.keys()
        for name, weight in made.weights.items():
            assert_close(again.weights[name], weight)
    with pytest.raises(BadInput, match="Dictionary"):
        el.save_dictionary(one, tmp_path / "Dictionary")
