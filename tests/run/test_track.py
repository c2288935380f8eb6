"""A tracker never holds a run up, whatever it does."""

import threading
import time

import pytest

from energylens.core.errors import BadInput, UnknownName
from energylens.run import track
from energylens.run.track import TRACKERS, Unstalled, check_tracker


class Kept:
    def __init__(self):
        self.lines, self.closed = [], False

    def log(self, step, values):
        self.lines.append((step, dict(values)))

    def close(self):
        self.closed = True


def test_all_that_is_logged_arrives_in_order_and_the_tracker_is_closed():
    kept = Kept()
    tracker = Unstalled(lambda: kept, "kept")
    for step in range(100):
        tracker.log(step, {"loss": step / 2})
    tracker.close()
    assert kept.lines == [(step, {"loss": step / 2}) for step in range(100)] and kept.closed


def test_a_tracker_that_hangs_costs_no_time_and_is_left_behind():
    hold, told = threading.Event(), []
    tracker = Unstalled(lambda: hold.wait(30), "slow", tell=told.append, held=5)
    began = time.monotonic()
    for step in range(1000):
        tracker.log(step, {"loss": 0.0})
    tracker.close(seconds=0.2)
    assert time.monotonic() - began < 5
    assert tracker.dropped >= 990 and told == [
        "slow is slower than the run: steps are left out there",
        "slow did not finish in 0 s and was left behind",
    ]
    hold.set()


@pytest.mark.parametrize("when", ["open", "log", "close"])
def test_a_tracker_that_raises_is_told_once_and_the_run_goes_on(when):
    class Broken(Kept):
        def log(self, step, values):
            if when == "log":
                raise RuntimeError("no route\nto host")

        def close(self):
            raise RuntimeError("no route\nto host")

    def make():
        if when == "open":
            raise RuntimeError("no route\nto host")
        return Broken()

    told = []
    tracker = Unstalled(make, "far", tell=told.append)
    for step in range(50):
        tracker.log(step, {"loss": 1.0})
    tracker.close()
    assert told == ["far failed (RuntimeError: no route): the run goes on"]


def test_a_tracker_that_is_unknown_or_not_installed_is_refused(monkeypatch):
    with pytest.raises(UnknownName, match="did you mean 'wandb'"):
        check_tracker("wand")
    monkeypatch.setattr(track.importlib.util, "find_spec", lambda name: None)
    for name in TRACKERS:
        with pytest.raises(BadInput, match=f"not installed: pip install {name}"):
            check_tracker(name)
    check_tracker("")
