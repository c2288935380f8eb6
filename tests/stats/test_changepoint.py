import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from energylens.core.errors import InsufficientData
from energylens.stats.changepoint import changing_scale, fit_noise, null_gains, tail_p
from energylens.stats.multiplicity import resampling_p
from energylens.stats.shifts import coloured, prepare
from energylens.stats.templates import ramps
from tests.common.compare import assert_close
from tests.oracles import shifts as oracle

SAMPLES = 120
TIME = torch.linspace(-1, 1, SAMPLES, dtype=torch.float64)
ONES = np.ones(SAMPLES)
LINE = torch.linalg.qr(torch.stack([torch.ones_like(TIME), TIME], 1)).Q


def _noise(series, phi, generator, *, scale=None):
    new = torch.randn(series, SAMPLES, generator=generator, dtype=torch.float64)
    one = torch.ones(1, SAMPLES, dtype=torch.float64)
    return coloured(new, torch.tensor([phi], dtype=torch.float64), one if scale is None else scale)


def test_the_correlation_is_that_of_restricted_likelihood(generator):
    for phi in (0.1, 0.6, 0.9):
        values = _noise(1, phi, generator)
        scale = torch.ones_like(values)
        found = fit_noise(values, LINE[None], scale, LINE[:, :1])
        series = values[0].numpy()

        def loss(at, series=series):
            return -oracle.restricted(series, LINE.numpy(), ONES, at)

        expected = minimize_scalar(loss, bounds=(0, 0.99), method="bounded").x
        assert_close(found.correlation[0], expected, atol=2e-3)
        assert_close(found.new.square().sum(1), torch.tensor([SAMPLES - 2.0]), rtol=1e-6)


def test_columns_do_not_bias_the_correlation(generator):
    basis = torch.linalg.qr(torch.stack([TIME**k for k in range(8)], 1)).Q
    values = _noise(300, 0.8, generator)
    columns = basis.expand(300, -1, -1)
    found = fit_noise(values, columns, torch.ones_like(values), basis[:, :1])
    assert abs(found.correlation.mean().item() - 0.8) < 0.03


def test_a_scale_that_falls_is_found_and_a_jump_does_not_matter(generator):
    true = torch.exp(-TIME)[None]
    values = _noise(200, 0.0, generator, scale=true)
    values[:, 60:] += 30
    rough = changing_scale(values, LINE)
    columns = torch.cat([LINE, (TIME[60] <= TIME).double()[:, None]], 1).expand(200, -1, -1)
    found = fit_noise(values, columns, rough, LINE)
    for scale, wrong in ((rough, 0.5), (found.scale, 0.2)):
        fall = (scale[:, 0] / scale[:, -1]).log()
        assert abs(fall.mean().item() - 2) < wrong
    assert (found.scale / true).log().mean().abs().item() < 0.05


@pytest.mark.parametrize("phi", [0.0, 0.7])
def test_the_level_holds_where_nothing_shifts(phi, generator):
    templates = ramps(SAMPLES, (1, 5, 11, 23), margin=5)
    values = _noise(400, phi, generator)
    columns = LINE.expand(400, -1, -1)
    noise = fit_noise(values, columns, changing_scale(values, LINE), LINE)
    scan = prepare(columns, noise.scale, templates)
    null = null_gains(scan, noise, 99, block=6, generator=generator)
    p = tail_p(scan.gain(values[:, None])[:, 0], null)
    assert 10 <= int((p <= 0.05).sum()) <= 32  # 5 % of 400 is 20
    assert 20 <= int((p <= 0.10).sum()) <= 60


def test_a_shift_is_far_beyond_the_null(generator):
    values = _noise(5, 0.5, generator)
    values[:, 70:] += 6
    columns = torch.cat([LINE, (TIME[70] <= TIME).double()[:, None]], 1).expand(5, -1, -1)
    noise = fit_noise(values, columns, changing_scale(values, LINE), LINE)
    scan = prepare(LINE.expand(5, -1, -1), noise.scale, ramps(SAMPLES, (1, 5), margin=5))
    null = null_gains(scan, noise, 99, block=6, generator=generator)
    assert float(tail_p(scan.gain(values[:, None])[:, 0], null).amax()) < 1e-4


def test_within_the_draws_p_is_their_share_and_beyond_it_is_not_too_small(generator):
    null = torch.empty(400, 200, dtype=torch.float64).exponential_(0.5, generator=generator)
    inside = torch.full((200,), 3.0, dtype=torch.float64)
    assert_close(tail_p(inside, null), resampling_p(inside, null))
    far = torch.full((200,), 20.0, dtype=torch.float64)
    p, true = tail_p(far, null), torch.tensor(-10.0).exp().item()
    assert bool((p < 1 / 401).all())
    assert 0.8 < (p > true).double().mean().item() < 1
    assert bool(tail_p(torch.full((200,), torch.nan), null).isnan().all())


def test_too_few_draws_are_refused():
    with pytest.raises(InsufficientData, match="99 draws"):
        tail_p(torch.tensor(1.0), torch.ones(98))
