"""Power laws with a floor: found where they were planted, and not where there is none."""

import math

import numpy as np
import pytest
import torch

from energylens.core.errors import BadInput
from energylens.stats.scaling import log_slope, scaling_law
from tests.common.compare import assert_close
from tests.oracles.power_law import fit

WIDTHS = torch.tensor([64.0, 128, 256, 512, 1024])
TOKENS = torch.tensor([1e4, 4e4, 1.6e5])


def grid(*axes: torch.Tensor, repeats: int = 1) -> torch.Tensor:
    places = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([place.reshape(-1) for place in places], 1).double().repeat(repeats, 1)


def noisy(law: torch.Tensor, generator: torch.Generator, sd: float = 0.02) -> torch.Tensor:
    return law * (sd * torch.randn(len(law), generator=generator, dtype=torch.float64)).exp()


def in_width(sizes: torch.Tensor) -> torch.Tensor:
    return 0.1 + 0.3 * (sizes[:, 0] / 256) ** -0.5


def in_both(sizes: torch.Tensor) -> torch.Tensor:
    return 0.05 + 0.3 * (sizes[:, 0] / 256) ** -0.5 + 0.1 * (sizes[:, 1] / 4e4) ** -0.4


def test_without_noise_the_law_is_found():
    sizes = grid(WIDTHS, TOKENS)
    law = scaling_law(in_both(sizes), sizes)
    assert_close(law.floor.estimate, torch.tensor(0.05).double(), rtol=1e-3)
    assert_close(law.exponent.estimate, torch.tensor([0.5, 0.4]).double(), rtol=1e-3)
    assert_close(law.unit, torch.tensor([256.0, 4e4]).double())
    assert_close(law.amplitude, torch.tensor([0.3, 0.1]).double(), rtol=1e-3)
    assert_close(law.at(sizes), in_both(sizes), rtol=1e-5)
    assert law.explained > 0.999999 and law.why == "" and law.points == 15


@pytest.mark.parametrize(
    ("axes", "truth"), [((WIDTHS,), in_width), ((WIDTHS[::2], TOKENS), in_both)]
)
def test_no_other_law_fits_better(axes, truth, generator):
    sizes = grid(*axes, repeats=2)
    loss = noisy(truth(sizes), generator)
    law = scaling_law(loss, sizes)
    found = (law.at(sizes).log() - loss.log()).square().sum().item()
    units = (sizes / law.unit).tolist()
    exponents = np.unique([*law.exponent.estimate.tolist(), *np.linspace(0.1, 1.0, 4)])
    parameters, least = fit(loss.tolist(), units, exponents=exponents)
    assert found <= least * (1 + 1e-6)
    assert parameters[1 + len(axes) :] == law.exponent.estimate.tolist()
    assert parameters[0] == pytest.approx(law.floor.estimate.item(), abs=1e-4)
    assert law.error == pytest.approx(math.sqrt(found / (len(loss) - 1 - 2 * len(axes))))


def test_the_end_of_an_interval_is_where_the_squares_have_risen_by_t(generator):
    from scipy.special import stdtrit

    sizes = grid(WIDTHS, repeats=3)
    loss = noisy(in_width(sizes), generator)
    law = scaling_law(loss, sizes)
    least = (law.at(sizes).log() - loss.log()).square().sum().item()
    allowed = least * (1 + float(stdtrit(12, 0.975)) ** 2 / 12)
    for end in (law.exponent.low, law.exponent.high):
        _, squares = fit(loss.tolist(), (sizes / law.unit).tolist(), exponents=end.tolist())
        assert squares == pytest.approx(allowed, rel=1e-3)


@pytest.mark.parametrize("sd", [0.02])
def test_intervals_cover_what_was_planted(sd):
    covered = floors = 0
    sizes = grid(WIDTHS, repeats=3)
    for seed in range(25):
        noise = torch.Generator().manual_seed(seed)
        law = scaling_law(noisy(in_width(sizes), noise, sd), sizes)
        covered += bool(law.exponent.low <= 0.5) and bool(law.exponent.high >= 0.5)
        floors += bool(law.floor.low <= 0.1) and bool(law.floor.high >= 0.1)
    assert 20 <= covered <= 25 and 20 <= floors <= 25  # 95 % of 25: 23.75 ± 3.3 sd


def test_noise_alone_could_have_an_exponent_of_0():
    held = 0
    sizes = grid(WIDTHS, repeats=3)
    for seed in range(25):
        noise = torch.Generator().manual_seed(seed)
        law = scaling_law(noisy(torch.full((15,), 0.3).double(), noise), sizes)
        held += bool(law.exponent.low == 0)
    assert held >= 20


def test_a_wrong_law_shows_in_its_misfit(generator):
    sizes = grid(WIDTHS, repeats=3)
    right = scaling_law(noisy(in_width(sizes), generator), sizes)
    bent = 0.3 + 0.1 * torch.sin(sizes[:, 0].log() * 2)
    wrong = scaling_law(noisy(bent, generator), sizes)
    assert right.misfit_p > 0.01 and wrong.misfit_p < 1e-4
    assert math.isnan(scaling_law(in_width(grid(WIDTHS)), grid(WIDTHS)).misfit_p)


def test_what_a_block_has_in_common_is_taken_out(generator):
    sizes = grid(WIDTHS, repeats=3)
    block = torch.arange(3).repeat_interleave(5)
    loss = noisy(in_width(sizes), generator)
    shifted = loss * torch.tensor([0.8, 1.0, 1.3])[block].double()
    blind, level = scaling_law(shifted, sizes), scaling_law(shifted, sizes, block=block)
    assert level.exponent.low > blind.exponent.low + 0.05 and level.error < blind.error / 3
    width = [float(found.exponent.high - found.exponent.low)
             for found in (level, scaling_law(loss, sizes, block=block))]  # fmt: skip
    assert width[0] == pytest.approx(width[1], rel=0.05)  # a shift itself costs nothing
    slope, peer = (log_slope(y, sizes[:, 0], block=block) for y in (shifted, loss))
    assert_close(slope.estimate, peer.estimate)
    assert_close(slope.low, peer.low)
    assert slope.low > log_slope(shifted, sizes[:, 0]).low
    with pytest.raises(BadInput, match="blocks of a law are not all at the same sizes"):
        scaling_law(loss, sizes, block=torch.arange(15) // 4)


@pytest.mark.parametrize(
    ("axes", "why"),
    [
        ((WIDTHS[:3],), "a law needs 4 different sizes, and there are 3"),
        ((WIDTHS, TOKENS[:1]), "a law needs 3 different sizes along each axis, and there are 1"),
    ],
)
def test_too_few_points_are_nan_and_a_sentence(axes, why):
    sizes = grid(*axes, repeats=5)
    law = scaling_law(torch.rand(len(sizes)) + 0.1, sizes)
    assert law.why == why and law.exponent.estimate.isnan().all() and law.floor.low.isnan()
    assert law.at(sizes).isnan().all()


def test_points_on_a_cross_are_too_few():
    cross = torch.tensor([[64.0, 2], [128, 2], [256, 2], [64, 4], [64, 8]])
    assert "6 points at different places, and there are 5" in scaling_law(torch.ones(5), cross).why


def test_what_has_no_logarithm_is_refused():
    with pytest.raises(BadInput, match="a loss of a law is not above 0 and finite"):
        scaling_law(torch.tensor([1.0, math.nan]), torch.ones(2, 1))
    with pytest.raises(BadInput, match="a size of a law is not above 0"):
        scaling_law(torch.ones(2), torch.tensor([[1.0], [0.0]]))


def test_the_slope_in_logs_is_that_of_least_squares(generator):
    from scipy.stats import linregress

    size = WIDTHS.repeat(2)
    loss = noisy(0.4 * (size / 64).double() ** -0.3, generator)
    slope = log_slope(loss, size)
    peer = linregress(size.double().log().numpy(), loss.log().numpy())
    assert slope.estimate.item() == pytest.approx(peer.slope)
    half = 2.306 * peer.stderr  # t of 8 degrees of freedom
    assert slope.high.item() - slope.estimate.item() == pytest.approx(half, rel=1e-4)
    assert log_slope(torch.ones(4), torch.tensor([1.0, 1, 2, 2])).low.isnan()
