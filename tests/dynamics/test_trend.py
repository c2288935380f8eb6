import pytest
import torch

from energylens.core.errors import BadInput
from energylens.dynamics.trend import saturating_basis
from tests.common.compare import assert_close

STEPS = 5 * torch.arange(300)


def _left(values):
    basis = saturating_basis(STEPS)
    return (values - basis @ (basis.T @ values)).square().mean().sqrt().item()


def test_the_basis_is_orthonormal():
    basis = saturating_basis(STEPS)
    assert_close(basis.T @ basis, torch.eye(basis.shape[1]), atol=1e-10)


def test_smooth_courses_leave_nothing_and_jumps_much():
    t = torch.linspace(0, 1, 300, dtype=torch.float64)
    assert _left(3 + 2 * t) < 1e-12
    for tau in (0.011, 0.03, 0.2, 0.9):
        assert _left(torch.exp(-t / tau)) < 1e-3
    assert _left(torch.exp(-t / 0.02) - torch.exp(-t / 0.3)) < 2e-3  # falls, then rises
    assert _left((1 + 20 * t) ** -0.5) < 1e-3  # a power law
    assert _left((t > 0.5).double()) > 0.1
    assert _left(torch.sigmoid((t - 0.5) / 0.03)) > 0.05


def test_time_may_begin_anywhere_and_have_any_unit():
    assert_close(saturating_basis(STEPS + 700).abs(), saturating_basis(STEPS // 5).abs(), atol=1e-6)


def test_steps_must_ascend():
    with pytest.raises(BadInput, match="ascend"):
        saturating_basis(torch.tensor([0, 5, 5, 10]))
