"""Hidden layers of classifiers, and states as positions within an image."""

import pytest
import torch
from torch import nn

from energylens.activations.images import as_positions, in_shape_of
from energylens.activations.layers import hidden_layers
from energylens.core.errors import SiteNotAvailable
from energylens.sources.small_classifiers import small_classifier
from tests.common.compare import assert_close


@pytest.mark.parametrize(
    ("kind", "sites"),
    [("mlp", ["hidden1:out", "hidden2:out", "hidden3:out"]),
     ("cnn", ["conv1:out", "conv2:out", "hidden1:out"])],
)  # fmt: skip
def test_the_hidden_layers_of_our_own_networks(kind, sites, generator):
    module = small_classifier(kind, (1, 8, 8), 10, generator)
    assert hidden_layers(module, lambda: module(torch.zeros(2, 1, 8, 8))) == sites


def test_of_layers_in_turn_the_last_kind_is_read_and_the_scores_are_not():
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    assert hidden_layers(module, lambda: module(torch.ones(3, 4))) == ["1:out", "3:out"]


def test_a_module_without_a_list_of_layers_says_how_to_name_one():
    module = nn.Linear(4, 2)
    with pytest.raises(SiteNotAvailable, match="path:out"):
        hidden_layers(module, lambda: module(torch.ones(3, 4)))


@pytest.mark.parametrize("shape", [(3, 5), (3, 7, 5), (3, 5, 2, 4)])
def test_positions_and_back(shape):
    value = torch.arange(float(torch.tensor(shape).prod())).view(shape)
    states = as_positions(value, "here")
    assert states.shape[0] == 3 and states.shape[-1] == 5
    assert_close(in_shape_of(states, value), value)
    with pytest.raises(SiteNotAvailable, match="shape 3×1×1×1×1"):
        as_positions(torch.zeros(3, 1, 1, 1, 1), "here")
