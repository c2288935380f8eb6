"""The way that entries are chosen is measured once, remembered, told, and kept by a checkpoint."""

from dataclasses import replace

import pytest
import torch

from energylens.core.checkpoint import FolderCheckpoint
from energylens.core.errors import BadInput
from energylens.features import route, training
from energylens.features.kernels import BLOCK
from energylens.features.route import Route, choose_route
from energylens.features.train import train
from energylens.features.training import TrainOptions
from tests.core.test_checkpoint import Killed, Mortal, same
from tests.features.planted import planted_rows, random_weights, topk_dictionary

OPTIONS = TrainOptions(width=64, k=4, epochs=2, batch=128)


@pytest.fixture
def clock(monkeypatch):
    """Times as the test says: of a small product, and of choosing by either."""
    said = {"small": 1.0, "fp32": 1.0, "bf16": 1.0, "set_up": 0.0, "asked": 0}

    def seconds(works, device, runs=3):
        for work in works:
            work()
        said["asked"] += 2
        return [said["fp32"], said["bf16"], said["set_up"]]

    monkeypatch.setattr(route, "_measured", {})
    monkeypatch.setattr(route, "bf16_speedup", lambda *a, **b: said["small"])
    monkeypatch.setattr(route, "fastest_seconds", seconds)
    return said


@pytest.fixture
def dictionary(generator):
    return topk_dictionary(random_weights(generator, width=64, d=8, dtype=torch.float32), 4)


@pytest.mark.parametrize(("bf16", "taken"), [(0.25, "bf16"), (0.99, "fp32"), (3.0, "fp32")])
def test_the_faster_way_is_taken_and_measured_once_a_shape(clock, dictionary, bf16, taken):
    clock["bf16"] = bf16
    rows = torch.zeros(40, 8)
    first = choose_route(dictionary, rows)
    assert first.products == taken and first.speedup == pytest.approx(1 / bf16)
    clock["bf16"] = 1 / bf16
    assert choose_route(dictionary, rows) == first and clock["asked"] == 2
    choose_route(dictionary, rows[:30])
    assert clock["asked"] == 4, "another shape is measured by itself"


def test_what_is_set_up_once_is_shared_by_the_blocks_of_a_batch(clock, dictionary):
    clock["bf16"], clock["set_up"] = 1.5, 1.0
    assert choose_route(dictionary, torch.zeros(BLOCK, 8)).products == "fp32"
    found = choose_route(dictionary, torch.zeros(3 * BLOCK + 1, 8))  # four blocks
    assert found.products == "bf16" and found.speedup == pytest.approx(1 / 0.75)


def test_where_a_small_product_is_slow_nothing_large_is_tried(clock, dictionary):
    clock["small"] = 0.008
    found = choose_route(dictionary, torch.zeros(40, 8))
    assert clock["asked"] == 0
    assert str(found) == "fp32 products (choosing by bf16 would take 1.2e+02 times as long here)"


def test_what_is_asked_for_is_taken_unmeasured(clock, dictionary):
    rows = torch.zeros(40, 8)
    assert choose_route(dictionary, rows, "bf16") == Route(products="bf16", reason="asked for")
    assert choose_route(dictionary, rows, "fp32").products == "fp32"
    alone = replace(dictionary, architecture="standard")
    assert str(choose_route(alone, rows, "bf16")) == "fp32 products (standard reads every entry)"
    assert clock["asked"] == 0
    with pytest.raises(BadInput, match="it is one of auto, fp32, bf16"):
        TrainOptions(precision="fp16")


def test_this_machine_is_measured_for_what_it_is(dictionary, monkeypatch):
    monkeypatch.setattr(route, "_measured", {})
    found = choose_route(dictionary, torch.randn(40, 8))
    assert found.speedup > 0 and found == choose_route(dictionary, torch.randn(40, 8))


def test_a_run_that_goes_on_chooses_as_it_began(generator, monkeypatch, tmp_path):
    rows = planted_rows(generator, n=1500)[0]
    seeded = lambda: torch.Generator().manual_seed(3)
    fast, slow = Route.measured(4.0), Route.measured(0.25)
    monkeypatch.setattr(training, "choose_route", lambda *a: fast)
    whole = train(rows, OPTIONS, seeded())
    with pytest.raises(Killed):
        dying = Mortal(tmp_path, every=7, last=2, saves=True)
        train(rows, OPTIONS, seeded(), checkpoint=dying)
    monkeypatch.setattr(training, "choose_route", lambda *a: slow)
    resumed = train(rows, OPTIONS, seeded(), checkpoint=FolderCheckpoint(tmp_path))
    same(resumed, whole)
    assert resumed[1].route == whole[1].route == fast
    assert train(rows, OPTIONS, seeded())[1].route == slow
