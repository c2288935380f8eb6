"""Every architecture through SAELens' folder, and folders of SAELens by its own formulas."""

import json

import pytest
import torch
from safetensors.torch import save_file

from energylens.core.errors import ArtifactRefused
from energylens.features.architecture import ARCHITECTURES
from energylens.features.formats import saelens
from tests.common.compare import assert_close
from tests.features.formats.made import (
    INFERENCE,
    WIDTH,
    D,
    K,
    changed,
    dictionary,
    draw,
    same,
    write_json,
)  # fmt: skip
from tests.oracles.dense_dictionaries import kept_per_row

METADATA = {"sae_lens_version": "6.54.12", "hook_name": "blocks.2.hook_resid_post"}
TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")


def _weights(generator, *, d_out=D):
    return {
        "W_enc": draw(generator, D, WIDTH), "b_enc": 0.3 * draw(generator, WIDTH),
        "W_dec": draw(generator, WIDTH, d_out), "b_dec": draw(generator, d_out),
    }  # fmt: skip


def _write(folder, kept, **config):
    folder.mkdir()
    save_file(kept, folder / saelens.WEIGHTS)
    wanted = {"d_in": D, "d_sae": WIDTH, "dtype": "float32", "metadata": METADATA}
    write_json(folder / saelens.CONFIG, **(wanted | config))
    return folder


@pytest.fixture
def x(generator):
    return draw(generator, 30, D)


# ---- ours


@pytest.mark.parametrize("name", INFERENCE)
@pytest.mark.parametrize(
    "how",
    [
        {}, {"subtracts_b_dec": False}, {"subtracts_b_dec": False, "d_out": 6},
        {"subtracts_b_dec": False, "d_out": 6, "skip": True},
        {"subtracts_b_dec": False, "skip": True}, {"dtype": torch.float64},
        {"subtracts_b_dec": False, "hook_name_out": "blocks.2.mlp_out"},
    ],
    ids=lambda how: "-".join(how) or "plain",
)  # fmt: skip
def test_what_is_saved_does_the_same(name, how, generator, tmp_path):
    made = dictionary(name, generator, hook_name="blocks.2.resid_mid", **how)
    found = saelens.load(saelens.save(made, tmp_path / "dictionary"))
    same(found, made, draw(generator, 30, D).to(made.W_enc.dtype))
    assert (found.k, found.metadata) == (K, made.metadata)


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - set(INFERENCE)))
def test_what_exists_in_training_alone_is_saved_as_what_it_becomes(name, generator, tmp_path, x):
    made = dictionary(name, generator)
    found = saelens.load(saelens.save(made, tmp_path / "dictionary"))
    assert found.architecture in INFERENCE
    assert torch.equal(found.reconstruct(x), made.reconstruct(x))


@pytest.mark.parametrize("name", INFERENCE)
def test_an_offset_that_a_transcoder_has_no_place_for_is_folded(name, generator, tmp_path):
    made = dictionary(name, generator, skip=True, dtype=torch.float64)
    found = saelens.load(saelens.save(made, tmp_path / "dictionary"))
    assert made.subtracts_b_dec and not found.subtracts_b_dec
    x = draw(generator, 30, D).double()
    assert_close(found.encode(x).dense(), made.encode(x).dense(), atol=1e-12)
    assert_close(found.reconstruct(x), made.reconstruct(x))


@pytest.mark.parametrize(
    ("name", "how", "called"),
    [
        ("standard", {}, "standard"),
        ("standard", {"skip": True, "subtracts_b_dec": False}, "skip_transcoder"),
        ("standard", {"d_out": 6, "subtracts_b_dec": False}, "transcoder"),
        ("jumprelu", {"d_out": 6, "subtracts_b_dec": False}, "jumprelu_transcoder"),
        ("jumprelu", {"skip": True, "subtracts_b_dec": False}, "jumprelu_skip_transcoder"),
        ("topk", {"skip": True, "subtracts_b_dec": False}, "topk_skip_transcoder"),
        ("jumprelu", {"subtracts_b_dec": False}, "jumprelu"),
    ],
)
def test_architectures_are_called_as_saelens_calls_them(name, how, called, generator, tmp_path):
    folder = saelens.save(dictionary(name, generator, **how), tmp_path / "dictionary")
    config = json.loads((folder / "cfg.json").read_text())
    assert config["architecture"] == called
    assert config["apply_b_dec_to_input"] is how.get("subtracts_b_dec", True)
    assert ("d_out" in config) == called.endswith("transcoder")


def test_heads_are_put_side_by_side_where_saelens_has_them_apart(generator, tmp_path):
    folder = saelens.save(
        dictionary("topk", generator, hook_name="blocks.1.attn.z"), tmp_path / "d"
    )
    assert json.loads((folder / "cfg.json").read_text())["reshape_activations"] == "hook_z"
    assert saelens.load(folder).metadata["hook_name"] == "blocks.1.attn.z"


def test_a_tied_dictionary_can_be_saved(generator, tmp_path, x):
    made = dictionary("standard", generator)
    tied = type(made)(
        architecture="standard", k=K, W_enc=made.W_enc, b_enc=made.b_enc, W_dec=made.W_enc,
        b_dec=made.b_dec,
    )  # fmt: skip
    same(saelens.load(saelens.save(tied, tmp_path / "d")), tied, x)


# ---- theirs


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("name", ["standard", "jumprelu", "gated"])
def test_autoencoders_of_saelens(name, applied, generator, tmp_path, x):
    kept = _weights(generator)
    offset = kept["b_dec"] if applied else 0
    z = (x - offset) @ kept["W_enc"]
    if name == "gated":
        kept |= {n: 0.3 * draw(generator, WIDTH) for n in ("b_gate", "b_mag", "r_mag")}
        del kept["b_enc"]
        size = ((x - offset) @ (kept["W_enc"] * kept["r_mag"].exp()) + kept["b_mag"]).relu()
        acts = (z + kept["b_gate"] > 0) * size
    else:
        acts = (z + kept["b_enc"]).relu()
    if name == "jumprelu":
        kept["threshold"] = draw(generator, WIDTH)  # below 0 for some: those cut nothing off
        acts = acts * (z + kept["b_enc"] > kept["threshold"])
    found = saelens.load(
        _write(tmp_path / "sae", kept, architecture=name, apply_b_dec_to_input=applied)
    )
    assert_close(found.encode(x).dense(), acts, rtol=1e-5, atol=1e-5)
    assert_close(found.reconstruct(x), acts @ kept["W_dec"] + kept["b_dec"], rtol=1e-4, atol=1e-4)
    assert found.metadata == {"hook_name": "blocks.2.resid_post"}
    assert found.k == WIDTH


@pytest.mark.parametrize("name", TRANSCODERS)
def test_transcoders_of_saelens(name, generator, tmp_path, x):
    kept = _weights(generator, d_out=6)
    z = x @ kept["W_enc"] + kept["b_enc"]
    acts = z.relu()
    if name.startswith("jumprelu"):
        kept["threshold"] = draw(generator, WIDTH).abs()
        acts = acts * (z > kept["threshold"])
    made = acts @ kept["W_dec"] + kept["b_dec"]
    if "skip" in name:
        kept["W_skip"] = draw(generator, 6, D)
        made = made + x @ kept["W_skip"].T
    metadata = METADATA | {"hook_name_out": "blocks.2.hook_mlp_out"}
    folder = _write(
        tmp_path / "sae", kept, architecture=name, d_out=6, apply_b_dec_to_input=False,
        metadata=metadata,
    )  # fmt: skip
    found = saelens.load(folder)
    assert_close(found.encode(x).dense(), acts, rtol=1e-5, atol=1e-5)
    assert_close(found.reconstruct(x), made, rtol=1e-4, atol=1e-4)
    assert found.metadata["hook_name_out"] == "blocks.2.mlp_out"


@pytest.mark.parametrize("name", ["batchtopk", "matryoshka_batchtopk"])
@pytest.mark.parametrize("rescaled", [True, False])
def test_checkpoints_of_batchtopk_become_jumprelus(name, rescaled, generator, tmp_path, x):
    threshold = 1.5
    kept = _weights(generator) | {"topk_threshold": torch.tensor(threshold, dtype=torch.float64)}
    norm = kept["W_dec"].norm(dim=1) if rescaled else torch.ones(WIDTH)
    z = ((x - kept["b_dec"]) @ kept["W_enc"] + kept["b_enc"]) * norm
    acts = z.relu() * (z > threshold)
    found = saelens.load(
        _write(tmp_path / "sae", kept, architecture=name, k=4.6,
               rescale_acts_by_decoder_norm=rescaled)
    )  # fmt: skip
    assert (found.architecture, found.k) == ("jumprelu", 5)
    assert_close(found.encode(x).dense(), acts, rtol=1e-4, atol=1e-4)
    made = (acts / norm) @ kept["W_dec"] + kept["b_dec"]
    assert_close(found.reconstruct(x), made, rtol=1e-4, atol=1e-3)


def test_thresholds_of_old_checkpoints_are_logarithms(generator, tmp_path):
    kept = _weights(generator) | {"log_threshold": draw(generator, WIDTH)}
    found = saelens.load(_write(tmp_path / "sae", kept, architecture="jumprelu"))
    assert_close(found.own["threshold"], kept["log_threshold"].exp())


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("name", ["topk", "batchtopk", "gated"])
def test_a_scale_beside_a_checkpoint_is_folded(name, applied, generator, tmp_path, x):
    """The network sees s · x and its output is divided by s; norms are those before folding."""
    s = 0.37
    kept = _weights(generator)
    norm = kept["W_dec"].norm(dim=1)
    z = (s * x - (kept["b_dec"] if applied else 0)) @ kept["W_enc"]
    if name == "gated":
        kept |= {n: 0.3 * draw(generator, WIDTH) for n in ("b_gate", "b_mag", "r_mag")}
        del kept["b_enc"]
        acts = (z + kept["b_gate"] > 0) * (z * kept["r_mag"].exp() + kept["b_mag"]).relu()
    else:
        z = (z + kept["b_enc"]) * norm
        acts = kept_per_row(z, K) if name == "topk" else z.relu() * (z > 2.0)
        acts = acts / norm
    if name == "batchtopk":
        kept["topk_threshold"] = torch.tensor(2.0, dtype=torch.float64)
    folder = _write(
        tmp_path / "sae", kept, architecture=name, k=K, apply_b_dec_to_input=applied,
        rescale_acts_by_decoder_norm=name != "gated",
        normalize_activations="expected_average_only_in",
    )  # fmt: skip
    write_json(folder / saelens.SCALER, scaling_factor=s, has_whitening=False)
    made = (acts @ kept["W_dec"] + kept["b_dec"]) / s
    assert_close(saelens.load(folder).reconstruct(x), made, rtol=1e-4, atol=1e-3)
    for wrong in (None, 0.0, "1"):
        write_json(folder / saelens.SCALER, scaling_factor=wrong)
        with pytest.raises(ArtifactRefused, match="scaling_factor"):
            saelens.load(folder)


def test_norms_are_heeded_by_those_alone_that_saelens_lets_heed_them(generator, tmp_path, x):
    kept = _weights(generator)
    folder = _write(
        tmp_path / "sae", kept, architecture="standard", rescale_acts_by_decoder_norm=True
    )
    acts = ((x - kept["b_dec"]) @ kept["W_enc"] + kept["b_enc"]).relu()
    assert_close(saelens.load(folder).encode(x).dense(), acts, rtol=1e-4, atol=1e-4)


def test_the_mean_l0_that_is_told_is_k(generator, tmp_path):
    metadata = METADATA | {"l0": 7.4}
    folder = _write(
        tmp_path / "sae", _weights(generator), architecture="standard", metadata=metadata
    )
    assert saelens.load(folder).k == 7


# ---- before version 6

FLAT = {
    "d_in": D, "d_sae": WIDTH, "dtype": "torch.float32", "device": "cpu", "model_name": "gpt2",
    "hook_point": "blocks.3.hook_resid_pre", "hook_point_layer": 3, "prepend_bos": True,
    "finetuning_scaling_factor": False, "context_size": 128, "lr": 1e-3,
}  # fmt: skip


def _write_flat(folder, kept, **changes):
    folder = _write(folder, kept)
    write_json(folder / saelens.CONFIG, **changed(FLAT, **changes))
    return folder


def test_a_flat_layout_is_read(generator, tmp_path, x):
    kept = _weights(generator)
    kept["scaling_factor"] = torch.ones(WIDTH)
    found = saelens.load(_write_flat(tmp_path / "sae", kept, normalize_activations=False))
    acts = ((x - kept["b_dec"]) @ kept["W_enc"] + kept["b_enc"]).relu()
    assert found.architecture == "standard"
    assert_close(found.encode(x).dense(), acts, rtol=1e-4, atol=1e-5)
    assert found.metadata == {
        "hook_name": "blocks.3.resid_pre", "model_name": "gpt2", "prepend_bos": True,
        "context_size": 128,
    }  # fmt: skip


def test_a_flat_topk_is_named_by_its_activation(generator, tmp_path, x):
    kept = _weights(generator)
    folder = _write_flat(
        tmp_path / "sae", kept, activation_fn_str="topk", activation_fn_kwargs={"k": 3},
        apply_b_dec_to_input=False, architecture="standard", sae_lens_version="5.4.1",
    )  # fmt: skip
    found = saelens.load(folder)
    assert (found.architecture, found.k) == ("topk", 3)
    acts = kept_per_row(x @ kept["W_enc"] + kept["b_enc"], 3)
    assert_close(found.encode(x).dense(), acts, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation_fn_str": "tanh-relu"}, "activation 'tanh-relu'"),
        ({"activation_fn_str": "topk"}, "needs k as int: None"),
        ({"activation_fn_str": "topk", "architecture": "gated"}, "'topk' of a 'gated'"),
        ({"normalize_activations": True}, "activation_scaler.json is missing"),
        ({"d_sae": None}, "needs d_sae as int"),
        ({"d_sae": 41}, "do not belong together"),
    ],
)
def test_flat_layouts_that_are_not_read_say_why(changes, message, generator, tmp_path):
    folder = _write_flat(tmp_path / "sae", _weights(generator), **changes)
    with pytest.raises(ArtifactRefused, match=message):
        saelens.load(folder)


def test_a_factor_of_fine_tuning_is_refused(generator, tmp_path):
    kept = _weights(generator) | {"scaling_factor": torch.full((WIDTH,), 1.1)}
    with pytest.raises(ArtifactRefused, match="scaling_factor of fine-tuning"):
        saelens.load(_write_flat(tmp_path / "sae", kept))


# ---- damage


@pytest.mark.parametrize("name", ["gated", "jumprelu_skip_transcoder", "batchtopk"])
def test_tensors_that_are_missing_left_over_or_misshaped_are_named(name, generator, tmp_path):
    own = {
        "gated": {n: torch.ones(WIDTH) for n in ("b_gate", "b_mag", "r_mag")},
        "jumprelu_skip_transcoder": {"threshold": torch.ones(WIDTH), "W_skip": torch.ones(D, D)},
        "batchtopk": {"topk_threshold": torch.tensor(1.0)},
    }[name]
    kept = _weights(generator) | own
    if name == "gated":
        del kept["b_enc"]
    settings = {"architecture": name, "k": K, "d_out": D}
    settings["apply_b_dec_to_input"] = "transcoder" not in name
    folder = _write(tmp_path / "sae", kept, **settings)
    saelens.load(folder)
    for missing in kept:
        save_file({n: t for n, t in kept.items() if n != missing}, folder / saelens.WEIGHTS)
        with pytest.raises(ArtifactRefused, match=f"{missing} not found"):
            saelens.load(folder)
        wrong = torch.ones(3, 3, 3)
        save_file(kept | {missing: wrong}, folder / saelens.WEIGHTS)
        with pytest.raises(ArtifactRefused, match=f"{missing} should have shape"):
            saelens.load(folder)
        save_file(kept | {missing: torch.full_like(kept[missing], torch.nan)},
                  folder / saelens.WEIGHTS)  # fmt: skip
        with pytest.raises(ArtifactRefused, match=f"{missing} holds .* nan or infinity"):
            saelens.load(folder)
    save_file(kept | {"other": torch.ones(2)}, folder / saelens.WEIGHTS)
    with pytest.raises(ArtifactRefused, match="found other as well"):
        saelens.load(folder)


def test_a_file_cut_short_is_refused_wherever_it_ends(generator, tmp_path):
    folder = saelens.save(dictionary("gated", generator), tmp_path / "d")
    whole = (folder / saelens.WEIGHTS).read_bytes()
    for end in range(0, len(whole), 97):
        (folder / saelens.WEIGHTS).write_bytes(whole[:end])
        with pytest.raises(ArtifactRefused):
            saelens.load(folder)
