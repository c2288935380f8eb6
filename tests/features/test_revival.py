import pytest
import torch

from energylens.features import revival
from energylens.features.revival import revive
from energylens.features.step import step
from tests.common.compare import assert_close
from tests.features.planted import random_weights, topk_dictionary
from tests.oracles.dense_topk import auxiliary_loss_and_gradients, loss_and_gradients


@pytest.mark.parametrize(("aux_k", "at_once"), [(3, 512), (500, 512), (3, 5)])
def test_gradients_equal_dense_autograd_and_reach_the_encoder(
    generator, aux_k, at_once, monkeypatch
):
    monkeypatch.setattr(revival, "ROWS_AT_ONCE", at_once)
    monkeypatch.setattr(revival, "FEATURES_AT_ONCE", at_once)
    weights = random_weights(generator, width=40, d=8)
    x = 2 * torch.randn(64, 8, generator=generator, dtype=torch.float64)
    dictionary = topk_dictionary(weights, 4)
    dead = torch.rand(40, generator=generator) < 0.3
    made = step(dictionary, x, 1.0)
    plain = loss_and_gradients(x, weights, 4, 1.0)[1]
    added = revive(dictionary, x, made, dead, aux_k=aux_k, weight=0.5)
    quarter = x.view(4, 4, 4, 8)[:, range(4), (0, 3, 2, 1)].flatten(0, 1)
    loss, gradients = auxiliary_loss_and_gradients(quarter, weights, 4, dead, aux_k, 0.5)
    assert_close(added, loss, rtol=1e-10)
    for name, gradient in gradients.items():
        assert_close(made.gradients[name], plain[name] + gradient, rtol=1e-6, atol=1e-12)
    assert float(gradients["W_enc"][dead].norm()) > 1e-3
    assert float(gradients["W_enc"][~dead].norm()) == 0
    assert_close(made.gradients["b_dec"], plain["b_dec"])


def test_nothing_dead_adds_nothing(generator):
    weights = random_weights(generator, width=20, d=8)
    x = torch.randn(16, 8, generator=generator, dtype=torch.float64)
    dictionary = topk_dictionary(weights, 4)
    made = step(dictionary, x, 1.0)
    before = made.gradients["W_enc"].clone()
    nobody = torch.zeros(20, dtype=torch.bool)
    assert float(revive(dictionary, x, made, nobody, aux_k=4, weight=1.0)) == 0
    assert_close(made.gradients["W_enc"], before)
