"""The folder of a cross-layer transcoder: written, read, and refused."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.formats import cross_layer
from tests.common.compare import assert_close
from tests.features.formats.made import WIDTH, D, draw

LAYERS = 3


def transcoder(architecture, generator, *, dtype=torch.float32, **metadata):
    of = lambda *shape: draw(generator, *shape, dtype=dtype)
    jump = architecture == "jumprelu"
    return CrossLayerTranscoder(
        architecture=architecture, k=5, layers=tuple(range(LAYERS)),
        W_enc=tuple(of(WIDTH, D) for _ in range(LAYERS)),
        b_enc=tuple(of(WIDTH) for _ in range(LAYERS)),
        W_dec=tuple(of(WIDTH, LAYERS - n, D) for n in range(LAYERS)), b_dec=of(LAYERS, D),
        own=tuple({"threshold": of(WIDTH).abs()} if jump else {} for _ in range(LAYERS)),
        metadata=metadata,
    )  # fmt: skip


def inputs_of(generator, dtype=torch.float32):
    return {n: draw(generator, 20, D, dtype=dtype) for n in range(LAYERS)}


@pytest.mark.parametrize("name", ["standard", "jumprelu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_saved_is_what_is_loaded(name, dtype, generator, tmp_path):
    made = transcoder(
        name, generator, dtype=dtype, model_name="toy: #1", feature_input_hook="resid_pre",
        feature_output_hook="mlp_out", scan=["a", "b"],
    )  # fmt: skip
    folder = cross_layer.save(made, tmp_path / "clt")
    found = cross_layer.load(folder)
    assert (found.architecture, found.k, found.layers) == (name, 5, (0, 1, 2))
    assert found.metadata == made.metadata
    assert found.weights.keys() == made.weights.keys()
    for weight, tensor in made.weights.items():
        assert torch.equal(found.weights[weight], tensor), weight
    assert load_file(folder / "W_dec_1.safetensors")["W_dec_1"].shape == (WIDTH, LAYERS - 1, D)
    said = (folder / "config.yaml").read_text()
    assert 'feature_input_hook: "hook_resid_pre"\n' in said
    assert 'model_kind: "cross_layer_transcoder"\n' in said
    with pytest.raises(BadInput, match="exists already"):
        cross_layer.save(made, folder)


def test_what_training_alone_has_is_written_as_what_it_becomes(generator, tmp_path):
    made = replace(
        transcoder("jumprelu", generator), architecture="batchtopk",
        own=tuple({"threshold_sum": torch.tensor([0.3]), "threshold_weight": torch.tensor([0.5])}
                  for _ in range(LAYERS)),
    )  # fmt: skip
    found, x = cross_layer.load(cross_layer.save(made, tmp_path / "clt")), inputs_of(generator)
    assert_close(found.own[1]["threshold"], torch.full((WIDTH,), 0.6))
    assert_close(found.reconstruct(x)[2], made.reconstruct(x)[2], rtol=1e-5, atol=1e-5)


def test_a_folder_without_settings_is_read(generator, tmp_path):
    folder = cross_layer.save(transcoder("standard", generator), tmp_path / "clt")
    (folder / "config.yaml").unlink()
    assert cross_layer.load(folder).metadata == {} and cross_layer.load(folder).k == WIDTH


@pytest.mark.parametrize(
    "change",
    [
        lambda m: replace(m, architecture="topk"), lambda m: replace(m, layers=(1, 2, 3)),
        lambda m: replace(m, W_dec=tuple(w[..., :5] for w in m.W_dec), b_dec=m.b_dec[:, :5]),
        lambda m: replace(m, W_enc=(m.W_enc[0][:9], *m.W_enc[1:]),
                          b_enc=(m.b_enc[0][:9], *m.b_enc[1:]),
                          W_dec=(m.W_dec[0][:9], *m.W_dec[1:])),
    ],
)  # fmt: skip
def test_what_circuit_tracer_does_not_have_is_not_written(change, generator, tmp_path):
    made = change(transcoder("standard", generator))
    with pytest.raises(BadInput, match="circuit-tracer holds standard and jumprelu.*be written"):
        cross_layer.save(made, tmp_path / "clt")
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_finite_are_not_written(generator, tmp_path):
    made = transcoder("standard", generator)
    made.W_dec[1][2, 0, 1] = torch.nan
    with pytest.raises(BadInput, match=r"W_dec\.1 holds values that are nan"):
        cross_layer.save(made, tmp_path / "clt")
    with pytest.raises(BadInput, match="finite JSON values"):
        cross_layer.save(transcoder("standard", generator, of=torch.nan), tmp_path / "clt")


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("W_enc_1", {"W_enc_1": torch.zeros(D, WIDTH)}, r"b_enc_1 should have shape \(8,\)"),
        ("W_enc_1", {"threshold_1": torch.full((WIDTH,), -0.1)}, "thresholds below 0"),
        ("W_enc_1", {"W_skip_1": torch.zeros(D, D)}, "found W_skip_1 as well"),
        ("W_enc_1", {"threshold_1": torch.zeros(WIDTH)}, "layers differ in what they hold"),
        ("W_dec_1", {"W_dec_1": torch.zeros(WIDTH, 3, D)}, r"\(40, 2, 8\), since 3 layers"),
        ("W_dec_1", {"W_dec_1": torch.full((WIDTH, 2, D), torch.nan)}, "640 values that are nan"),
        ("W_dec_1", {"W_dec_2": torch.zeros(WIDTH, 2, D)}, "found W_dec_2 as well"),
    ],
)
def test_what_is_not_read_is_named(file, changes, message, generator, tmp_path):
    folder = cross_layer.save(transcoder("standard", generator), tmp_path / "clt")
    path = folder / f"{file}.safetensors"
    save_file(load_file(path) | changes, path)
    with pytest.raises(ArtifactRefused, match=message):
        cross_layer.load(folder)


def test_missing_files_and_other_settings_are_refused(generator, tmp_path):
    folder = cross_layer.save(transcoder("standard", generator), tmp_path / "clt")
    (folder / "config.yaml").write_text("model_kind: transcoder_set\ntranscoders:\n  - a\n")
    with pytest.raises(ArtifactRefused, match="is of a 'transcoder_set'"):
        cross_layer.load(folder)
    (folder / "config.yaml").unlink()
    (folder / "W_dec_2.safetensors").unlink()
    with pytest.raises(ArtifactRefused, match=r"W_dec_2\.safetensors is missing"):
        cross_layer.load(folder)
    (folder / "W_enc_1.safetensors").rename(folder / "W_enc_5.safetensors")
    with pytest.raises(ArtifactRefused, match=r"W_enc_1\.safetensors is missing"):
        cross_layer.load(folder)
