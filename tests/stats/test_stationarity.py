import pytest
import torch

from energylens.core.errors import InsufficientData
from energylens.stats.stationarity import _tail, stationarity_test
from tests.common.compare import assert_close
from tests.oracles import events as oracle


def autoregressive(series, samples, correlation, g):
    """Unit variance, correlated from one sample to the next."""
    x = torch.randn(series, samples, generator=g, dtype=torch.float64)
    for t in range(1, samples):
        x[:, t] = correlation * x[:, t - 1] + (1 - correlation**2) ** 0.5 * x[:, t]
    return x


def test_the_statistic_is_that_of_its_definition(generator):
    x = autoregressive(3, 50, -0.6, generator)  # no positive correlation: no lags
    assert_close(stationarity_test(x).statistic, [oracle.kpss(row, 0) for row in x.tolist()])
    x = autoregressive(4, 60, 0.97, generator)  # as many as there may be
    found = [oracle.kpss(row, 10) for row in x.tolist()]
    assert_close(stationarity_test(x).statistic, found)


def test_the_law_has_the_published_critical_values():
    at = torch.tensor([0.347, 0.463, 0.574, 0.739], dtype=torch.float64)
    assert_close(_tail(at), [0.10, 0.05, 0.025, 0.01], rtol=0.04)
    assert_close(_tail(torch.tensor([1e-3, 9.0], dtype=torch.float64)), [1.0, 0.0], atol=1e-6)


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_it_keeps_its_level(correlation, generator):
    p = stationarity_test(autoregressive(4000, 100, correlation, generator)).p
    assert 0.035 <= (p < 0.05).double().mean() <= 0.065


def test_it_finds_walks_and_trends(generator):
    walk = torch.randn(1000, 100, generator=generator).cumsum(1)
    assert (stationarity_test(walk).p < 0.05).double().mean() > 0.5
    line = torch.randn(1000, 100, generator=generator) + torch.linspace(0, 2, 100)
    assert (stationarity_test(line).p < 0.05).double().mean() > 0.95


def test_independent_samples_are_those_of_an_autoregression(generator):
    x = autoregressive(400, 400, 0.5, generator)
    assert_close(stationarity_test(x).independent.median(), 400 / 3, rtol=0.05)


def test_what_never_varies_is_undefined_and_scale_does_not_matter(generator):
    x = autoregressive(2, 50, 0.3, generator)
    x[1] = 0.1
    found = stationarity_test(x)
    assert found.p.isnan().tolist() == [False, True]
    assert_close(stationarity_test(1e-9 * x + 1e-3).p, found.p, rtol=1e-4)
    with pytest.raises(InsufficientData, match="takes 16 samples, got 8"):
        stationarity_test(x[:, :8])
