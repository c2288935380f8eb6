"""Files as dictionary_learning lays them out, against what its classes compute."""

import pytest
import torch

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.architecture import ARCHITECTURES
from energylens.features.formats import dictionary_learning, saelens
from energylens.features.formats.disk import read_pickle
from tests.common.compare import assert_close
from tests.features.formats.made import (
    WIDTH,
    D,
    K,
    changed,
    dictionary,
    draw,
    same,
    save_pickle,
    write_json,
)

CLASSES = (
    "AutoEncoder",
    "AutoEncoderNew",
    "GatedAutoEncoder",
    "JumpReluAutoEncoder",
    "AutoEncoderTopK",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
)
TRAINER = {"lm_name": "EleutherAI/pythia-70m", "layer": 3, "submodule_name": "resid_post_layer_3"}


def state_of(name, generator, *, threshold=0.8):
    """A state, and the formula of its class: x → (activations, reconstruction)."""
    encoder, decoder = draw(generator, WIDTH, D), draw(generator, D, WIDTH)
    bias, offset = 0.3 * draw(generator, WIDTH), draw(generator, D)
    each = draw(generator, WIDTH).abs()
    r_mag, b_mag = 0.3 * draw(generator, WIDTH), 0.3 * draw(generator, WIDTH)
    linear = {"encoder.weight": encoder, "encoder.bias": bias, "decoder.weight": decoder}
    plain = {"W_enc": encoder.T, "b_enc": bias, "W_dec": decoder.T, "b_dec": offset}
    numbers = {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(threshold)}
    groups = {"group_sizes": torch.tensor([8, WIDTH - 8])}
    state = {
        "AutoEncoder": linear | {"bias": offset},
        "AutoEncoderNew": linear | {"decoder.bias": offset},
        "GatedAutoEncoder": {
            "decoder_bias": offset, "encoder.weight": encoder, "r_mag": r_mag, "gate_bias": bias,
            "mag_bias": b_mag, "decoder.weight": decoder,
        },
        "JumpReluAutoEncoder": plain | {"threshold": each},
        "AutoEncoderTopK": linear | {"b_dec": offset} | numbers,
        "BatchTopKSAE": linear | {"b_dec": offset} | numbers,
        "MatryoshkaBatchTopKSAE": plain | numbers | groups,
    }[name]  # fmt: skip

    def formula(x):
        centered = x if name in ("AutoEncoderNew", "JumpReluAutoEncoder") else x - offset
        z = centered @ encoder.T
        acts = (z + bias).relu()
        if name == "GatedAutoEncoder":
            acts = (z + bias > 0) * (z * r_mag.exp() + b_mag).relu()
        elif name == "JumpReluAutoEncoder":
            acts = acts * (z + bias > each)
        elif name == "AutoEncoderTopK":
            best = acts.topk(K, dim=1)
            acts = torch.zeros_like(acts).scatter(1, best.indices, best.values)
        elif name in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
            acts = acts * (acts > threshold)
        return acts, acts @ decoder.T + offset

    return state, formula


def write(folder, name, state, **trainer):
    write_json(folder / "config.json", trainer=TRAINER | {"dict_class": name} | trainer, buffer={})
    save_pickle(folder / "ae.pt", state)
    return folder


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_does_what_it_does_there(name, generator, tmp_path):
    state, formula = state_of(name, generator)
    folder = write(tmp_path / "run", name, state)
    found = dictionary_learning.load(folder, allow_pickle=True)
    x = draw(generator, 30, D)
    acts, made = formula(x)
    assert float(acts.count_nonzero()) > 0
    assert_close(found.encode(x).dense(), acts, rtol=1e-5, atol=1e-5)
    assert_close(found.reconstruct(x), made, rtol=1e-4, atol=1e-4)
    assert found.own.keys() == ARCHITECTURES[found.architecture].own(1, x).keys()
    same(saelens.load(saelens.save(found, tmp_path / "converted")), found, x)
    assert found.metadata == {
        "model_name": "EleutherAI/pythia-70m", "dict_class": name, "layer": 3,
        "submodule_name": "resid_post_layer_3", "hook_name": "blocks.3.resid_post",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["BatchTopKSAE", "MatryoshkaBatchTopKSAE"])
def test_a_threshold_that_was_never_set_keeps_all_that_is_positive(name, generator, tmp_path):
    state, formula = state_of(name, generator, threshold=-1.0)
    found = dictionary_learning.load(write(tmp_path / "r", name, state), allow_pickle=True)
    x = draw(generator, 30, D)
    assert_close(found.encode(x).dense(), formula(x)[0], rtol=1e-5, atol=1e-5)
    assert bool((found.own["threshold"] == 0).all())


def test_a_step_of_training_is_read_with_the_settings_above_it(generator, tmp_path):
    state, formula = state_of("AutoEncoder", generator)
    folder = write(tmp_path / "run", "AutoEncoder", state)
    path = save_pickle(folder / "checkpoints" / "ae_100.pt", state)
    x = draw(generator, 5, D)
    found = dictionary_learning.load(path, allow_pickle=True)
    assert_close(found.reconstruct(x), formula(x)[1], rtol=1e-4, atol=1e-4)


def test_the_state_is_a_pickle_and_not_read_unless_allowed(generator, tmp_path):
    folder = write(tmp_path / "run", "AutoEncoder", state_of("AutoEncoder", generator)[0])
    with pytest.raises(ArtifactRefused, match="ae.pt is a pickle.*allow_pickle=True"):
        dictionary_learning.load(folder)


@pytest.mark.parametrize("name", CLASSES)
def test_tensors_that_are_missing_left_over_or_misshaped_are_named(name, generator, tmp_path):
    state, _ = state_of(name, generator)
    folder = write(tmp_path / "run", name, state)
    optional = ("k", "threshold") if name != "JumpReluAutoEncoder" else ()
    for missing in [n for n in state if n not in (*optional, "group_sizes")]:
        save_pickle(folder / "ae.pt", changed(state, **{missing: None}))
        with pytest.raises(ArtifactRefused, match=f"{missing} not found"):
            dictionary_learning.load(folder, allow_pickle=True)
        for wrong, message in [
            (torch.ones(3, 3, 3), f"{missing} should have shape"),
            ("text", f"{missing} should be a tensor of numbers, found str"),
            (torch.full_like(state[missing], torch.inf), f"{missing} holds"),
        ]:
            save_pickle(folder / "ae.pt", state | {missing: wrong})
            with pytest.raises(ArtifactRefused, match=message):
                dictionary_learning.load(folder, allow_pickle=True)
    save_pickle(folder / "ae.pt", state | {"other": torch.ones(1)})
    with pytest.raises(ArtifactRefused, match="found other as well"):
        dictionary_learning.load(folder, allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "trainer", "changes", "message"),
    [
        ("IdentityDict", {}, {}, "names a 'IdentityDict', read are AutoEncoder,"),
        ("AutoEncoderTopK", {"k": K + 1}, {}, f"says k = {K + 1}, .* holds k = {K}"),
        ("AutoEncoderTopK", {}, {"k": None}, "does not say k"),
        ("AutoEncoderTopK", {"k": 4.5}, {"k": None}, "says k = 4.5"),
        ("BatchTopKSAE", {}, {"threshold": None}, "lacks threshold"),
        ("MatryoshkaBatchTopKSAE", {}, {"group_sizes": torch.tensor([3])}, "group_sizes that sum"),
    ],
)
def test_settings_that_do_not_fit_are_named(name, trainer, changes, message, generator, tmp_path):
    state, _ = state_of(name if name in CLASSES else "AutoEncoder", generator)
    folder = write(tmp_path / "run", name, changed(state, **changes), **trainer)
    with pytest.raises(ArtifactRefused, match=message):
        dictionary_learning.load(folder, allow_pickle=True)


def test_a_state_without_settings_is_refused(generator, tmp_path):
    path = save_pickle(tmp_path / "ae.pt", state_of("AutoEncoder", generator)[0])
    with pytest.raises(ArtifactRefused, match="config.json is missing: it says what ae.pt is"):
        dictionary_learning.load(path, allow_pickle=True)
    write_json(tmp_path / "config.json", buffer={})
    with pytest.raises(ArtifactRefused, match="needs trainer as dict"):
        dictionary_learning.load(path, allow_pickle=True)


# ---- written


@pytest.mark.parametrize("subtracts", [True, False])
@pytest.mark.parametrize("name", ["standard", "gated", "jumprelu", "topk"])
def test_what_is_written_is_read_back(name, subtracts, generator, tmp_path):
    made = dictionary(name, generator, subtracts_b_dec=subtracts, model_name="tiny",
                      hook_name="blocks.3.resid_post")  # fmt: skip
    path = dictionary_learning.save(made, tmp_path / "d")
    found = dictionary_learning.load(path, allow_pickle=True)
    x = draw(generator, 30, D)
    assert_close(found.encode(x).dense(), made.encode(x).dense(), rtol=1e-4, atol=1e-5)
    assert_close(found.reconstruct(x), made.reconstruct(x), rtol=1e-4, atol=1e-4)
    assert found.metadata["hook_name"] == "blocks.3.resid_post"
    assert found.metadata["model_name"] == "tiny" and found.metadata["layer"] == 3
    kept = read_pickle(path / "ae.pt", allow_pickle=True)
    assert all(isinstance(tensor, torch.Tensor) for tensor in kept.values())


def test_any_other_place_comes_back_too(generator, tmp_path):
    made = dictionary("standard", generator, hook_name="blocks.2.mlp_out")
    found = dictionary_learning.load(
        dictionary_learning.save(made, tmp_path / "d"), allow_pickle=True
    )
    assert found.metadata["hook_name"] == "blocks.2.mlp_out"


def test_what_a_batch_was_trained_by_is_written_as_what_it_becomes(generator, tmp_path):
    made = dictionary("batchtopk", generator)
    found = dictionary_learning.load(
        dictionary_learning.save(made, tmp_path / "d"), allow_pickle=True
    )
    x = draw(generator, 30, D)
    assert found.architecture == "jumprelu"
    wanted = ARCHITECTURES["batchtopk"].finish(made)
    assert_close(found.reconstruct(x), wanted.reconstruct(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [("groupmax", {}), ("standard", {"d_out": 5}), ("standard", {"skip": True})],
    ids=str,
)
def test_what_it_has_not_is_refused(name, options, generator, tmp_path):
    made = dictionary(name, generator, subtracts_b_dec=not options, **options)
    with pytest.raises(BadInput, match="dictionary_learning holds standard, gated"):
        dictionary_learning.save(made, tmp_path / "d")
    assert not (tmp_path / "d").exists()
