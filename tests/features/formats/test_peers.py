"""Our reading beside the peers' own code, where it is installed; none of it is needed to run.

`make test-peers` has them; each test runs where its package is there (dictionary-learning imports
nnsight, which is stood in for).
"""

import sys
import warnings
from contextlib import contextmanager
from types import ModuleType

import pytest
import torch
from tools.format_table import PEERS

from energylens.features.dictionary import Dictionary
from energylens.features.formats import (
    circuit_tracer,
    cross_layer,
    dictionary_learning,
    openai,
    saelens,
    sparsify,
)
from tests.common.compare import assert_close
from tests.features.formats.made import WIDTH, D, K, dictionary, draw, save_pickle, write_json
from tests.features.formats.test_cross_layer import LAYERS, inputs_of, transcoder

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@contextmanager
def _their_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _peer(name):
    with _their_warnings():
        return pytest.importorskip(name, exc_type=ImportError)


def _filled(module: torch.nn.Module, generator: torch.Generator) -> torch.nn.Module:
    """Every weight drawn anew, thresholds above 0."""
    for name, weight in module.named_parameters():
        values = 0.5 * draw(generator, *weight.shape)
        weight.data = values.abs() if "threshold" in name else values
    return module.eval()


def _same(found: Dictionary, x, acts, made):
    assert float(acts.count_nonzero()) > 0
    assert_close(found.encode(x).dense(), acts.detach(), **CLOSE)
    assert_close(found.reconstruct(x), made.detach(), **CLOSE)


# ---- SAELens


def _of_saelens(name: str, **options: object) -> torch.nn.Module:
    from sae_lens.registry import get_sae_class

    kind, settings = get_sae_class(name)
    transcoder = {"d_out": 6, "apply_b_dec_to_input": False} if "transcoder" in name else {}
    return kind(settings(d_in=D, d_sae=WIDTH, **transcoder, **options))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("standard", {}), ("standard", {"apply_b_dec_to_input": False}), ("gated", {}),
        ("jumprelu", {}), ("jumprelu", {"apply_b_dec_to_input": False}), ("topk", {"k": K}),
        ("topk", {"k": K, "rescale_acts_by_decoder_norm": True}), ("transcoder", {}),
        ("skip_transcoder", {}), ("jumprelu_transcoder", {}), ("jumprelu_skip_transcoder", {}),
    ],
    ids=str,
)  # fmt: skip
def test_saelens_and_we_read_its_folders_alike(name, options, generator, tmp_path):
    _peer("sae_lens")
    with _their_warnings():
        theirs = _filled(_of_saelens(name, **options), generator)
        theirs.save_model(tmp_path / "sae")
    x = draw(generator, 30, D)
    _same(saelens.load(tmp_path / "sae"), x, theirs.encode(x), theirs(x))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("standard", {}), ("gated", {}), ("jumprelu", {}), ("topk", {}), ("batchtopk", {}),
        ("topk", {"subtracts_b_dec": False}), ("jumprelu", {"subtracts_b_dec": False}),
        ("standard", {"subtracts_b_dec": False, "d_out": 6}), ("standard", {"skip": True}),
        ("jumprelu", {"subtracts_b_dec": False, "d_out": 6, "skip": True}),
    ],
    ids=str,
)  # fmt: skip
def test_saelens_loads_what_we_write(name, how, generator, tmp_path):
    peer = _peer("sae_lens")
    made = dictionary(name, generator, hook_name="blocks.1.resid_post", **how)
    with _their_warnings():
        theirs = peer.SAE.load_from_disk(saelens.save(made, tmp_path / "sae"))
    x = draw(generator, 30, D)
    assert theirs.cfg.metadata.hook_name == "blocks.1.hook_resid_post"
    _same(made, x, theirs.encode(x), theirs(x))


@pytest.mark.parametrize("name", ["batchtopk", "matryoshka_batchtopk", "topk", "jumprelu", "gated"])
@pytest.mark.parametrize("rescaled", [True, False])
def test_checkpoints_become_what_saelens_exports(name, rescaled, generator, tmp_path):
    """The weights of training with the scale beside them, against SAELens' own folding of both."""
    peer = _peer("sae_lens")
    from sae_lens.registry import get_sae_training_class
    from sae_lens.training.activation_scaler import ActivationScaler

    kind, settings = get_sae_training_class(name)
    topk = name.endswith("topk")
    options = {"k": K, "rescale_acts_by_decoder_norm": rescaled} if topk else {}
    if name.startswith("matryoshka"):
        options["matryoshka_widths"] = [8, WIDTH]
    with _their_warnings():
        sae = _filled(
            kind(settings(d_in=D, d_sae=WIDTH, normalize_activations="expected_average_only_in",
                          **options)),
            generator,
        )  # fmt: skip
        if name.endswith("batchtopk"):
            sae.topk_threshold.fill_(0.7)
        sae.save_model(tmp_path / "checkpoint")
        ActivationScaler(0.4).save(str(tmp_path / "checkpoint" / saelens.SCALER))
        sae.fold_activation_norm_scaling_factor(0.4)
        sae.save_inference_model(tmp_path / "export")
        theirs = peer.SAE.load_from_disk(tmp_path / "export")
    x = 2 * draw(generator, 30, D)
    acts, made = theirs.encode(x).detach(), theirs(x).detach()
    for folder in ("checkpoint", "export"):
        found = saelens.load(tmp_path / folder)
        assert_close(found.encode(x).dense(), acts, rtol=1e-4, atol=1e-4)
        assert_close(found.reconstruct(x), made, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"architecture": "gated"}, {"architecture": "jumprelu", "normalize_activations": False},
        {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}},
        {"apply_b_dec_to_input": False, "normalize_activations": "none"},
    ],
    ids=str,
)  # fmt: skip
def test_saelens_and_we_read_the_flat_layout_alike(settings, generator, tmp_path):
    peer = _peer("sae_lens")
    flat = {"d_in": D, "d_sae": WIDTH, "dtype": "torch.float32", "hook_point": "hook_embed"}
    name = settings.get("architecture", "standard")
    with _their_warnings():
        _filled(_of_saelens(name), generator).save_model(tmp_path / "sae")
        write_json(tmp_path / "sae" / "cfg.json", **flat, **settings)
        theirs = peer.SAE.load_from_disk(tmp_path / "sae")
    x = draw(generator, 30, D)
    found = saelens.load(tmp_path / "sae")
    _same(found, x, theirs.encode(x), theirs(x))
    assert found.metadata == {"hook_name": "embed"}


# ---- the others


@pytest.mark.parametrize("activation", ["topk", "groupmax"])
@pytest.mark.parametrize("transcode", [True, False])
@pytest.mark.parametrize("skip", [True, False])
def test_sparsify(activation, transcode, skip, generator, tmp_path):
    peer = _peer("sparsify")
    settings = peer.SparseCoderConfig(
        activation=activation, num_latents=WIDTH, k=K, transcode=transcode, skip_connection=skip
    )
    theirs = _filled(peer.SparseCoder(D, settings), generator)
    theirs.save_to_disk(tmp_path / "layers.2")
    x = draw(generator, 30, D)
    found = sparsify.load(tmp_path / "layers.2")
    answer = theirs(x)
    acts = torch.zeros(30, WIDTH).scatter(1, answer.latent_indices, answer.latent_acts)
    _same(found, x, acts, answer.sae_out)
    again = peer.SparseCoder.load_from_disk(sparsify.save(found, tmp_path / "layers.3"))
    assert_close(again(x).sae_out.detach(), answer.sae_out.detach(), **CLOSE)


@pytest.mark.parametrize("name", sorted(dictionary_learning._KINDS))
def test_dictionary_learning(name, generator, tmp_path, monkeypatch):
    stand_in = ModuleType("nnsight")
    stand_in.LanguageModel = stand_in.Envoy = object
    monkeypatch.setitem(sys.modules, "nnsight", stand_in)
    _peer("dictionary_learning.dictionary")
    from dictionary_learning import dictionary as plain
    from dictionary_learning.trainers import batch_top_k, matryoshka_batch_top_k, top_k

    where = {
        "AutoEncoderTopK": top_k, "BatchTopKSAE": batch_top_k,
        "MatryoshkaBatchTopKSAE": matryoshka_batch_top_k,
    }  # fmt: skip
    options = (K,) if name in where else ()
    options += ([8, WIDTH - 8],) if name.startswith("Matryoshka") else ()
    kind = getattr(where.get(name, plain), name)
    theirs = _filled(kind(D, WIDTH, *options), generator)
    if name in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
        theirs.threshold.fill_(0.6)
    save_pickle(tmp_path / "ae.pt", theirs.state_dict())
    write_json(tmp_path / "config.json", trainer={"dict_class": name})
    x = draw(generator, 30, D)
    found = dictionary_learning.load(tmp_path, allow_pickle=True)
    _same(found, x, theirs.encode(x), theirs(x))
    _, read_by_them = PEERS["dictionary_learning"]
    again = read_by_them(dictionary_learning.save(found, tmp_path / "again"), x)
    assert_close(again.detach(), theirs(x).detach(), **CLOSE)


@pytest.mark.parametrize("threshold", [True, False])
@pytest.mark.parametrize("skip", [True, False])
def test_circuit_tracer(threshold, skip, generator, tmp_path):
    peer = _peer("circuit_tracer.transcoder.single_layer_transcoder")
    from circuit_tracer.transcoder.activation_functions import JumpReLU

    activation = JumpReLU(torch.zeros(WIDTH), 0.1) if threshold else torch.relu
    cpu, single = torch.device("cpu"), torch.float32
    made = peer.SingleLayerTranscoder(
        D, WIDTH, activation, 0, skip_connection=skip, device=cpu, dtype=single
    )
    theirs = _filled(made, generator)
    theirs.to_safetensors(str(tmp_path / "layer_0.safetensors"))
    x = draw(generator, 30, D)
    found = circuit_tracer.load(tmp_path / "layer_0.safetensors")
    _same(found, x, theirs.encode(x), theirs(x))
    path = circuit_tracer.save(found, tmp_path / "layer_1.safetensors")
    again = peer.load_relu_transcoder(str(path), 1, device=cpu, dtype=single)
    assert_close(again(x).detach(), theirs(x).detach(), **CLOSE)


@pytest.mark.parametrize("name", ["standard", "jumprelu"])
@pytest.mark.parametrize("lazy", [False, True])
def test_circuit_tracer_across_layers(name, lazy, generator, tmp_path):
    peer = _peer("circuit_tracer.transcoder.cross_layer_transcoder")
    made, x = transcoder(name, generator), inputs_of(generator)
    folder = cross_layer.save(made, tmp_path / "ours")
    theirs = peer.load_clt(
        str(folder), device=torch.device("cpu"), dtype=torch.float32, lazy_decoder=lazy,
        lazy_encoder=lazy,
    )  # fmt: skip
    rows = torch.stack(list(x.values()))
    acts = theirs.encode(rows).detach()
    assert float(acts.count_nonzero()) > 0
    for n, code in made.encode(x).items():
        assert_close(code.dense(), acts[n], **CLOSE)
    for n, expected in enumerate(theirs(rows).detach()):
        assert_close(made.reconstruct(x)[n], expected, rtol=1e-4, atol=1e-4)
    if not lazy:  # theirs writes what it holds
        (tmp_path / "theirs").mkdir()
        theirs.to_safetensors(str(tmp_path / "theirs"))
        again = cross_layer.load(tmp_path / "theirs")
        for weight, tensor in made.weights.items():
            assert torch.equal(again.weights[weight], tensor), weight
    assert theirs.n_layers == LAYERS


def test_circuit_tracer_reads_our_settings(generator, tmp_path):
    _peer("circuit_tracer")
    yaml = pytest.importorskip("yaml")
    made = transcoder("standard", generator, model_name="toy: #1", feature_input_hook="resid_pre")
    folder = cross_layer.save(made, tmp_path / "clt")
    said = yaml.safe_load((folder / "config.yaml").read_text())
    assert said == {
        "model_kind": "cross_layer_transcoder", "model_name": "toy: #1", "scan": "energylens",
        "feature_input_hook": "hook_resid_pre", "feature_output_hook": "hook_mlp_out", "k": 5,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["ReLU", "TopK"])
def test_openai(name, generator, tmp_path):
    peer = _peer("sparse_autoencoder.model")
    kind = peer.ACTIVATIONS_CLASSES[name]
    topk = name == "TopK"
    activation = kind(K) if topk else kind()
    theirs = _filled(peer.Autoencoder(WIDTH, D, activation, normalize=topk), generator)
    with _their_warnings():
        path = save_pickle(tmp_path / "0.pt", theirs.state_dict())
    found = openai.load(path, allow_pickle=True, normalised_rows=True)
    x = draw(generator, 30, D)
    rows, info = theirs.preprocess(x)
    acts, _ = theirs.encode(x)
    made = theirs.decode(acts, info)
    if topk:
        made = (made - info["mu"]) / info["std"]
    _same(found, rows, acts, made)
