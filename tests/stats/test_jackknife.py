import pytest
import torch

from energylens.core.errors import InsufficientData
from energylens.stats.bootstrap import cluster_jackknife
from energylens.stats.jackknife import jackknife_interval, slope_of_estimates
from energylens.stats.robust import cluster_mean_interval
from tests.common.compare import assert_close


def test_of_a_mean_it_is_students_interval():
    x = torch.randn(15, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left_out = cluster_jackknife(lambda w: (w @ x) / w.sum(1, keepdim=True), 15)
    found, known = jackknife_interval(left_out, observed=x.mean(0)), cluster_mean_interval(x)
    assert_close(found.interval.low, known.low)
    assert_close(found.interval.high, known.high)


def test_it_covers_a_correlation():
    g, inside, truth = torch.Generator().manual_seed(1), 0, 0.6
    for _ in range(600):
        x, e = torch.randn(2, 60, generator=g, dtype=torch.float64)
        pair = torch.stack([x, truth * x + (1 - truth**2) ** 0.5 * e])

        def correlation(w, pair=pair):
            n = w.sum(1)
            mx, my = (w @ pair[0]) / n, (w @ pair[1]) / n
            xy = (w @ (pair[0] * pair[1])) / n - mx * my
            xx, yy = ((w @ p.square()) / n - m**2 for p, m in zip(pair, (mx, my), strict=True))
            return xy / (xx * yy).sqrt()

        once = correlation(torch.ones(1, 60, dtype=torch.float64))[0]
        found = jackknife_interval(cluster_jackknife(correlation, 60), observed=once).interval
        inside += bool(found.low <= truth <= found.high)
    assert 0.92 <= inside / 600 <= 0.98


def test_a_slope_covers_the_truth_of_its_points():
    g = torch.Generator().manual_seed(2)
    x, error = torch.tensor([0.0, 1.0, 4.0]), torch.tensor([0.5, 1.0, 0.2])
    inside = 0
    for _ in range(2_000):
        found = slope_of_estimates(x, 2 * x + error * torch.randn(3, generator=g), error)
        inside += bool(found.low <= 2 <= found.high)
    assert 0.93 <= inside / 2_000 <= 0.97


def test_one_point_has_no_slope():
    with pytest.raises(InsufficientData, match="2 points that differ"):
        slope_of_estimates(torch.ones(2), torch.zeros(2), torch.zeros(2))
