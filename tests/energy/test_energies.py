import pytest
import torch

from energylens.activations.batch import Batch
from energylens.core.errors import UnknownName
from energylens.energy.energies.downstream import downstream_energy, downstream_gradients
from energylens.energy.energies.entropy import entropy
from energylens.energy.energies.free_energy import free_energy
from energylens.energy.energies.surprisal import surprisal
from energylens.energy.lens_gradients import LENS_ENERGIES, lens_energies, lens_values
from tests.activations.models import SHAPES, subject, tokens
from tests.common.compare import assert_close

STEP = 1e-5


def slope(function, at, direction):
    return (function(at + STEP * direction) - function(at - STEP * direction)) / (2 * STEP)


@pytest.mark.parametrize("family", SHAPES)
def test_lens_gradients_are_those_of_finite_differences(family):
    found, generator = subject(family), torch.Generator().manual_seed(3)
    draw = lambda: torch.randn(7, 32, generator=generator, dtype=torch.float64)
    states, direction, targets = draw(), draw(), tokens(7, seed=5)
    fused = lens_energies(states, targets, found.final_norm, found.unembed)
    for name, energy in (
        ("surprisal", lambda h: surprisal(h, targets, found.lens)),
        ("free_energy", lambda h: free_energy(h, found.lens)),
        ("entropy", lambda h: entropy(h, found.lens)),
    ):
        assert_close(fused.value[name], energy(states), rtol=1e-12)
        along = (fused.gradient[name] * direction).sum(1)
        assert_close(along, slope(energy, states, direction), rtol=1e-6, atol=1e-8)


def test_lens_gradients_equal_autograd_in_blocks(monkeypatch):
    import energylens.energy.lens_gradients as module

    monkeypatch.setattr(module, "ROW_BLOCK", 4)
    found = subject()
    states = torch.randn(10, 32, dtype=torch.float64, requires_grad=True)
    targets = tokens(10)
    fused = lens_energies(states.detach(), targets, found.final_norm, found.unembed)
    for name, energy in (
        ("surprisal", surprisal(states, targets, found.lens)),
        ("free_energy", free_energy(states, found.lens)),
        ("entropy", entropy(states, found.lens)),
    ):
        (expected,) = torch.autograd.grad(energy.sum(), states)
        assert_close(fused.gradient[name], expected, atol=1e-12)


@pytest.mark.parametrize("names", [("surprisal",), ("free_energy",), ("entropy",), ()])
def test_what_is_not_asked_for_changes_nothing(names):
    found, targets = subject(), tokens(6)
    states = torch.randn(6, 32, dtype=torch.float64)
    whole = lens_energies(states, targets, found.final_norm, found.unembed)
    part = lens_energies(states, targets, found.final_norm, found.unembed, names=names)
    values = lens_values(states, targets, found.final_norm, found.unembed, names=names)
    assert set(part.value) == set(part.gradient) == set(values) == set(names)
    for name in names:
        assert_close(part.value[name], whole.value[name], rtol=1e-12)
        assert_close(part.gradient[name], whole.gradient[name], rtol=1e-10, atol=1e-14)


def test_an_unknown_lens_energy_names_the_nearest():
    found = subject()
    with pytest.raises(UnknownName, match="entropy"):
        lens_values(torch.zeros(1, 32), tokens(1), found.final_norm, found.unembed,
                    names=("entropie",))  # fmt: skip


def test_lens_values_are_those_of_the_gradients(monkeypatch):
    import energylens.energy.lens_gradients as module

    monkeypatch.setattr(module, "ROW_BLOCK", 4)
    found, targets = subject(), tokens(10)
    states = torch.randn(10, 32, dtype=torch.float64)
    fused = lens_energies(states, targets, found.final_norm, found.unembed)
    alone = lens_values(states, targets, found.final_norm, found.unembed)
    for name in LENS_ENERGIES:
        assert_close(alone[name], fused.value[name], rtol=1e-12)
    nothing = lens_values(states[:0], targets[:0], found.final_norm, found.unembed)
    assert [len(part) for part in nothing.values()] == [0, 0, 0]


@pytest.mark.parametrize("family", SHAPES)
def test_downstream_gradients_are_those_of_finite_differences(family):
    found, batch = subject(family), Batch.full(tokens(2, 8))
    sites = ["blocks.0.resid_pre", "blocks.1.resid_post"]
    states, gradients, loss = downstream_gradients(found, batch, sites)
    assert_close(loss.sum(1), downstream_energy(found.forward(batch), batch), rtol=1e-12)
    for site in sites:
        direction = torch.randn(states[site].shape, dtype=torch.float64)
        energies = []
        for step in (STEP, -STEP):
            with found.edit({site: lambda h, step=step: h + step * direction}):
                energies.append(downstream_energy(found.forward(batch), batch).sum())
        expected = (energies[0] - energies[1]) / (2 * STEP)
        assert_close((gradients[site] * direction).sum(), expected, rtol=1e-6)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_the_lens_does_not_see_the_scale_of_a_state(factor):
    """The norm's epsilon is all that tells scales apart."""
    found = subject()
    states, targets = torch.randn(5, 32, dtype=torch.float64) * 50, tokens(5)
    for energy in (
        lambda h: surprisal(h, targets, found.lens),
        lambda h: free_energy(h, found.lens),
    ):
        assert_close(energy(states * factor), energy(states), rtol=1e-6)


def test_padding_carries_no_energy():
    found = subject()
    sequence = tokens(6).tolist()
    alone = Batch.padded([sequence])
    padded = Batch.padded([sequence, tokens(9, seed=2).tolist()], side="left")
    energy = downstream_energy(found.forward(padded), padded)[0]
    assert_close(energy, downstream_energy(found.forward(alone), alone)[0], rtol=1e-10)
