import math

import pytest
import torch
from torch import nn

from energylens.core.errors import BadInput, UnknownName
from energylens.dynamics.attention import attention_entropy
from energylens.dynamics.mechanisms import (
    PAIRS,
    Places,
    blind_value,
    pair_measures,
    snapshot,
    state_measures,
)
from energylens.sources.suite_networks import ARCHITECTURES, network
from tests.common.compare import assert_close

LABELS = torch.arange(40) % 4


class Heads(nn.Module):
    """Attention whose probabilities are handed on through a module that can be watched."""

    def __init__(self) -> None:
        super().__init__()
        self.scores, self.pattern = nn.Linear(3, 2 * 5), nn.Identity()

    def forward(self, x):
        scores = self.scores(x).unflatten(-1, (2, 5)).transpose(1, 2)
        return self.pattern(scores.softmax(-1)).mean(1)


def perceptron() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4))


def probe(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


PLACES = Places(representations=("0",), rectified=("1",))


def test_a_network_that_did_not_change_has_changed_in_nothing():
    model, x = perceptron(), probe(40, 6)
    one, two = snapshot(model, x, PLACES), snapshot(model, x, PLACES)
    changed = pair_measures(one, two)
    assert {name for name, _ in changed} == set(PAIRS)
    assert_close(list(changed.values()), [0.0] * len(changed), atol=1e-9)
    assert state_measures(one, LABELS) == state_measures(two, LABELS)
    assert model.training  # left as it was


def test_a_turned_layer_is_another_one_in_its_weights_alone():
    model, x = perceptron(), probe(40, 6)
    before = snapshot(model, x, PLACES)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(2))).Q
    with torch.no_grad():
        model[0].weight.copy_(turn @ model[0].weight)
        model[0].bias.copy_(turn @ model[0].bias)
    changed = pair_measures(before, snapshot(model, x, PLACES))
    assert_close(changed["representation_change", "0"], 0.0, atol=1e-5)
    assert_close(changed["representation_turn", "0"], 0.0, atol=1e-5)
    assert changed["weight_turn", "0"] > 0.5 and changed["relative_weight_change", "0"] > 0.5
    assert changed["weight_turn", "3"] == pytest.approx(0.0, abs=1e-6)


def test_attention_is_measured_where_its_probabilities_pass():
    model, x = Heads(), probe(40, 5, 3)
    places = Places(representations=("scores",), attention=("pattern:in",))
    now = snapshot(model, x, places)
    found = state_measures(now, LABELS)
    with torch.no_grad():
        scores = model.scores(x).unflatten(-1, (2, 5)).transpose(1, 2)
    entropy = attention_entropy(scores, from_logits=True).mean()
    assert_close(found["attention_entropy", "pattern:in"], entropy, rtol=1e-5)
    assert blind_value("attention_entropy", "pattern:in", now, LABELS) == pytest.approx(math.log(5))


def test_scores_in_the_place_of_probabilities_are_refused():
    model = Heads()
    places = Places(representations=("scores",), attention=("scores:out",))
    model.scores.register_forward_hook(lambda m, i, o: o.unflatten(-1, (2, 5)).transpose(1, 2))
    model.forward = lambda x: model.scores(x)
    now = snapshot(model, probe(40, 5, 3), places)
    with pytest.raises(BadInput, match="must be probabilities"):
        state_measures(now, LABELS)


def test_channels_of_a_rectified_map_are_its_neurons():
    model = network(ARCHITECTURES["cnn_shallow"], (1, 8, 8), 4, torch.Generator().manual_seed(0))
    places = Places(representations=("conv1",), rectified=("relu1",), units={"relu1": 1})
    now = snapshot(model, probe(40, 1, 8, 8), places)
    assert now.pooled["relu1"].shape == (40, 32)
    assert now.rectified["relu1"].shape == (40 * 16, 32)  # places of a map that was pooled to 4 × 4
    assert now.representations["conv1"].shape == (40, 32)


def test_a_layer_that_never_fires_is_undefined_and_the_others_are_not():
    model, x = perceptron(), probe(40, 6)
    with torch.no_grad():
        model[0].bias.fill_(-100.0)
    found = state_measures(snapshot(model, x, PLACES), LABELS)
    for name in ("class_selectivity", "class_d_prime", "hoyer_sparsity", "treves_rolls_sparsity"):
        assert math.isnan(found[name, "1"])
    assert found["zero_share", "1"] == 1.0
    assert math.isfinite(found["filter_cosine", "0"])


def test_random_filters_and_blind_neurons_have_the_value_of_the_null():
    model, x = nn.Sequential(nn.Linear(50, 400), nn.ReLU()), probe(400, 50)
    labels = torch.randint(4, (400,), generator=torch.Generator().manual_seed(3))
    now = snapshot(model, x, Places(representations=("0",), rectified=("1",)))
    found = state_measures(now, labels)
    for name, site in (("filter_cosine", "0"), ("filter_orthogonality", "0"),
                       ("class_variance_share", "1")):  # fmt: skip
        assert_close(found[name, site], blind_value(name, site, now, labels), rtol=0.15)
    assert blind_value("class_selectivity", "1", now, labels) is None


def test_what_does_not_fit_is_refused():
    model, x = perceptron(), probe(40, 6)
    with pytest.raises(UnknownName, match="no module named 'relu'"):
        snapshot(model, x, Places(representations=("relu",)))
    one = snapshot(model, x, PLACES)
    with pytest.raises(BadInput, match="40 samples came with 39 labels"):
        state_measures(one, LABELS[1:])
    other = snapshot(model, x, Places(representations=("0", "3")))
    with pytest.raises(BadInput, match="found '3' in one of them alone"):
        pair_measures(one, other)
