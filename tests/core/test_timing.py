"""Times are of the work, and the first run's set-up does not count."""

import time

import pytest
import torch

from energylens.core.timing import bf16_speedup, median_seconds


def test_the_median_leaves_out_what_is_set_up_once():
    waits = iter([0.2, 0.01, 0.01])
    found = median_seconds(lambda: time.sleep(next(waits)), torch.device("cpu"))
    assert 0.01 <= found < 0.2


def test_a_speedup_is_a_ratio_of_times(monkeypatch):
    seconds = iter([3.0, 1.5])
    monkeypatch.setattr("energylens.core.timing.median_seconds", lambda *a: next(seconds))
    assert bf16_speedup(torch.device("cpu"), rows=4, inner=4, columns=4) == pytest.approx(2)
