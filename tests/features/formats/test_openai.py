"""States of OpenAI's sparse_autoencoder, against what its class computes."""

import pytest
import torch

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.formats import openai
from energylens.features.formats.disk import read_pickle
from tests.common.compare import assert_close
from tests.features.formats.made import WIDTH, D, K, changed, dictionary, draw, save_pickle


def state_of(generator, activation="ReLU", **changes):
    state = {
        "pre_bias": draw(generator, D), "latent_bias": 0.3 * draw(generator, WIDTH),
        "stats_last_nonzero": torch.zeros(WIDTH, dtype=torch.long),
        "latents_activation_frequency": torch.ones(WIDTH),
        "latents_mean_square": torch.zeros(WIDTH),
        "encoder.weight": draw(generator, WIDTH, D),
        "decoder.weight": draw(generator, WIDTH, D).T,  # column major, as training leaves it
        "activation": activation,
        "activation_state_dict": {"k": K, "postact_fn": "ReLU"} if activation == "TopK" else {},
    }  # fmt: skip
    if activation == "TopK":  # a module whose state is asked for twice
        state |= {"activation.k": K, "activation.postact_fn": "ReLU"}
    return changed(state, **changes)


def normalised(x):
    centered = x - x.mean(1, keepdim=True)
    return centered / (centered.std(1, keepdim=True) + 1e-5)


def test_a_relu_does_what_it_does_there(generator, tmp_path):
    state = state_of(generator)
    found = openai.load(save_pickle(tmp_path / "0.pt", state), allow_pickle=True)
    x = draw(generator, 30, D)
    acts = ((x - state["pre_bias"]) @ state["encoder.weight"].T + state["latent_bias"]).relu()
    made = acts @ state["decoder.weight"].T + state["pre_bias"]
    assert_close(found.encode(x).dense(), acts, rtol=1e-5, atol=1e-5)
    assert_close(found.reconstruct(x), made, rtol=1e-4, atol=1e-4)


def test_a_topk_is_read_for_normalised_rows_on_request_alone(generator, tmp_path):
    state = state_of(generator, "TopK")
    path = save_pickle(tmp_path / "0.pt", state)
    with pytest.raises(ArtifactRefused, match="normalises every row.*normalised_rows=True"):
        openai.load(path, allow_pickle=True)
    found = openai.load(path, allow_pickle=True, normalised_rows=True)
    x = 3 * draw(generator, 30, D) + 1
    z = (normalised(x) - state["pre_bias"]) @ state["encoder.weight"].T + state["latent_bias"]
    values, where = z.topk(K, dim=1)
    acts = torch.zeros(30, WIDTH).scatter(1, where, values.relu())
    assert_close(found.encode(normalised(x)).dense(), acts, rtol=1e-5, atol=1e-5)
    assert found.metadata == {"rows": "normalised"}


def test_the_state_is_a_pickle_and_not_read_unless_allowed(generator, tmp_path):
    with pytest.raises(ArtifactRefused, match="0.pt is a pickle"):
        openai.load(save_pickle(tmp_path / "0.pt", state_of(generator)))


@pytest.mark.parametrize(
    ("activation", "changes", "message"),
    [
        ("Identity", {}, "activation 'Identity', read are ReLU, TopK"),
        ("TopK", {"activation_state_dict": {"k": K, "postact_fn": "Identity"}}, "'Identity'"),
        ("TopK", {"activation_state_dict": {}}, "found None"),
        ("TopK", {"activation_state_dict": {"k": 41}}, "k must lie in 1 … 40"),
        ("ReLU", {"decoder.weight": None, "decoder.linear.weight": torch.ones(WIDTH, D)},
         "decoder.weight not found; found decoder.linear.weight as well"),
        ("ReLU", {"encoder.weight": torch.ones(D, WIDTH)}, "latent_bias should have shape"),
        ("ReLU", {"pre_bias": torch.full((D,), torch.nan)}, "pre_bias holds 8 values"),
        ("ReLU", {"pre_bias": [0.0] * D}, "pre_bias should be a tensor of numbers, found list"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(activation, changes, message, generator, tmp_path):
    path = save_pickle(tmp_path / "0.pt", state_of(generator, activation, **changes))
    with pytest.raises(ArtifactRefused, match=message):
        openai.load(path, allow_pickle=True, normalised_rows=True)


@pytest.mark.parametrize("subtracts", [True, False])
def test_what_is_written_is_read_back(subtracts, generator, tmp_path):
    made = dictionary("standard", generator, subtracts_b_dec=subtracts)
    path = openai.save(made, tmp_path / "0.pt")
    found, x = openai.load(path, allow_pickle=True), draw(generator, 30, D)
    assert_close(found.encode(x).dense(), made.encode(x).dense(), rtol=1e-4, atol=1e-5)
    assert_close(found.reconstruct(x), made.reconstruct(x), rtol=1e-4, atol=1e-4)
    kept = read_pickle(path, allow_pickle=True)
    assert set(kept) == set(state_of(generator))  # what its class asks for, and no more
    with pytest.raises(BadInput, match="exists already"):
        openai.save(made, path)


def test_a_topk_is_written_for_normalised_rows_on_request_alone(generator, tmp_path):
    made = dictionary("topk", generator)
    with pytest.raises(BadInput, match="cannot be written.*normalised_rows=True"):
        openai.save(made, tmp_path / "0.pt")
    path = openai.save(made, tmp_path / "0.pt", normalised_rows=True)
    found = openai.load(path, allow_pickle=True, normalised_rows=True)
    rows = normalised(draw(generator, 30, D))
    assert_close(found.reconstruct(rows), made.reconstruct(rows))
    with pytest.raises(BadInput, match="OpenAI holds standard and topk of one width"):
        openai.save(dictionary("gated", generator), tmp_path / "1.pt")
