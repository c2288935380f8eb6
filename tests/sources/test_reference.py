import sys

import numpy as np
import pytest
import torch

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.sources import reference
from energylens.sources.model import load_model
from tests.common.compare import assert_close
from tests.sources.hooks import ports_of, read_ports

needs_tiny = pytest.mark.skipif(
    reference.package_folder("glassllm") is None, reason="package glassllm is not installed"
)


@pytest.fixture(scope="module")
def traced():
    """The package's own NumPy model on a sentence, with its trace, and ours on the same ids."""
    glassllm = pytest.importorskip("glassllm", reason="package glassllm is not installed")
    theirs, tokenizer = glassllm.load_pretrained("en")
    ids = tokenizer.encode("“Curiouser and curiouser!” cried Alice, and she ran on.\nThe Queen")
    trace = glassllm.Tracer()
    logits = theirs.forward(ids, trace=trace).data[0]
    loaded = load_model("tiny")
    seen, ours = read_ports(loaded.module, ports_of(loaded.family, 4), torch.tensor([ids]))
    return trace, logits, {name: values[0][0] for name, values in seen.items()}, ours[0]


def test_logits_are_those_of_the_numpy_model(traced):
    _, theirs, _, ours = traced
    assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("layer", range(4))
@pytest.mark.parametrize(
    ("site", "step"),
    [
        ("attn_out", "attn.out"),
        ("resid_mid", "resid.attn"),
        ("mlp.post", "ffn.act"),
        ("mlp_out", "ffn.down"),
        ("resid_post", "resid.ffn"),
    ],
)
def test_intermediates_are_those_of_the_numpy_model(traced, layer, site, step):
    trace, _, seen, _ = traced
    expected = trace.get(step, layer=layer).value
    assert_close(seen[f"blocks.{layer}.{site}"], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("layer", range(4))
def test_streams_in_and_heads_are_those_of_the_numpy_model(traced, layer):
    trace, _, seen, _ = traced
    before = trace.get("resid.ffn", layer=layer - 1) if layer else trace.get("embed")
    assert_close(seen[f"blocks.{layer}.resid_pre"], before.value, rtol=0, atol=1e-4)
    mixed = trace.get("attn.mix", layer=layer).value  # [head pos d_head]
    heads = np.concatenate(list(mixed), axis=-1)
    assert_close(seen[f"blocks.{layer}.attn.z"], heads, rtol=0, atol=1e-4)


def test_ends_are_those_of_the_numpy_model(traced):
    trace, _, seen, _ = traced
    assert_close(seen["embed"], trace.get("embed").value, rtol=0, atol=1e-4)
    final = trace.get("norm.final").value
    assert_close(seen["ln_final.normalized"], final, rtol=0, atol=1e-4)


@needs_tiny
def test_tiny_model_is_described():
    before = torch.random.get_rng_state()
    loaded = load_model("tiny")
    assert torch.equal(torch.random.get_rng_state(), before), "loading used the global generator"
    assert (loaded.name, loaded.model_type, loaded.family.name) == ("tiny", "llama", "llama")
    assert (loaded.d_model, loaded.n_layers, loaded.vocab_size, loaded.context) == (
        128,
        4,
        1024,
        128,
    )
    assert loaded.source.startswith("package glassllm ")
    assert loaded.bos_token_id is None and 1 in loaded.special_ids
    assert len(loaded.sha256) == 64
    module = loaded.module
    assert not module.training and not any(p.requires_grad for p in module.parameters())
    assert module.lm_head.weight is module.model.embed_tokens.weight


def test_packages_are_found_without_running_them(tmp_path, monkeypatch):
    package = tmp_path / "made_up_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert reference.package_folder("made-up-package") == package
    assert "made_up_package" not in sys.modules
    assert reference.package_folder("absent-package") is None
    assert reference.package_label("absent-package") == "package absent-package"


def test_absent_package_names_the_remedy(monkeypatch):
    monkeypatch.setattr(reference, "package_folder", lambda name: None)
    with pytest.raises(BadInput, match=r"'tiny' is in the package glassllm.*pip install"):
        load_model("tiny")


def test_arrays_with_pickles_are_refused(tmp_path):
    path = tmp_path / "en.npz"
    np.savez(path, __config__=np.array({"vocab_size": 3}, dtype=object))
    with pytest.raises(ArtifactRefused, match="not the weights of the tiny model"):
        reference.tiny_llama(path, torch.float32)
    path.write_bytes(b"no archive")
    with pytest.raises(ArtifactRefused, match="not the weights of the tiny model"):
        reference.tiny_llama(path, torch.float32)
