import math

import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.dynamics.settling import SettlingOptions, settling
from tests.common.compare import assert_close
from tests.oracles import events as oracle
from tests.stats.test_stationarity import autoregressive

STEPS = torch.arange(0, 2000, 5)


def noise(series, generator, correlation=0.0):
    return autoregressive(series, len(STEPS), correlation, generator)


def test_it_is_the_step_after_the_last_sample_outside(generator):
    x = noise(40, generator) + 8 * torch.exp(-STEPS / 200)
    found = settling(x, STEPS)
    for i in range(40):
        last = oracle.last_outside(x[i].tolist(), float(found.level[i]), float(found.band[i]))
        if not found.censored[i]:
            assert found.step[i] == STEPS[last + 1]
        else:
            assert found.drifts[i] or last >= 300


@pytest.mark.parametrize("tau", [40, 120, 200])
def test_an_exponential_settles_when_five_percent_are_left(tau):
    found = settling(3 - 7 * torch.exp(-STEPS / tau)[None], STEPS)
    assert abs(found.step.item() - tau * math.log(20)) <= 10


def test_a_step_settles_when_it_is_over(generator):
    found = settling(noise(200, generator) + 10 * (STEPS >= 1000), STEPS)
    settled = ~found.censored
    assert settled.double().mean() > 0.95
    assert (found.step[settled] == 1000).double().mean() > 0.95


def test_a_series_that_jumps_in_its_plateau_has_not_settled(generator):
    found = settling(noise(100, generator) + 10 * (STEPS >= 1600), STEPS)
    assert found.censored.all() and found.step.isnan().all()


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_noise_alone_is_settled_from_the_beginning(correlation, generator):
    found = settling(noise(1000, generator, correlation), STEPS)
    assert (~found.censored).double().mean() > 0.94
    assert (found.step == 0).double().mean() > 0.87


def test_what_drifts_or_wanders_is_censored(generator):
    drifting = settling(noise(300, generator) + 10 * STEPS / 2000, STEPS)
    assert drifting.drifts.double().mean() > 0.98
    walking = settling(torch.randn(1000, 400, generator=generator).cumsum(1), STEPS)
    assert walking.censored.double().mean() > 0.8
    far_away = settling(torch.exp(STEPS / 3000.0)[None], STEPS)
    assert far_away.censored.item()


def test_a_drift_within_the_tolerance_is_no_drift(generator):
    still_moving = 100 * (STEPS >= 500) + STEPS / 2000 + 0.01 * noise(1, generator)
    assert settling(still_moving, STEPS).step.item() == 500
    strict = SettlingOptions(tolerance=0.0)
    assert settling(still_moving, STEPS, strict).censored.item()


def test_a_constant_series_settles_at_once_and_a_dead_one_is_undefined():
    x = torch.stack([torch.full((400,), 0.1), torch.full((400,), torch.nan)])
    found = settling(x, STEPS)
    assert found.step[0] == 0 and found.band[0] == 0
    assert found.censored.tolist() == [False, True]
    assert found.band[1].isnan() and not found.drifts[1]


def test_samples_that_were_not_measured_do_not_matter(generator):
    x = noise(1, generator) + 10 * (STEPS >= 1000)
    missing = x.clone()
    missing[0, ::7] = torch.nan
    assert settling(missing, STEPS).step.item() == settling(x, STEPS).step.item() == 1000


def test_scale_and_shift_do_not_matter(generator):
    x = noise(20, generator) + 5 * torch.exp(-STEPS / 300)
    found, changed = settling(x, STEPS), settling(1e-6 * x - 3, STEPS)
    assert_close(changed.step, found.step)
    assert_close(changed.band * 1e6, found.band, rtol=1e-6)


def test_bad_input_is_refused():
    with pytest.raises(InsufficientData, match="0.25 of 40 are 10"):
        settling(torch.ones(1, 40), torch.arange(40))
    with pytest.raises(BadInput, match="as many steps, got 9"):
        settling(torch.ones(1, 40), torch.arange(9))
    with pytest.raises(BadInput, match="write 0.25 for a quarter"):
        SettlingOptions(plateau=25)
