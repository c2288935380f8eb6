import itertools

import numpy as np
import pytest
import torch

from energylens.core.errors import InsufficientData
from energylens.stats import comovement
from energylens.stats.comovement import comovement_test, lagged_link
from energylens.stats.nulls import circular_shifts
from tests.common.compare import assert_close
from tests.oracles import events as oracle
from tests.stats.test_stationarity import autoregressive


def test_the_variance_of_turned_series_is_that_of_turning_them(generator, monkeypatch):
    series = torch.randn(4, 30, generator=generator, dtype=torch.float64)
    drawn = torch.rand(25, 4, generator=torch.Generator().manual_seed(3))
    turns = (drawn * 30).long().tolist()
    seen = {}

    def kept(observed, null):
        seen["null"] = null
        return torch.tensor(1.0)

    monkeypatch.setattr(comovement, "resampling_p", kept)
    found = comovement_test(series, torch.Generator().manual_seed(3), draws=25)
    slow = [oracle.variance_of_mean(series.numpy(), turn) for turn in turns]
    assert_close(seen["null"], slow)
    assert_close(found.variance, oracle.variance_of_mean(series.numpy(), [0] * 4))


def test_it_keeps_its_level_and_finds_what_moves_together(generator):
    def rate(shared):
        p = []
        for _ in range(1000 if not shared else 100):
            x = autoregressive(5, 200, 0.5, generator)
            x = x + shared * autoregressive(1, 200, 0.5, generator)
            p.append(comovement_test(x, generator, draws=99).p)
        return np.mean(np.array(p) <= 0.05)

    assert 0.035 <= rate(0.0) <= 0.065
    assert rate(0.7) > 0.8


def _link(a, b, generator, draws=199):
    return lagged_link(a, b, generator, reach=5, parts=10, draws=draws)


def test_the_lag_is_found_with_its_sign(generator):
    a = torch.randn(200, generator=generator, dtype=torch.float64)
    for lag in (-4, 0, 3):
        found = _link(a, -a.roll(lag), generator)
        assert (found.lag, found.p) == (lag, 1 / 200)
        slow = oracle.lagged_rank_correlation(a.numpy(), -a.roll(lag).numpy(), lag)
        assert_close(found.correlation, slow)
        assert found.correlation < -0.9 and found.p_whole == 1 / (200 - 20)


def test_the_link_keeps_its_level(generator):
    p, whole = [], []
    for _ in range(1000):
        a, b = autoregressive(2, 200, 0.3, generator)
        found = _link(a, b, generator, draws=99)
        p.append(found.p)
        whole.append(found.p_whole)
    assert 0.035 <= np.mean(np.array(p) <= 0.05) <= 0.065
    assert 0.03 <= np.mean(np.array(whole) <= 0.05) <= 0.07


def test_a_common_course_is_a_link_of_the_whole_alone(generator):
    course = torch.exp(-torch.arange(400) / 150.0)
    found = []
    for _ in range(60):
        a, b = course + 0.15 * torch.randn(2, 400, generator=generator)
        found.append(_link(a, b, generator, draws=99))
    assert np.mean([link.p_whole <= 0.05 for link in found]) > 0.9
    assert np.mean([link.p <= 0.05 for link in found]) < 0.2


def test_undefined_samples_are_left_out(generator):
    a = torch.randn(100, generator=generator, dtype=torch.float64)
    b = a.clone()
    b[7] = torch.nan
    assert _link(a, b, generator).correlation > 0.95
    for constant in (torch.ones(100), torch.full((100,), torch.nan)):
        with pytest.raises(InsufficientData, match="two series that vary"):
            _link(a, constant, generator)
    with pytest.raises(InsufficientData, match="2 series"):
        comovement_test(a[None], generator)


def test_turned_parts_keep_their_values_and_none_stays(generator):
    values = torch.arange(23)[None].repeat(2, 1)
    turned = circular_shifts(values, 200, generator, blocks=3, least=2)
    edges = [0, 8, 15, 23]
    for start, end in itertools.pairwise(edges):
        part = turned[:, :, start:end]
        assert (part.sort(2).values == values[:, start:end]).all()
        step = (part.roll(-1, 2) - part) % (end - start)
        assert (step[:, :, :-1] == 1).all()  # neighbours stay neighbours
        by = (part[:, :, 0] - start) % (end - start)
        assert by.min() == 2 and by.max() == end - start - 2
    assert (turned[:, 0] != turned[:, 1]).any()
    with pytest.raises(InsufficientData, match="cannot be turned by 4"):
        circular_shifts(values, 1, generator, blocks=4, least=4)
