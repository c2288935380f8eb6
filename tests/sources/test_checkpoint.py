import json
import logging
import sys

import pytest
import torch

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.sources.checkpoint import files_sha256
from energylens.sources.model import load_model
from energylens.sources.quiet import quiet
from tests.common.compare import assert_close
from tests.sources.conftest import configurations, random_model


def one_sentence(error) -> bool:
    text = str(error.value)
    return "\n" not in text and len(text) < 450


def test_a_folder_gives_back_the_model_that_was_saved(model_folder, capfd):
    saved = random_model(configurations()["llama"]).float()
    loaded = load_model(model_folder)
    ids = torch.arange(10)[None]
    with torch.no_grad():
        assert_close(loaded.module(ids).logits, saved(ids).logits)
    assert loaded.source == f"folder {model_folder}" and loaded.name == "model"
    assert (loaded.bos_token_id, loaded.special_ids) == (1, frozenset({0, 1}))
    assert loaded.sha256 == files_sha256([model_folder / "model.safetensors"])
    assert capfd.readouterr() == ("", "")


def test_dtype_and_device_are_as_asked(model_folder):
    loaded = load_model(str(model_folder), dtype=torch.bfloat16, device="cpu")
    assert {p.dtype for p in loaded.module.parameters()} == {torch.bfloat16}


def test_hash_follows_the_weights(tmp_path):
    one, two = tmp_path / "a", tmp_path / "b"
    one.write_bytes(b"abc")
    two.write_bytes(b"abd")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert files_sha256([one]) == known
    assert files_sha256([one, two]) == files_sha256([two, one]) != files_sha256([one])


def test_pickled_weights_alone_are_refused(model_folder):
    (model_folder / "model.safetensors").rename(model_folder / "pytorch_model.bin")
    expected = r"pickle \(pytorch_model.bin\).*save_pretrained"
    with pytest.raises(ArtifactRefused, match=expected) as error:
        load_model(model_folder)
    assert one_sentence(error)


def test_a_pickle_beside_safetensors_is_not_read(model_folder):
    (model_folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert load_model(model_folder).d_model == 32


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no weights"),
        ("tokenizer.json", "has no tokenizer"),
    ],
)
def test_what_is_missing_is_named(model_folder, file, message):
    (model_folder / file).unlink()
    with pytest.raises(BadInput, match=message) as error:
        load_model(model_folder)
    assert one_sentence(error)


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_unknown_architecture_is_named_and_its_code_never_run(model_folder):
    (model_folder / "modeling_new.py").write_text("raise SystemExit('was run')")
    change_config(
        model_folder, model_type="newlm", auto_map={"AutoModelForCausalLM": "modeling_new.New"}
    )
    with pytest.raises(BadInput, match=r"unknown architecture 'newlm'.*never run") as error:
        load_model(model_folder)
    assert one_sentence(error)


def test_other_than_causal_models_are_named(model_folder):
    change_config(model_folder, model_type="vit")
    with pytest.raises(BadInput, match="'vit', which is not a causal language model"):
        load_model(model_folder)


def test_a_config_that_is_no_json_is_refused(model_folder):
    (model_folder / "config.json").write_text("{")
    with pytest.raises(ArtifactRefused, match="names no model_type"):
        load_model(model_folder)


def test_damaged_weights_are_refused(model_folder):
    weights = model_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ArtifactRefused, match="cannot be loaded as a model") as error:
        load_model(model_folder)
    assert one_sentence(error)


def test_a_damaged_tokenizer_is_refused(model_folder):
    (model_folder / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(ArtifactRefused, match="cannot be loaded as a model") as error:
        load_model(model_folder)
    assert one_sentence(error)


def test_weights_that_lack_a_parameter_are_refused(model_folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(model_folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, model_folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactRefused, match=r"lacks .* 1 parameters, first model.layers.1.mlp"):
        load_model(model_folder)


def test_weights_of_another_shape_are_refused(model_folder):
    change_config(model_folder, intermediate_size=56)
    with pytest.raises(ArtifactRefused, match="cannot be loaded as a model") as error:
        load_model(model_folder)
    assert one_sentence(error)


def test_a_tokenizer_of_another_model_is_refused(model_folder):
    from tests.sources.conftest import small_tokenizer

    with quiet():
        small_tokenizer(tokens=100).save_pretrained(model_folder)
    with pytest.raises(BadInput, match=r"tokenizer .* ids up to 99 and the model has 64"):
        load_model(model_folder)


@pytest.fixture
def gguf_file(tmp_path):
    """A one-block Llama as llama.cpp would write it, with known tensors."""
    import gguf
    import numpy as np

    path = tmp_path / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("small")
    writer.add_block_count(1)
    writer.add_context_length(40)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(48)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(16)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = ["<unk>", "<s>", *(chr(256 + i) for i in range(29)), "Āā"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, *([1] * 30)])
    writer.add_token_merges(["Ā ā"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(0)
    rng = np.random.default_rng(0)

    def add(name, *shape):
        writer.add_tensor(name, rng.normal(size=shape).astype(np.float32))

    add("token_embd.weight", 32, 32)
    add("output_norm.weight", 32)
    for name in ("attn_norm", "ffn_norm"):
        add(f"blk.0.{name}.weight", 32)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        add(f"blk.0.{name}.weight", 32, 32)
    for name in ("ffn_gate", "ffn_up"):
        add(f"blk.0.{name}.weight", 48, 32)
    add("blk.0.ffn_down.weight", 32, 48)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_gguf_file_is_read_with_its_tokenizer(gguf_file, as_folder, capfd):
    import gguf

    reader = gguf.GGUFReader
    loaded = load_model(gguf_file.parent if as_folder else gguf_file)
    assert (loaded.name, loaded.source) == ("small", f"file {gguf_file}")
    assert (loaded.d_model, loaded.n_layers, loaded.context) == (32, 1, 40)
    assert loaded.sha256 == files_sha256([gguf_file])
    weights = {t.name: t.data for t in reader(gguf_file).tensors}
    down = loaded.module.model.layers[0].mlp.down_proj.weight
    assert_close(down, weights["blk.0.ffn_down.weight"])
    assert gguf.GGUFReader is reader, "the patch was left behind"
    assert capfd.readouterr() == ("", "")


def test_what_is_no_gguf_is_refused(tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(b"PK\3\4....")
    with pytest.raises(ArtifactRefused, match="not a GGUF file"):
        load_model(path)
    path.write_bytes(b"GGUF" + bytes(3))
    with pytest.raises(ArtifactRefused, match="cannot be loaded as a model") as error:
        load_model(path)
    assert one_sentence(error)


def test_one_file_of_another_kind_is_named(model_folder):
    with pytest.raises(BadInput, match=r"one file that is not \.gguf: give the folder"):
        load_model(model_folder / "model.safetensors")


def test_quiet_brings_settings_back():
    from transformers.utils import logging as library

    library.set_verbosity_warning()
    library.enable_progress_bar()
    before = library.get_verbosity(), library.is_progress_bar_enabled(), sys.stderr
    with pytest.raises(KeyError), quiet():
        assert library.get_verbosity() == logging.ERROR
        raise KeyError
    assert (library.get_verbosity(), library.is_progress_bar_enabled(), sys.stderr) == before
