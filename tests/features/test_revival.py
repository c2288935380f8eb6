import pytest
import torch

from energylens.features.architecture import ARCHITECTURES
from energylens.features.code import SparseCode
from energylens.features.revival import count_silence, revive
from tests.common.compare import assert_close
from tests.features.planted import random_weights, topk_dictionary
from tests.oracles.dense_topk import auxiliary_loss_and_gradients, loss_and_gradients


@pytest.mark.parametrize("aux_k", [3, 500])
def test_gradients_equal_dense_autograd_and_reach_the_encoder(generator, aux_k):
    weights = random_weights(generator, width=40, d=8)
    x = 2 * torch.randn(64, 8, generator=generator, dtype=torch.float64)
    dictionary = topk_dictionary(weights, 4)
    dead = torch.rand(40, generator=generator) < 0.3
    step = ARCHITECTURES["topk"].step(dictionary, x, 1.0)
    plain = loss_and_gradients(x, weights, 4, 1.0)[1]
    added = revive(dictionary, x - weights["b_dec"], step, dead, aux_k=aux_k, weight=0.5)
    quarter = x[:16]
    loss, gradients = auxiliary_loss_and_gradients(quarter, weights, 4, dead, aux_k, 0.5)
    assert_close(added, loss, rtol=1e-10)
    for name, gradient in gradients.items():
        assert_close(getattr(step, name), plain[name] + gradient, rtol=1e-6, atol=1e-12)
    assert float(gradients["W_enc"][dead].norm()) > 1e-3
    assert float(gradients["W_enc"][~dead].norm()) == 0
    assert_close(step.b_dec, plain["b_dec"])


def test_nothing_dead_adds_nothing(generator):
    weights = random_weights(generator, width=20, d=8)
    x = torch.randn(16, 8, generator=generator, dtype=torch.float64)
    dictionary = topk_dictionary(weights, 4)
    step = ARCHITECTURES["topk"].step(dictionary, x, 1.0)
    before = step.W_enc.clone()
    nobody = torch.zeros(20, dtype=torch.bool)
    assert float(revive(dictionary, x - weights["b_dec"], step, nobody, aux_k=4, weight=1.0)) == 0
    assert_close(step.W_enc, before)


def test_silence_is_counted_in_rows_and_ends_with_a_positive_value():
    since = torch.tensor([10, 10, 10, 10])
    code = SparseCode(
        indices=torch.tensor([[0, 2], [0, 3]]),
        values=torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
        width=4,
    )
    count_silence(since, code)
    assert since.tolist() == [0, 12, 12, 0]
