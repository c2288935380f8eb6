"""Networks with an energy of their own: closed forms, planted minima, and the model's own step."""

import pytest
import torch
from torch.nn.functional import normalize

from energylens.core.errors import BadInput
from energylens.energy.energies.class_energy import class_energy
from energylens.energy.energies.energy_transformer import (
    EnergyBlock,
    energy_transformer,
    energy_transformer_step,
)
from energylens.energy.energies.hopfield import hopfield, hopfield_update
from tests.common.compare import assert_close
from tests.oracles.fixed_points import block_force

STEP = 1e-5


def gradient(energy, at):
    at = at.clone().requires_grad_()
    return torch.autograd.grad(energy(at).sum(), at)[0]


def slope(energy, at, direction):
    return (energy(at + STEP * direction) - energy(at - STEP * direction)) / (2 * STEP)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def block(seed=0, *, tokens=None) -> EnergyBlock:
    return EnergyBlock(
        W_Q=drawn(2, 3, 8, seed=seed), W_K=drawn(2, 3, 8, seed=seed + 1),
        memories=drawn(5, 8, seed=seed + 2), gamma=1.3, shift=drawn(8, seed=seed + 3) / 4,
        beta=0.5,
    )  # fmt: skip


def test_the_steps_of_a_hopfield_network_are_its_negative_gradient():
    patterns, states = drawn(6, 10), drawn(4, 10, seed=1)
    own = hopfield_update(states, patterns, 2.0) - states
    assert_close(-gradient(lambda x: hopfield(x, patterns, 2.0), states), own, atol=1e-12)
    direction = drawn(4, 10, seed=2)
    expected = slope(lambda x: hopfield(x, patterns, 2.0), states, direction)
    assert_close(-(own * direction).sum(1), expected, rtol=1e-7, atol=1e-8)


def test_a_hopfield_step_never_raises_the_energy():
    patterns, states = normalize(drawn(20, 12), dim=1), 3 * drawn(50, 12, seed=1)
    for _ in range(5):
        after = hopfield_update(states, patterns, 4.0)
        assert (hopfield(after, patterns, 4.0) <= hopfield(states, patterns, 4.0) + 1e-12).all()
        states = after


def test_hopfield_energy_is_blind_to_order_and_rotation():
    patterns, states = drawn(6, 10), drawn(4, 10, seed=1)
    turn = torch.linalg.qr(drawn(10, 10, seed=2))[0]
    energy = hopfield(states, patterns, 2.0)
    assert_close(hopfield(states, patterns.flip(0), 2.0), energy, rtol=1e-12)
    assert_close(hopfield(states @ turn, patterns @ turn, 2.0), energy, rtol=1e-12)


def test_attention_energy_is_the_sum_written_out():
    weights, g = block(), drawn(2, 4, 8, seed=9)
    found = energy_transformer(g, weights)
    for sample in range(2):
        total = 0.0
        for head in range(2):
            for c in range(4):
                query = weights.W_Q[head] @ g[sample, c]
                others = [
                    torch.exp(weights.beta * (weights.W_K[head] @ g[sample, b]) @ query)
                    for b in range(4) if b != c
                ]  # fmt: skip
                total -= torch.log(torch.stack(others).sum()) / weights.beta
        for b in range(4):
            total -= 0.5 * sum(max(float(m @ g[sample, b]), 0.0) ** 2 for m in weights.memories)
        assert_close(found[sample], total, rtol=1e-10)


def test_energy_transformer_gradients_are_those_of_finite_differences():
    weights, g, direction = block(), drawn(3, 5, 8, seed=4), drawn(3, 5, 8, seed=5)
    energy = lambda x: energy_transformer(x, weights)
    along = (gradient(energy, g) * direction).sum((1, 2))
    assert_close(along, slope(energy, g, direction), rtol=1e-6, atol=1e-7)


def test_the_step_of_a_block_is_its_negative_gradient():
    """The step is computed forwards, without a gradient; this is what makes it a descent."""
    weights, x = block(), drawn(3, 5, 8, seed=8)
    g = weights.normalised(x)
    move = (energy_transformer_step(x, weights, 0.25) - x) / 0.25
    assert_close(move, -gradient(lambda at: energy_transformer(at, weights), g), atol=1e-10)
    assert_close(move[1], block_force(g[1], weights), atol=1e-10)


def test_an_energy_transformer_descends_its_energy():
    weights, x = block(), drawn(6, 5, 8, seed=6)
    energies = []
    for _ in range(40):
        energies.append(energy_transformer(weights.normalised(x), weights))
        x = energy_transformer_step(x, weights, 0.002)
    path = torch.stack(energies)
    assert (path[1:] <= path[:-1] + 1e-9).all() and (path[-1] < path[0] - 1e-3).all()


def test_energy_transformer_is_blind_to_the_order_of_tokens():
    weights, g = block(), drawn(2, 5, 8, seed=7)
    assert_close(energy_transformer(g.flip(1), weights), energy_transformer(g, weights), rtol=1e-12)


def test_bad_networks_are_refused():
    with pytest.raises(BadInput, match="above 0"):
        hopfield(torch.zeros(1, 2), torch.eye(2), -1.0)
    with pytest.raises(BadInput, match="two tokens"):
        energy_transformer(drawn(1, 1, 8), block())
    with pytest.raises(BadInput, match="descend"):
        EnergyBlock(W_Q=drawn(1, 1, 2), W_K=drawn(1, 1, 2), memories=drawn(1, 2), gamma=-1.0,
                    shift=drawn(2), beta=1.0)  # fmt: skip


def test_class_energy_is_the_loss_on_the_label():
    logits, labels = drawn(7, 4), torch.tensor([0, 1, 2, 3, 0, 1, 2])
    expected = [
        -torch.log_softmax(row, 0)[label] for row, label in zip(logits, labels, strict=True)
    ]
    assert_close(class_energy(logits, labels), torch.stack(expected), rtol=1e-12)
    assert_close(class_energy(logits + 5, labels), class_energy(logits, labels), rtol=1e-10)
    direction = drawn(7, 4, seed=1)
    energy = lambda z: class_energy(z, labels)
    assert_close((gradient(energy, logits) * direction).sum(1), slope(energy, logits, direction),
                 rtol=1e-6, atol=1e-9)  # fmt: skip
    with pytest.raises(BadInput, match="0 to 3|between 0 and 3"):
        class_energy(logits, labels + 1)
