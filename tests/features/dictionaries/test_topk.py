import pytest
import torch

from energylens.features.step import step
from tests.common.compare import assert_close
from tests.features.planted import random_weights, topk_dictionary
from tests.oracles.dense_topk import WEIGHTS, dense_code, loss_and_gradients


@pytest.mark.parametrize(("width", "d", "k"), [(40, 8, 5), (256, 16, 4), (12, 9, 12)])
def test_step_equals_dense_autograd(generator, width, d, k):
    weights = random_weights(generator, width=width, d=d)
    x = 2 * torch.randn(70, d, generator=generator, dtype=torch.float64)
    made = step(topk_dictionary(weights, k), x, 3.5)
    loss, gradients = loss_and_gradients(x, weights, k, 3.5)
    assert_close(made.loss, loss, rtol=1e-10)
    for name in WEIGHTS:
        assert_close(made.gradients[name], gradients[name], rtol=1e-6, atol=1e-12)


def test_negative_pre_activations_carry_no_gradient(generator):
    weights = random_weights(generator, width=10, d=6) | {"b_enc": torch.full((10,), -3.0).double()}
    x = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    dictionary = topk_dictionary(weights, 8)
    assert bool((dictionary.encode(x).values == 0).any())
    made = step(dictionary, x, 1.0)
    assert_close(made.gradients["W_enc"], loss_and_gradients(x, weights, 8, 1.0)[1]["W_enc"])


def test_code_equals_the_dense_code(generator):
    weights = random_weights(generator, width=128, d=8)
    x = torch.randn(600, 8, generator=generator, dtype=torch.float64)
    code = topk_dictionary(weights, 4).encode(x)
    expected = dense_code(x, weights["W_enc"], weights["b_enc"], weights["b_dec"], 4)
    assert_close(code.dense(), expected)


def test_step_leaves_the_dictionary_alone(generator):
    weights = random_weights(generator, width=20, d=5)
    before = {name: w.clone() for name, w in weights.items()}
    x = torch.randn(8, 5, generator=generator, dtype=torch.float64)
    step(topk_dictionary(weights, 3), x, 1.0)
    for name in WEIGHTS:
        assert_close(weights[name], before[name])
