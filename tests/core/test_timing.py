"""Times are of the work, and the first run's set-up does not count."""

import time
from functools import partial

import pytest
import torch

from energylens.core.timing import bf16_speedup, fastest_seconds


def test_neither_what_is_set_up_once_nor_a_neighbour_counts():
    told = []

    def work(name, waits):
        told.append(name)
        time.sleep(next(waits))

    works = [partial(work, name, iter(waits)) for name, waits in
             (("a", [0.3, 0.3, 0.01]), ("b", [0.3, 0.02, 0.3]))]  # fmt: skip
    first, second = fastest_seconds(works, torch.device("cpu"))
    assert 0.01 <= first < 0.2 and 0.02 <= second < 0.2
    assert "".join(told) == "ababab"


def test_a_speedup_is_a_ratio_of_times(monkeypatch):
    monkeypatch.setattr("energylens.core.timing.fastest_seconds", lambda *a: [3.0, 1.5])
    assert bf16_speedup(torch.device("cpu"), rows=4, inner=4, columns=4) == pytest.approx(2)
