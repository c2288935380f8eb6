"""Descent: closed forms, planted minima, and the promise that the energy never rises."""

import pytest
import torch
from torch.nn.functional import normalize

from energylens.core.errors import BadInput
from energylens.energy.descent import barrier, descend, slope_of
from energylens.energy.energies.hopfield import hopfield, hopfield_update
from energylens.energy.lens_gradients import lens_energies
from tests.activations.models import subject, tokens
from tests.common.compare import assert_close


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def watched(slope, seen):
    def watch(states):
        values, gradient = slope(states)
        seen.append(values)
        return values, gradient

    return watch


def test_an_ill_conditioned_bowl_is_run_down_to_its_bottom():
    scale = torch.tensor([1.0, 3.0, 10.0, 30.0], dtype=torch.float64)
    bottom = drawn(4)
    slope = slope_of(lambda x: 0.5 * (scale * (x - bottom).square()).sum(1))
    found = descend(slope, drawn(20, 4, seed=1), tolerance=1e-8, max_steps=2000)
    assert found.converged.all() and found.convergence_share == 1.0
    assert_close(found.ends, bottom.expand(20, 4), atol=1e-7)
    assert (found.energy <= found.start_energy).all()


def test_planted_patterns_of_a_hopfield_network_are_recovered():
    patterns = normalize(drawn(12, 40), dim=1)
    noisy = patterns.repeat(4, 1) + 0.1 * drawn(48, 40, seed=1)
    found = descend(slope_of(lambda x: hopfield(x, patterns, 40.0)), noisy, tolerance=1e-6,
                    max_steps=500)  # fmt: skip
    assert found.converged.all()
    fixed = patterns.clone()
    for _ in range(200):  # the network's own fixed points, which lie next to the patterns
        fixed = hopfield_update(fixed, patterns, 40.0)
    assert_close(found.ends, fixed.repeat(4, 1), atol=1e-5)
    nearest = torch.cdist(found.ends, patterns).argmin(1)
    assert nearest.tolist() == list(range(12)) * 4


def test_on_a_sphere_the_lowest_point_is_the_top_eigenvector():
    matrix = torch.diag(torch.tensor([1.0, 2.0, 5.0, 9.0], dtype=torch.float64))
    # Scale-free: the Rayleigh quotient, whose minimum on any sphere is its last axis.
    slope = slope_of(lambda x: -(x @ matrix * x).sum(1) / x.square().sum(1))
    starts = 7 * normalize(drawn(30, 4), dim=1)
    found = descend(slope, starts, keep="norm", tolerance=1e-7, max_steps=2000)
    assert found.converged.all()
    assert_close(found.ends.norm(dim=1), starts.norm(dim=1), rtol=1e-10)
    assert_close(found.ends[:, 3].abs(), torch.full((30,), 7.0), rtol=1e-6)
    assert_close(found.energy, torch.full((30,), -9.0), atol=1e-9)


@pytest.mark.parametrize("name", ["surprisal", "free_energy", "entropy"])
def test_the_energy_of_a_real_lens_never_rises(name):
    found, starts = subject(), 3 * drawn(6, 32)
    targets = tokens(6)

    def slope(states):
        part = targets[: len(states)]
        read = lens_energies(states, part, found.final_norm, found.unembed, names=(name,))
        return read.value[name], read.gradient[name]

    before = slope(starts)[0]
    for limit in (3, 30):
        ended = descend(slope, starts, keep="norm", max_steps=limit)
        assert (ended.energy <= before + 1e-12).all()
        assert_close(ended.energy, slope(ended.ends)[0], rtol=1e-9, atol=1e-12)
        before = ended.energy
    assert (ended.energy < ended.start_energy - 1e-3).any()


def test_running_out_of_steps_is_not_convergence():
    slope = slope_of(lambda x: 0.5 * (torch.tensor([1.0, 500.0]) * x.square()).sum(1))
    found = descend(slope, drawn(5, 2), tolerance=1e-10, max_steps=4)
    assert not found.converged.any() and found.convergence_share == 0.0
    assert not found.diverged.any()


def test_a_start_without_a_finite_energy_is_counted_and_stays():
    slope = slope_of(lambda x: x.log().sum(1) ** 2)
    starts = torch.tensor([[2.0, 3.0], [-1.0, 1.0]], dtype=torch.float64)
    found = descend(slope, starts, tolerance=1e-8, max_steps=500)
    assert found.diverged.tolist() == [False, True] and found.converged.tolist() == [True, False]
    assert_close(found.ends[1], starts[1])


def test_a_state_is_run_alone_as_it_is_run_in_company():
    patterns = normalize(drawn(5, 8), dim=1)
    slope, starts = slope_of(lambda x: hopfield(x, patterns, 8.0)), drawn(7, 8, seed=2)
    together = descend(slope, starts)
    alone = torch.cat([descend(slope, start[None]).ends for start in starts])
    assert_close(together.ends, alone, rtol=1e-9)


def test_the_barrier_between_two_wells_is_its_closed_form():
    slope = slope_of(lambda x: (x[:, 0].square() - 1).square() + x[:, 1].square())
    left, right = torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    assert_close(barrier(slope, left, right), [1.0])
    assert_close(barrier(slope, left, torch.tensor([[-1.0, 2.0]])), [0.0])


def test_options_out_of_range_are_refused():
    slope = slope_of(lambda x: x.square().sum(1))
    for wrong in ({"tolerance": 0.0}, {"max_steps": 0}, {"first_step": -1.0}):
        with pytest.raises(BadInput, match="above 0"):
            descend(slope, drawn(2, 2), **wrong)
    with pytest.raises(BadInput, match="no norm to keep"):
        descend(slope, torch.zeros(2, 2), keep="norm")
    with pytest.raises(BadInput, match="at least 1"):
        barrier(slope, drawn(1, 2), drawn(1, 2), points=0)


def test_an_energy_that_is_not_one_number_a_state_is_refused():
    with pytest.raises(BadInput, match="one number a state"):
        slope_of(lambda x: x.square())(drawn(3, 2))
    with pytest.raises(BadInput, match="one number a state"):
        slope_of(lambda x: x.square().sum())(drawn(3, 2))


def test_a_slope_is_the_gradient_wherever_it_is_asked_for():
    at = drawn(4, 3)
    with torch.no_grad():
        energy, gradient = slope_of(lambda x: x.pow(3).sum(1))(at)
    assert_close(energy, at.pow(3).sum(1))
    assert_close(gradient, 3 * at.square())
    assert not energy.requires_grad and not at.requires_grad


def test_a_descent_shows_what_did_not_converge_beside_the_starts():
    slope = slope_of(lambda x: x.log().sum(1) ** 2)
    starts = torch.tensor([[2.0, 3.0], [-1.0, 1.0]], dtype=torch.float64)
    shown = repr(descend(slope, starts, tolerance=1e-8, max_steps=500))
    assert "Descent of 2 states" in shown and "1 of 2" in shown and "1 diverged" in shown
    assert "starts 3.21 [3.21, 3.21]" in shown  # (log 6)²
    assert "undefined" in repr(descend(slope, starts[1:]))
