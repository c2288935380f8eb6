"""Files of circuit-tracer: what it computes, and what we write for it."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.formats import circuit_tracer
from tests.common.compare import assert_close
from tests.features.formats.made import WIDTH, D, dictionary, draw, same


def kept_of(generator, *, threshold=False, skip=False):
    kept = {
        "W_enc": draw(generator, WIDTH, D), "W_dec": draw(generator, WIDTH, D),
        "b_enc": 0.3 * draw(generator, WIDTH), "b_dec": draw(generator, D),
    }  # fmt: skip
    kept |= {circuit_tracer.THRESHOLD: draw(generator, WIDTH).abs()} if threshold else {}
    return kept | ({"W_skip": draw(generator, D, D)} if skip else {})


@pytest.mark.parametrize("threshold", [True, False])
@pytest.mark.parametrize("skip", [True, False])
def test_every_kind_does_what_it_does_there(threshold, skip, generator, tmp_path):
    kept = kept_of(generator, threshold=threshold, skip=skip)
    save_file(kept, tmp_path / "layer_7.safetensors")
    x = draw(generator, 30, D)
    z = x @ kept["W_enc"].T + kept["b_enc"]
    acts = z * (z > kept[circuit_tracer.THRESHOLD]) if threshold else z.relu()
    made = acts @ kept["W_dec"] + kept["b_dec"] + (x @ kept["W_skip"].T if skip else 0)
    found = circuit_tracer.load(tmp_path / "layer_7.safetensors")
    assert_close(found.encode(x).dense(), acts, rtol=1e-5, atol=1e-5)
    assert_close(found.reconstruct(x), made, rtol=1e-4, atol=1e-4)
    assert found.metadata == {"layer": 7} and not found.subtracts_b_dec


@pytest.mark.parametrize("name", ["standard", "jumprelu"])
@pytest.mark.parametrize("skip", [True, False])
def test_what_is_saved_does_the_same(name, skip, generator, tmp_path):
    made = dictionary(name, generator, skip=skip, subtracts_b_dec=False)
    path = circuit_tracer.save(made, tmp_path / "set" / "layer_0.safetensors")
    same(circuit_tracer.load(path), made, draw(generator, 30, D))
    assert load_file(path)["W_enc"].shape == (WIDTH, D)
    before = path.read_bytes()
    with pytest.raises(BadInput, match="exists already"):
        circuit_tracer.save(made, path)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_a_threshold_below_0_is_written_as_0(generator, tmp_path):
    made = dictionary("jumprelu", generator, subtracts_b_dec=False)
    made.own["threshold"][:20] = -1.0
    found = circuit_tracer.load(circuit_tracer.save(made, tmp_path / "layer_0.safetensors"))
    x = draw(generator, 30, D)
    assert torch.equal(found.reconstruct(x), made.reconstruct(x))
    assert float(made.own["threshold"].min()) == -1


def test_an_offset_that_is_subtracted_is_folded(generator, tmp_path):
    made = dictionary("jumprelu", generator, hook_name="blocks.4.resid_post")
    assert list(circuit_tracer.files(made)) == ["layer_4.safetensors"]
    found = circuit_tracer.load(circuit_tracer.save(made, tmp_path / "layer_4.safetensors"))
    x = draw(generator, 30, D)
    assert_close(found.encode(x).dense(), made.encode(x).dense(), rtol=1e-5, atol=1e-5)
    assert_close(found.reconstruct(x), made.reconstruct(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "how"),
    [("topk", {"subtracts_b_dec": False}), ("standard", {"subtracts_b_dec": False, "d_out": 6})],
)
def test_what_circuit_tracer_does_not_have_is_not_written(name, how, generator, tmp_path):
    with pytest.raises(BadInput, match="circuit-tracer holds.*cannot be written"):
        circuit_tracer.save(dictionary(name, generator, **how), tmp_path / "layer_0.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"W_enc": torch.zeros(D, WIDTH)}, r"b_enc should have shape \(8,\) .*found \(40,\)"),
        ({circuit_tracer.THRESHOLD: torch.full((WIDTH,), -0.1)}, "thresholds below 0"),
        ({"log_thresholds": torch.zeros(WIDTH)}, "found log_thresholds as well"),
        ({"W_enc_0": torch.zeros(WIDTH, D)}, "found W_enc_0 as well"),
        ({"W_skip": torch.zeros(D, 3)}, r"W_skip should have shape \(8, 8\)"),
        ({"W_dec": torch.zeros(WIDTH, 2, D)}, r"W_dec should have shape \(40, 8\)"),
    ],
)
def test_what_is_not_read_is_named(changes, message, generator, tmp_path):
    save_file(kept_of(generator) | changes, tmp_path / "layer_0.safetensors")
    with pytest.raises(ArtifactRefused, match=message):
        circuit_tracer.load(tmp_path / "layer_0.safetensors")
