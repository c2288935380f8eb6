import math

import numpy as np
import pytest
import scipy.stats
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.bootstrap import (
    bca_interval,
    cluster_bootstrap,
    cluster_jackknife,
    interval,
    weighted_means_interval,
)
from tests.common.compare import assert_close
from tests.oracles import statistics as oracle


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _mean_of(values):
    return lambda weights: weights @ values / weights.sum(1)


def test_draws_follow_the_law_of_all_samples():
    values = torch.tensor([0.0, 1.0, 3.0, 10.0], dtype=torch.float64)
    exact = oracle.bootstrap_means(values.tolist())
    drawn = cluster_bootstrap(_mean_of(values), 4, draws=20_000, generator=_generator()).numpy()
    for mean in np.unique(exact):
        share = np.isclose(exact, mean).mean()
        error = (share * (1 - share) / 20_000) ** 0.5
        assert abs(np.isclose(drawn, mean).mean() - share) < 4.5 * error


def test_weights_count_units():
    def statistic(weights):
        assert (weights.sum(1) == 7).all() and (weights >= 0).all()
        return weights

    drawn = cluster_bootstrap(statistic, 7, draws=600, generator=_generator())
    assert drawn.shape == (600, 7) and drawn.dtype == torch.float64


def test_jackknife_leaves_each_unit_out():
    values = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    assert_close(cluster_jackknife(_mean_of(values), 3), [4.0, 3.5, 1.5])


def test_percentiles_of_known_draws():
    draws = torch.arange(101.0)[torch.randperm(101, generator=_generator())]
    ends = interval(draws, observed=torch.tensor(50.0), level=0.9)
    assert_close([ends.low, ends.estimate, ends.high], [5.0, 50.0, 95.0])


def test_one_undefined_draw_makes_the_interval_undefined():
    draws = torch.arange(40.0).reshape(20, 2)
    draws[3, 1] = math.nan
    ends = interval(draws, observed=torch.tensor([20.0, 21.0]))
    assert ends.low.isnan().tolist() == [False, True] == ends.high.isnan().tolist()


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_bca_agrees_with_scipy(level):
    values = -(torch.rand(25, generator=_generator(1), dtype=torch.float64).log() ** 3)
    ends = bca_interval(
        cluster_bootstrap(_mean_of(values), 25, draws=40_000, generator=_generator()),
        observed=values.mean(),
        jackknife=cluster_jackknife(_mean_of(values), 25),
        level=level,
    )
    peer = scipy.stats.bootstrap(
        (values.numpy(),), np.mean, confidence_level=level, n_resamples=40_000, method="BCa",
        rng=np.random.default_rng(0), batch=2000,
    ).confidence_interval  # fmt: skip
    assert_close([ends.low, ends.high], [peer.low, peer.high], rtol=0.03)


def test_bca_is_undefined_where_no_unit_matters():
    draws = torch.ones(50, 1, dtype=torch.float64)
    ends = bca_interval(draws, observed=draws[0], jackknife=torch.ones(5, 1, dtype=torch.float64))
    assert ends.low.isnan().all() and ends.high.isnan().all()


def test_ratio_of_sums_agrees_with_loops():
    g = _generator(3)
    sums = torch.randn(8, 2, 3, generator=g, dtype=torch.float64) + 5
    counts = torch.randint(1, 9, (8, 2, 3), generator=g)
    ends = weighted_means_interval(sums, counts, draws=300, generator=_generator(), level=0.9)
    picked = cluster_bootstrap(lambda w: w, 8, draws=300, generator=_generator()).numpy()
    for i in np.ndindex(2, 3):
        s, n = sums.numpy()[:, *i], counts.numpy()[:, *i].astype(float)
        ratio, t = s.sum() / n.sum(), []
        for w in picked.astype(int):
            ss, nn = np.repeat(s, w), np.repeat(n, w)
            drawn = ss.sum() / nn.sum()
            t.append((drawn - ratio) * nn.sum() / np.sqrt(((ss - drawn * nn) ** 2).sum()))
        error = np.sqrt(((s - ratio * n) ** 2).sum()) / n.sum()
        low, high = np.quantile(t, [0.05, 0.95])
        assert_close(ends.estimate[i], ratio)
        assert_close([ends.low[i], ends.high[i]], [ratio - high * error, ratio - low * error])


def test_one_count_a_unit_serves_all_sums():
    sums, counts = torch.rand(6, 3, generator=_generator()), torch.tensor([1, 2, 3, 4, 5, 6])
    ends = weighted_means_interval(sums, counts, draws=100, generator=_generator())
    spread = weighted_means_interval(
        sums, counts[:, None].expand(6, 3), draws=100, generator=_generator()
    )
    assert_close([ends.low, ends.high], [spread.low, spread.high])


def test_no_counts_at_all_is_undefined():
    sums, counts = torch.zeros(6, 2), torch.ones(6, 2)
    sums[:, 0] = torch.arange(6.0)
    counts[:, 1] = 0
    ends = weighted_means_interval(sums, counts, draws=60, generator=_generator())
    assert ends.estimate.isnan().tolist() == [False, True]


def test_counts_that_fit_nothing_are_refused():
    with pytest.raises(BadInput, match=r"shape \[6, 2\] do not fit sums of shape \[6, 3\]"):
        weighted_means_interval(torch.ones(6, 3), torch.ones(6, 2), generator=_generator())


@pytest.mark.parametrize(("units", "draws"), [(1, 10), (5, 0)])
def test_too_little_is_refused(units, draws):
    with pytest.raises(InsufficientData, match=f"got {units} and {draws}"):
        cluster_bootstrap(lambda w: w, units, draws=draws, generator=_generator())
