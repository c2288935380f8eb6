"""Dictionaries by name: what is fetched of a repository, what is not, and what is said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import energylens as el
from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.formats import circuit_tracer, gemma_scope, saelens, sparsify
from energylens.features.pretrained import choose, from_pretrained, locate, split
from tests.common.hub import COMMIT, FakeHub, point_at, serving
from tests.features.formats.made import D, dictionary, draw, save_pickle, write_json


@pytest.fixture
def fake_hub(generator, tmp_path, monkeypatch):
    """A repository with dictionaries of five formats, and with what must not be fetched."""
    folder = tmp_path / "hub"
    plain = {"subtracts_b_dec": False}
    saelens.save(dictionary("gated", generator), folder / "blocks.5" / "width_40")
    gemma_scope.save(dictionary("jumprelu", generator, **plain), folder / "layer_7" / "l0_71")
    sparsify.save(dictionary("topk", generator), folder / "layers.2")
    write_json(folder / "config.json", model="owner/lm")
    for layer in (0, 1):
        path = folder / "clt" / f"layer_{layer}.safetensors"
        circuit_tracer.save(dictionary("standard", generator, **plain), path)
    state = {"encoder.weight": draw(generator, 40, D), "encoder.bias": draw(generator, 40),
             "decoder.weight": draw(generator, D, 40), "bias": draw(generator, D)}  # fmt: skip
    save_pickle(folder / "old" / "ae.pt", state)
    write_json(folder / "old" / "config.json", trainer={"dict_class": "AutoEncoder"})
    for name in ("run.py", "optimizer.pt", "sparsity.safetensors", "more/x.safetensors"):
        path = folder / "blocks.5" / "width_40" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise SystemExit")
    with serving(folder) as address:
        point_at(monkeypatch, address, tmp_path / "cache")
        yield FakeHub


def fetched(hub):
    return sorted({line.split(f"resolve/{COMMIT}/")[1] for line in hub.asked if "resolve" in line})


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ("blocks.5/width_40",
         ["blocks.5/width_40/cfg.json", "blocks.5/width_40/sae_weights.safetensors"]),
        ("layer_7/l0_71", ["layer_7/l0_71/params.npz"]),
        ("layers.2", ["config.json", "layers.2/cfg.json", "layers.2/sae.safetensors"]),
        ("clt/layer_1.safetensors", ["clt/layer_1.safetensors", "config.json"]),
    ],
)  # fmt: skip
def test_the_files_of_one_dictionary_are_fetched_and_no_others(where, wanted, fake_hub, generator):
    found = el.from_pretrained(f"some/model/{where}")
    assert fetched(fake_hub) == wanted
    x = draw(generator, 5, D)
    here = el.load_dictionary(fake_hub.folder / where)
    assert torch.equal(found.reconstruct(x), here.reconstruct(x))
    fake_hub.asked.clear()
    for again in (
        from_pretrained(f"some/model:{where}", offline=True),
        from_pretrained("some/model", subfolder=where, offline=True),
        from_pretrained("some/model", subfolder=where, revision=COMMIT, offline=True),
    ):
        assert torch.equal(again.reconstruct(x), here.reconstruct(x))
    assert fake_hub.asked == []


def test_where_it_is_from_is_told(fake_hub):
    place = locate("some/model/layers.2")
    assert place.source == f"hub some/model@{COMMIT} layers.2" and place.revision == COMMIT
    assert from_pretrained("some/model/layers.2").metadata["model_name"] == "owner/lm"


def test_a_pickle_is_fetched_on_request_alone(fake_hub):
    with pytest.raises(ArtifactRefused, match="but one that is a pickle: if you trust it"):
        from_pretrained("some/model/old")
    assert fetched(fake_hub) == []
    found = from_pretrained("some/model/old", allow_pickle=True)
    assert found.architecture == "standard"
    assert fetched(fake_hub) == ["config.json", "old/ae.pt", "old/config.json"]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("some/model/blocks.5/width_41", "did you mean blocks.5/width_40"),
        ("some/model/blocks.5", "did you mean blocks.5/width_40"),
        ("some/model", "no dictionary at its top: there is blocks.5/width_40, layer_7/l0_71, lay"),
        ("some/model/clt", "did you mean clt/layer_0.safetensors, clt/layer_1.safetensors"),
        ("some/model/blocks.5/width_40/run.py", "no dictionary at 'blocks.5/width_40/run.py'"),
        ("some/absent/x", "no path and no public hub model is named 'some/absent'"),
        ("some/gated", "dictionary 'some/gated' is gated"),
        ("some/broken", r"the hub answered with an error \(500\).*give a folder or file"),
        ("nothing", "'nothing' is neither a path that exists nor a place on the hub"),
        ("/no/such/folder", "neither a path that exists"),
        ("../up", "neither a path that exists"),
        ("some/model/../../etc", r"names '\.\.' as a folder"),
        ("some/model:../etc", r"names '\.\.' as a folder"),
        ("some/model:a/./b", r"names '\.' as a folder"),
        ("some/model:a\\b", "as a folder of a repository"),
        ("some/model/x:y", "neither a path that exists"),
    ],
)
def test_refusals_are_one_sentence(where, message, fake_hub):
    with pytest.raises(BadInput, match=message) as error:
        from_pretrained(where)
    assert "\n" not in str(error.value) and fetched(fake_hub) == []


def test_what_the_cache_lacks_is_said(fake_hub):
    with pytest.raises(BadInput, match="is not on this machine and the hub is switched off"):
        from_pretrained("some/model/layers.2", offline=True)
    from_pretrained("some/model/layers.2")
    with pytest.raises(ArtifactRefused, match=r"the cache has no 'layer_7/l0_71' of 'some/model'"):
        from_pretrained("some/model/layer_7/l0_71", offline=True)


def test_a_name_in_a_repository_is_no_pattern():
    names = ["a[bc]/cfg.json", "a[bc]/sae.safetensors", "ab/cfg.json", "ab/sae.safetensors"]
    assert choose("some/model", "a[bc]", names) == names[:2]


def test_paths_on_this_machine_come_first(generator, tmp_path, monkeypatch):
    saelens.save(dictionary("topk", generator), tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    assert from_pretrained("owner/name").architecture == "topk"
    assert from_pretrained(tmp_path / "owner", subfolder="name").architecture == "topk"
    assert split("owner/name//a/b/") == ("owner/name", "a/b")


def test_the_variables_of_the_hubs_library_are_heeded(fake_hub, tmp_path):
    """A fresh process with HF_ENDPOINT, as a mirror is used."""
    from huggingface_hub import constants

    code = (
        "import energylens as el, json; d = el.from_pretrained('some/model/layers.2');"
        "print(json.dumps([d.architecture, d.width]))"
    )
    env = {**os.environ, "HF_ENDPOINT": constants.ENDPOINT, "HF_HOME": str(tmp_path / "home"),
           "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(Path(el.__file__).parents[1])}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["topk", 40] and done.stderr == ""
