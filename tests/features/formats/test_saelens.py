import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.dictionary import Dictionary
from energylens.features.formats import disk, saelens
from tests.common.compare import assert_close
from tests.features.planted import random_weights, topk_dictionary

NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")


@pytest.fixture
def dictionary(generator) -> Dictionary:
    weights = random_weights(generator, width=40, d=8, dtype=torch.float32)
    return topk_dictionary(
        weights, 5, hook_name="blocks.15.resid_post", model_name="tiny", notes={"rows": 3}
    )


@pytest.fixture
def folder(dictionary, tmp_path) -> Path:
    return saelens.save(dictionary, tmp_path / "dictionary")


def _edit(folder: Path, **changes: object) -> None:
    path = folder / saelens.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _edit_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    kept = load_file(folder / saelens.WEIGHTS) | changes
    save_file({n: t for n, t in kept.items() if t is not None}, folder / saelens.WEIGHTS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_saved_comes_back(dictionary, tmp_path, dtype):
    dictionary = dictionary.to(dtype=dtype)
    found = saelens.load(saelens.save(dictionary, tmp_path / "here" / "there"))
    for name in NAMES:
        assert getattr(found, name).dtype == dtype
        assert torch.equal(getattr(found, name), getattr(dictionary, name))
    assert found.W_enc.is_contiguous()
    assert (found.k, found.architecture, found.metadata) == (5, "topk", dictionary.metadata)


def test_the_files_are_as_saelens_lays_them_out(dictionary, folder):
    assert {p.name for p in folder.iterdir()} == {"cfg.json", "sae_weights.safetensors"}
    config = json.loads((folder / "cfg.json").read_text())
    assert (config["architecture"], config["d_in"], config["d_sae"], config["k"]) == (
        "topk", 8, 40, 5,
    )  # fmt: skip
    assert config["metadata"]["hook_name"] == "blocks.15.hook_resid_post"
    assert int(config["metadata"]["sae_lens_version"].split(".")[0]) >= 6
    kept = load_file(folder / "sae_weights.safetensors")
    assert {n: tuple(t.shape) for n, t in kept.items()} == {
        "W_enc": (8, 40), "b_enc": (40,), "W_dec": (40, 8), "b_dec": (8,),
    }  # fmt: skip
    x = torch.randn(6, 8)
    pre = (x - kept["b_dec"]) @ kept["W_enc"] + kept["b_enc"]
    top = pre.topk(5, dim=1)
    acts = torch.zeros(6, 40).scatter(1, top.indices, top.values.relu())
    made = acts @ kept["W_dec"] + kept["b_dec"]
    assert_close(dictionary.reconstruct(x), made, rtol=1e-5, atol=1e-5)


def test_switches_of_saelens_are_folded_into_the_weights(dictionary, folder, generator):
    kept = load_file(folder / saelens.WEIGHTS)
    kept["W_dec"] *= torch.rand(40, 1, generator=generator) + 0.5
    save_file(kept, folder / saelens.WEIGHTS)
    _edit(folder, apply_b_dec_to_input=False, rescale_acts_by_decoder_norm=True)
    x = torch.randn(20, 8, generator=generator)
    norm = kept["W_dec"].norm(dim=1)
    top = ((x @ kept["W_enc"] + kept["b_enc"]) * norm).topk(5, dim=1)
    acts = torch.zeros(20, 40).scatter(1, top.indices, top.values.relu())
    made = (acts / norm) @ kept["W_dec"] + kept["b_dec"]
    found = saelens.load(folder)
    assert_close(found.encode(x).dense(), acts, rtol=1e-4, atol=1e-5)
    assert_close(found.reconstruct(x), made, rtol=1e-4, atol=1e-4)


def test_a_folder_in_use_is_left_alone(dictionary, folder):
    before = (folder / saelens.WEIGHTS).read_bytes()
    with pytest.raises(BadInput, match="exists already"):
        saelens.save(dictionary, folder)
    assert (folder / saelens.WEIGHTS).read_bytes() == before


def test_a_save_that_fails_leaves_nothing(dictionary, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(disk, "flush", fail)
    with pytest.raises(OSError, match="disk full"):
        saelens.save(dictionary, tmp_path / "dictionary")
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_finite_are_refused(dictionary, folder, tmp_path):
    bias = dictionary.b_enc.clone()
    bias[3] = torch.nan
    weights = {name: getattr(dictionary, name) for name in NAMES} | {"b_enc": bias}
    with pytest.raises(BadInput, match="b_enc holds 1 values"):
        saelens.save(topk_dictionary(weights, 5), tmp_path / "other")
    assert not (tmp_path / "other").exists()
    _edit_weights(folder, b_enc=bias)
    with pytest.raises(ArtifactRefused, match="b_enc holds 1 values"):
        saelens.load(folder)


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
def test_metadata_that_json_cannot_hold_is_refused(dictionary, tmp_path, value):
    weights = {n: getattr(dictionary, n) for n in NAMES}
    with pytest.raises(BadInput, match="JSON"):
        saelens.save(topk_dictionary(weights, 5, note=value), tmp_path / "other")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"W_dec": None}, "W_dec not found"),
        ({"threshold": torch.zeros(40)}, "found threshold as well"),
        ({"b_enc": torch.zeros(39)}, r"b_enc should have shape \(40,\).*found \(39,\)"),
        ({"W_dec": torch.zeros(8, 40)}, r"W_dec should have shape \(40, 8\).*found \(8, 40\)"),
        ({"W_enc": torch.zeros(8)}, r"W_enc should have shape \(d_in, feature\), found \(8,\)"),
        ({"W_skip": torch.zeros(8, 8)}, "found W_skip as well"),
        ({"b_enc": None, "b_gate": torch.zeros(40)}, "b_enc not found; found b_gate as well"),
        ({"b_dec": torch.zeros(8, dtype=torch.int64)}, "b_dec as torch.int64"),
        ({"b_dec": torch.zeros(8, dtype=torch.float64)}, "b_dec as torch.float64"),
    ],
)
def test_wrong_tensors_are_named(folder, changes, message):
    _edit_weights(folder, **changes)
    with pytest.raises(ArtifactRefused, match=message):
        saelens.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "jumprelu"}, "threshold not found"),
        ({"architecture": "abstopk"}, "'abstopk' dictionary, read are.*topk"),
        ({"architecture": "matching_pursuit"}, "'matching_pursuit'"),
        ({"architecture": None}, "needs architecture as str"),
        ({"architecture": "transcoder"}, "asks a transcoder for apply_b_dec_to_input"),
        ({"architecture": "transcoder", "apply_b_dec_to_input": False}, "needs d_out as int"),
        ({"k": "5"}, "needs k as int"),
        ({"k": True}, "needs k as int"),
        ({"k": 0}, "k must lie in 1 … 40"),
        ({"k": 41}, "k must lie in 1 … 40"),
        ({"d_sae": 41}, "do not belong together"),
        ({"normalize_activations": "layer_norm"}, "normalize_activations 'layer_norm'"),
        ({"normalize_activations": "constant_norm_rescale"}, "'constant_norm_rescale'"),
        ({"normalize_activations": "covariance_whitening"}, "'covariance_whitening'"),
        (
            {"normalize_activations": "expected_average_only_in"},
            "activation_scaler.json is missing",
        ),
        ({"reshape_activations": "hook_q"}, "reshape_activations 'hook_q'"),
        ({"apply_b_dec_to_input": 1}, "needs apply_b_dec_to_input as bool"),
        ({"metadata": ["x"]}, "needs metadata by name"),
    ],
)
def test_settings_that_are_not_read_are_named(folder, changes, message):
    _edit(folder, **changes)
    with pytest.raises(ArtifactRefused, match=message):
        saelens.load(folder)


def test_damaged_and_missing_files_are_refused(folder, tmp_path):
    with pytest.raises(ArtifactRefused, match=r"cfg\.json is missing"):
        saelens.load(tmp_path / "nowhere")
    (folder / saelens.WEIGHTS).write_bytes(b"\x80\x04not a safetensors file")
    with pytest.raises(ArtifactRefused, match="no readable safetensors"):
        saelens.load(folder)
    (folder / saelens.WEIGHTS).unlink()
    with pytest.raises(ArtifactRefused, match=r"safetensors is missing"):
        saelens.load(folder)
    (folder / saelens.CONFIG).write_text("{")
    with pytest.raises(ArtifactRefused, match="not JSON"):
        saelens.load(folder)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("blocks.3.mlp.post", "blocks.3.mlp.hook_post"),
        ("blocks.3.hook_resid_post", "blocks.3.hook_resid_post"),
        ("embed", "hook_embed"),
        ("model.layers.3:out[0]", "model.layers.3:out[0]"),
    ],
)
def test_sites_are_named_as_saelens_names_them(ours, theirs):
    assert saelens.hook_name(ours) == theirs
