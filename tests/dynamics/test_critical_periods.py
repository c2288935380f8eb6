import numpy as np
import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.dynamics.critical_periods import (
    acceleration,
    beyond_course,
    coordination,
    critical_moments,
    loss_link,
    velocity,
)
from tests.common.compare import assert_close
from tests.stats.test_stationarity import autoregressive

STEPS = torch.arange(0, 2000, 5)


def walks(sites, generator, scale=1.0):
    """Sites whose velocities have nothing to do with each other."""
    return (scale * autoregressive(sites, 400, 0.3, generator)).cumsum(1)


def bursts(at, size=8.0):
    """What all sites are moved by at some moments."""
    moved = torch.zeros(400, dtype=torch.float64)
    moved[at] = size
    return moved.cumsum(0)


def test_velocity_and_acceleration_of_a_parabola():
    steps = torch.tensor([0, 10, 30, 60])
    values = (0.5 * steps**2)[None].double()
    assert_close(velocity(values, steps), [[5.0, 20.0, 45.0]])
    assert_close(acceleration(values, steps), [[1.0, 1.0]])


def test_a_tenth_of_all_moments_is_critical_whatever_happens(generator):
    critical = critical_moments(walks(5, generator).diff(dim=1).abs())
    assert_close(critical.double().mean(1), torch.full((5,), 0.1), atol=0.003)
    assert not critical_moments(torch.zeros(1, 50)).any()


def test_beyond_its_course_a_slowing_site_is_steady(generator):
    slowing = torch.exp(-torch.arange(200) / 30.0)[None] * torch.tensor([[1.0], [50.0]])
    assert_close(beyond_course(slowing), torch.ones(2, 180), rtol=1e-5)


def test_planted_moments_are_found_beyond_the_course(generator):
    moved = bursts([60, 150, 151, 230, 300, 350])
    for scale in (1.0, torch.exp(-STEPS / 300) + 0.1):
        found = coordination(walks(7, generator, scale) + moved, STEPS, generator, draws=199)
        assert found.whole.p == found.beyond.p == 1 / 200
        assert found.course[[59, 149, 229]].min() >= 6 / 7 and found.highest == 1


@pytest.mark.parametrize("course", [False, True])
def test_coordination_keeps_its_level_and_a_course_is_only_whole(course, generator):
    scale = torch.exp(-STEPS / 200) + 0.05 if course else 1.0
    whole, beyond = [], []
    for _ in range(150):
        found = coordination(walks(6, generator, scale), STEPS, generator, draws=39)
        whole.append(found.whole.p <= 0.05)
        beyond.append(found.beyond.p <= 0.05)
    assert np.mean(beyond) <= 0.1
    assert np.mean(whole) > 0.99 if course else np.mean(whole) <= 0.1


def falling(generator, moved=0.0):
    return 2 - 0.002 * torch.arange(400) - moved + 0.02 * torch.randn(400, generator=generator)


def test_a_loss_that_falls_with_the_sites_is_linked_at_its_lag(generator):
    at = list(range(20, 380, 17))
    values = walks(5, generator, 0.3) + bursts(at)
    loss = falling(generator, bursts([i + 3 for i in at], 0.3))
    found = loss_link(values, STEPS, loss, generator, draws=199)
    assert (found.lag, found.p) == (15.0, 1 / 200)
    assert found.correlation < -0.2
    at_once = loss_link(values, STEPS, falling(generator, bursts(at, 0.3)), generator, draws=99)
    assert at_once.share_falling > at_once.base_rate + 0.2


@pytest.mark.parametrize("course", [False, True])
def test_the_link_keeps_its_level_and_a_course_is_only_whole(course, generator):
    scale = torch.exp(-STEPS / 200) + 0.05 if course else 1.0
    beyond, whole = [], []
    for _ in range(150):
        drop = torch.cumsum(0.03 * torch.exp(-STEPS / 200), 0) if course else torch.zeros(400)
        loss = (0.02 * autoregressive(1, 400, 0.3, generator))[0] - drop
        found = loss_link(walks(6, generator, scale), STEPS, loss, generator, draws=39)
        beyond.append(found.p <= 0.05)
        whole.append(found.p_course <= 0.05)
    assert np.mean(beyond) <= 0.1
    assert np.mean(whole) > 0.5 if course else np.mean(whole) <= 0.12


def test_a_falling_loss_alone_is_no_link(generator):
    """The share of falls at critical moments is the base rate, however large that is."""
    shares = []
    for _ in range(30):
        loss = falling(generator) - 0.03 * torch.arange(400)
        found = loss_link(walks(6, generator), STEPS, loss, generator, draws=19)
        shares.append((found.share_falling, found.base_rate))
    falls, base = np.mean(shares, axis=0)
    assert base > 0.8 and abs(falls - base) < 0.02


def test_sites_that_never_change_and_changes_that_are_not_known_are_left_out(generator):
    values = walks(4, generator)
    values[1] = 3.0
    values[2, 100] = torch.nan
    found = coordination(values, STEPS, generator, draws=99)
    assert set((found.course * 2).tolist()) <= {0.0, 1.0, 2.0}  # two sites are left
    loss = falling(generator)
    loss[50:60] = torch.nan
    assert 0 <= loss_link(values, STEPS, loss, generator, draws=99).p <= 1


def test_bad_input_is_refused(generator):
    values = walks(4, generator)
    with pytest.raises(InsufficientData, match="2 sites that change, got 1"):
        coordination(values[:1], STEPS, generator)
    with pytest.raises(InsufficientData, match="43 samples, got 30"):
        coordination(values[:, :30], STEPS[:30], generator)
    with pytest.raises(InsufficientData, match="record the loss"):
        loss_link(values, STEPS, torch.full((400,), torch.nan), generator)
    with pytest.raises(BadInput, match="as many steps"):
        velocity(values, STEPS[:5])
    with pytest.raises(InsufficientData, match="3 samples"):
        acceleration(values[:, :2], STEPS[:2])
