import pytest
import torch

from energylens.core.errors import BadInput
from energylens.dynamics.trend import saturating_basis
from energylens.stats.changing_noise import changes_without_jumps

STEPS = torch.arange(401)
BASIS = saturating_basis(STEPS, tolerance=0.01)


def _beyond(changes: torch.Tensor) -> torch.Tensor:
    """Where a change is two standard deviations from the mean of its series."""
    centred = changes - changes.mean(1, keepdim=True)
    return centred.abs() > 2 * centred.std(1, keepdim=True, correction=0)


def _falling(fall: float, series: int = 300) -> torch.Tensor:
    """Walks whose steps fall in size by a factor."""
    generator = torch.Generator().manual_seed(1)
    size = 1 + (fall - 1) * torch.exp(-torch.arange(400, dtype=torch.float64) / 60)
    noise = size * torch.randn(series, 400, generator=generator, dtype=torch.float64)
    return torch.cat([torch.zeros(series, 1), noise.cumsum(1)], 1)


def _drawn(values: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.cat(list(changes_without_jumps(values, BASIS, generator, draws=2)))


@pytest.mark.parametrize("fall", [1.0, 3.0, 10.0])
def test_it_exceeds_as_often_and_as_early_as_noise_that_falls_without_a_jump(fall: float) -> None:
    found, expected = _beyond(_falling(fall).diff(dim=1)), _beyond(_drawn(_falling(fall)))
    early, late = (hits[:, :40].sum() / hits.sum() for hits in (found, expected))
    assert expected.double().mean().item() == pytest.approx(found.double().mean().item(), abs=0.005)
    assert late.item() == pytest.approx(early.item(), abs=0.035)


def test_a_jump_is_not_part_of_the_size() -> None:
    walk = _falling(1.0, series=50)
    jumping = walk.clone()
    jumping[:, 200:] += 50
    assert _drawn(jumping).std().item() < 1.3 * _drawn(walk).std().item()


def test_a_basis_of_other_steps_is_refused() -> None:
    with pytest.raises(BadInput, match="400 samples need as many rows of a basis, got 401"):
        next(changes_without_jumps(torch.ones(1, 400), BASIS, torch.Generator(), draws=1))
