"""The contenders do what the programs they are named after do."""

import statistics

import pytest
import torch

from energylens.core.errors import InsufficientData
from energylens.dynamics.pelt import pelt_jumps
from energylens.dynamics.rolling import rolling_z_jumps


def _slow_rolling(values, window, threshold, fewest):
    marks = []
    for i, value in enumerate(values):
        before = values[max(0, i - window) : i]
        if i < fewest:
            continue
        spread = statistics.pstdev(before)
        if spread >= 1e-10 and abs(value - statistics.fmean(before)) / spread > threshold:
            marks.append(i)
    return marks


def test_the_rolling_z_looks_at_the_window_before_each_sample(generator):
    values = torch.randn(3, 120, generator=generator, dtype=torch.float64)
    values[1, 70:] += 8
    values[2] = 1.0
    found = rolling_z_jumps(values, window=30, threshold=2.0, min_samples=10)
    for row in range(3):
        assert found[row].nonzero()[:, 0].tolist() == _slow_rolling(
            values[row].tolist(), 30, 2.0, 10
        )
    assert found[0].any() and found[1, 70] and not found[2].any()


def test_one_step_fires_the_rolling_z_several_times(generator):
    values = torch.randn(1, 200, generator=generator) + 9 * (torch.arange(200) >= 100)
    assert 2 <= int(rolling_z_jumps(values).sum()) <= 20


def _slow_pelt(values, cost, apart):
    """Optimal segments by dynamic programming over every last change."""
    count = len(values)
    best, last = [-cost] + [float("inf")] * count, [0] * (count + 1)
    for end in range(apart, count + 1):
        for start in range(0, end - apart + 1):
            part = values[start:end]
            total = best[start] + float((part - part.mean()).square().sum()) + cost
            if total < best[end] - 1e-9:
                best[end], last[end] = total, start
    marks, end = [], last[count]
    while end:
        marks.append(end)
        end = last[end]
    return sorted(marks)


def test_pelt_finds_the_segments_that_cost_least(generator):
    values = torch.randn(4, 60, generator=generator, dtype=torch.float64)
    values[:, 20:] += 3
    values[:, 41:] -= 2
    found = pelt_jumps(values)
    sigma = 1.4826 * values.diff(dim=1).abs().median(1).values / 2**0.5
    cost = 2 * torch.log(torch.tensor(60.0)).item()
    for row in range(4):
        expected = _slow_pelt(values[row] / sigma[row], cost, 5)
        assert found[row].nonzero()[:, 0].tolist() == expected and expected


def test_pelt_says_nothing_of_what_is_constant_or_undefined():
    values = torch.ones(2, 40)
    values[1, 3] = torch.nan
    assert not pelt_jumps(values).any()
    with pytest.raises(InsufficientData, match="10 samples"):
        pelt_jumps(torch.ones(1, 9))
