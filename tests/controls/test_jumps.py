"""Jumps that are planted must be found; where there are none, none may be."""

import pytest
import torch

from energylens.dynamics.battery import nulls, planted, score
from energylens.dynamics.jumps import JumpOptions, find_jumps

COUNT, SAMPLES, INTERVAL = 12, 400, 5


def _scored(drawn):
    found = find_jumps(
        drawn.values, INTERVAL * torch.arange(SAMPLES), torch.Generator().manual_seed(0),
        families=torch.arange(COUNT), options=JumpOptions(draws=99),
    )  # fmt: skip
    marks = torch.zeros(drawn.values.shape, dtype=torch.bool)
    marks[found.series, found.step // INTERVAL] = True
    return score(marks, drawn), found


@pytest.mark.parametrize("name", list(planted()))
def test_planted_jumps_are_found_and_dated(name):
    drawn = planted(SAMPLES)[name](COUNT, torch.Generator().manual_seed(1))
    scored, found = _scored(drawn)
    assert scored.found.sum() >= 0.75 * drawn.jumps.numel()
    assert scored.false.sum() <= 4
    truth = INTERVAL * drawn.jumps[found.series]
    inside = ((truth >= found.low[:, None]) & (truth <= found.high[:, None])).any(1)
    assert inside.double().mean() >= 0.8


@pytest.mark.parametrize("name", list(nulls()))
def test_nulls_are_left_alone(name):
    drawn = nulls(SAMPLES)[name](COUNT, torch.Generator().manual_seed(2))
    scored, _ = _scored(drawn)
    assert scored.false.sum() <= 2 * COUNT * SAMPLES / 1000
    assert (scored.false > 0).sum() <= 3
