import math

import pytest
import torch

from energylens.core.errors import InsufficientData
from energylens.stats.information import excess_mutual_information
from tests.common.compare import assert_close


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def correlated(rho, seed, units=40, places=50):
    g = generator(seed)
    x = torch.randn(units, places, generator=g)
    return x, rho * x + math.sqrt(1 - rho**2) * torch.randn(units, places, generator=g)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_gaussians_have_their_closed_form(rho):
    # One estimate of 2,000 samples has a standard deviation of .03: sixteen tell .025 apart.
    found = [excess_mutual_information(*correlated(rho, seed), generator=generator(seed), draws=3)
             for seed in range(16)]  # fmt: skip
    expected = -0.5 * math.log(1 - rho**2)
    assert_close(sum(f.value for f in found) / 16, expected, atol=0.025)
    assert all(f.samples == 2000 and f.units == 40 for f in found)


def test_noise_is_rejected_as_often_as_the_level_says():
    rejected = sum(
        excess_mutual_information(*correlated(0.0, seed, 20, 20), generator=generator(seed),
                                  draws=19).p <= 0.05
        for seed in range(100)
    )  # fmt: skip
    assert rejected <= 11  # 5 expected; 12 or more has a chance of .004


def test_what_a_unit_shares_is_no_information():
    """Series that move together within units of their own are independent between units."""
    hits = 0
    for seed in range(40):
        g = generator(seed)
        level = lambda g=g: torch.randn(12, 1, generator=g).expand(12, 30)
        x, y = (level() + 0.1 * torch.randn(12, 30, generator=g) for _ in range(2))
        hits += excess_mutual_information(x, y, generator=g, draws=19).p <= 0.05
    assert hits <= 7  # .003 by chance at 5 %; a shuffle of samples rejects nearly always


def test_a_curve_without_correlation_is_found():
    x, noise = correlated(0.0, 3)
    y = x.square() + 0.3 * noise
    found = excess_mutual_information(x, y, generator=generator(), draws=39)
    assert abs(float(torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1])) < 0.1
    assert found.p == 1 / 40 and found.value > 0.3
    assert_close(found.value, found.raw - found.null_mean)


def test_too_little_is_refused():
    with pytest.raises(InsufficientData, match="50 samples of 5 units"):
        excess_mutual_information(*correlated(0.0, 0, 4, 30), generator=generator())
    with pytest.raises(InsufficientData, match="in 0 samples of 0 units"):
        excess_mutual_information(torch.zeros(10, 10), torch.randn(10, 10), generator=generator())


def test_one_sample_apart_is_refused_whatever_its_size():
    """The trap of the one-hot series: its information is H(1 / n), large and meaningless."""
    spike = torch.zeros(10, 10)
    spike[3, 4] = 1e6
    with pytest.raises(InsufficientData, match="in 1 samples of 1 units"):
        excess_mutual_information(spike, torch.randn(10, 10), generator=generator())
