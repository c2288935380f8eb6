"""Heads that copy, planted and random, against the whole matrix; early and late losses."""

import pytest
import torch

from energylens.core.errors import InsufficientData
from energylens.dynamics.induction import copying, in_context_score
from tests.common.compare import assert_close
from tests.oracles import progress as oracle


def test_copying_equals_the_eigenvalues_of_the_whole_circuit(generator):
    def normal(*shape: int):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    W_E, W_V, W_O, W_U = normal(12, 6), normal(3, 6, 2), normal(3, 2, 6), normal(6, 12)
    found = copying(W_E, W_V, W_O, W_U)
    for head in range(3):
        expected = oracle.copying(*(x.numpy() for x in (W_E, W_V[head], W_O[head], W_U)))
        assert_close(found[head], expected, rtol=1e-5)
    assert_close(copying(3 * W_E, W_V, 2 * W_O, W_U), found)
    turn = torch.linalg.qr(normal(6, 6))[0]
    assert_close(copying(W_E @ turn, turn.T @ W_V, W_O @ turn, turn.T @ W_U), found)
    copied = copying(W_E, W_E.T @ W_E @ W_V, W_V.mT, W_E.T)
    assert_close(copied, torch.ones(3, dtype=torch.float64))
    assert copying(W_E, 0 * W_V, W_O, W_U).isnan().all()


def test_random_weights_copy_nothing_on_average(generator):
    def normal(*shape: int):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    found = copying(normal(20, 16), normal(400, 16, 4), normal(400, 4, 16), normal(16, 20))
    assert abs(float(found.mean())) < 4 * float(found.std()) / 20


def test_context_helps_by_the_difference_of_two_means(generator):
    losses = torch.rand(3, 7, generator=generator)
    expected = losses[:, 3:].double().mean() - losses[:, :3].double().mean()
    assert_close(in_context_score(losses), expected)
    assert_close(in_context_score(torch.full((2, 6), 1.5)), 0.0)


def test_one_position_has_no_early_and_late():
    with pytest.raises(InsufficientData, match="2 positions, got 1"):
        in_context_score(torch.ones(3, 1))
