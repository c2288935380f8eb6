"""Folders of sparsify: what it computes, and what we write for it."""

import json

import pytest
import torch
from safetensors.torch import save_file

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.formats import sparsify
from tests.common.compare import assert_close
from tests.features.formats.made import WIDTH, D, K, changed, dictionary, draw, same, write_json

CONFIG = {
    "activation": "topk", "expansion_factor": 5, "normalize_decoder": True, "num_latents": 0,
    "k": K, "multi_topk": False, "skip_connection": False, "transcode": False, "d_in": D,
}  # fmt: skip


def write(folder, generator, **changes):
    config = changed(CONFIG, **changes)
    kept = {
        "encoder.weight": draw(generator, WIDTH, D), "encoder.bias": 0.3 * draw(generator, WIDTH),
        "W_dec": draw(generator, WIDTH, D), "b_dec": draw(generator, D),
    }  # fmt: skip
    if config.get("skip_connection"):
        kept["W_skip"] = draw(generator, D, D)
    write_json(folder / "cfg.json", **config)
    save_file(kept, folder / "sae.safetensors")
    return folder, kept


def formula(kept, x, *, transcode, activation):
    z = (x if transcode else x - kept["b_dec"]) @ kept["encoder.weight"].T + kept["encoder.bias"]
    if activation == "topk":
        values, where = z.relu().topk(K, dim=1)
    else:
        values, where = z.relu().unflatten(1, (K, -1)).max(2)
        where = where + torch.arange(0, WIDTH, WIDTH // K)
    acts = torch.zeros(len(x), WIDTH).scatter(1, where, values)
    made = acts @ kept["W_dec"] + kept["b_dec"]
    return acts, made + x @ kept["W_skip"].T if "W_skip" in kept else made


@pytest.mark.parametrize("activation", ["topk", "groupmax"])
@pytest.mark.parametrize("transcode", [True, False])
@pytest.mark.parametrize("skip", [True, False])
def test_every_kind_does_what_it_does_there(activation, transcode, skip, generator, tmp_path):
    folder, kept = write(
        tmp_path / "layers.5", generator, activation=activation, transcode=transcode,
        skip_connection=skip,
    )  # fmt: skip
    x = draw(generator, 30, D)
    acts, made = formula(kept, x, transcode=transcode, activation=activation)
    found = sparsify.load(folder)
    assert_close(found.encode(x).dense(), acts, rtol=1e-5, atol=1e-5)
    assert_close(found.reconstruct(x), made, rtol=1e-4, atol=1e-4)


def test_old_files_lack_settings_and_have_others(generator, tmp_path):
    folder, _ = write(
        tmp_path / "layers.5", generator, activation=None, transcode=None, skip_connection=None,
        num_latents=None, signed=False,
    )  # fmt: skip
    write_json(tmp_path / "config.json", model="EleutherAI/pythia-70m", layers=[5])
    found = sparsify.load(folder)
    assert (found.architecture, found.k, found.subtracts_b_dec) == ("topk", K, True)
    assert found.metadata == {
        "hookpoint": "layers.5", "hook_name": "blocks.5.resid_post",
        "model_name": "EleutherAI/pythia-70m",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["topk", "groupmax"])
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("subtracts", [True, False])
def test_what_is_saved_does_the_same(name, skip, subtracts, generator, tmp_path):
    made = dictionary(name, generator, skip=skip, subtracts_b_dec=subtracts)
    folder = sparsify.save(made, tmp_path / "layers.5.mlp")
    same(sparsify.load(folder), made, draw(generator, 30, D))
    config = json.loads((folder / "cfg.json").read_text())
    assert config == CONFIG | {
        "activation": name, "num_latents": WIDTH, "normalize_decoder": False,
        "transcode": not subtracts, "skip_connection": skip,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "how"), [("gated", {}), ("topk", {"d_out": 6, "subtracts_b_dec": False})]
)
def test_what_sparsify_does_not_have_is_not_written(name, how, generator, tmp_path):
    with pytest.raises(BadInput, match=f"a {name} from 8 to . values cannot be written"):
        sparsify.save(dictionary(name, generator, **how), tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "relu"}, "asks for 'relu', read are topk, groupmax"),
        ({"signed": True}, "signed 'topk'"),
        ({"k": "5"}, "needs k as int"),
        ({"k": 0}, "k must lie in 1 … 40"),
        ({"d_in": None}, "needs d_in as int"),
        ({"num_latents": 41}, "says 41 latents of 8 values, the tensors have 40 of 8"),
        ({"expansion_factor": 4}, "says 32 latents"),
        ({"activation": "groupmax", "k": 7}, "k = 7 does not divide 40"),
        ({"activation": "groupmax", "k": 0}, "k must lie in 1 … 40"),
    ],
)
def test_settings_that_are_not_read_are_named(changes, message, generator, tmp_path):
    folder, _ = write(tmp_path / "layers.5", generator, **changes)
    with pytest.raises(ArtifactRefused, match=message):
        sparsify.load(folder)


def test_tensors_that_are_missing_left_over_or_misshaped_are_named(generator, tmp_path):
    folder, kept = write(tmp_path / "layers.5", generator, skip_connection=True)
    path = folder / sparsify.WEIGHTS
    for name in kept:
        save_file({n: t for n, t in kept.items() if n != name}, path)
        with pytest.raises(ArtifactRefused, match=f"{name} not found"):
            sparsify.load(folder)
        save_file(kept | {name: torch.ones(3, 3, 3)}, path)
        with pytest.raises(ArtifactRefused, match=f"{name} should have shape"):
            sparsify.load(folder)
    write_json(folder / "cfg.json", **CONFIG)
    save_file(kept, path)
    with pytest.raises(ArtifactRefused, match="found W_skip as well"):
        sparsify.load(folder)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ArtifactRefused, match="no readable safetensors"):
        sparsify.load(folder)
