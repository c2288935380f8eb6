"""Intrinsic dimension of sets whose dimension is known."""

import math

import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.dynamics import intrinsic
from energylens.dynamics.dimension import dimensions
from energylens.dynamics.intrinsic import levina_bickel, two_nn
from tests.common.compare import assert_close
from tests.oracles import intrinsic as oracle

ROWS = 1500


def uniform(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def embedded(points, width=30):
    """The same set, turned into a wider space."""
    turn = torch.linalg.qr(normal(width, width, seed=9))[0]
    return points @ turn[: points.shape[1]]


def swiss_roll():
    angle, height = 1.5 * math.pi * (1 + 2 * uniform(ROWS)), 21 * uniform(ROWS, seed=1)
    return torch.stack([angle * angle.cos(), height, angle * angle.sin()], 1)


def sphere(d):
    points = normal(ROWS, d + 1)
    return points / points.norm(dim=1, keepdim=True)


SETS = {
    "line": (lambda: uniform(ROWS, 1), 1), "square": (lambda: uniform(ROWS, 2), 2),
    "cube of 5": (lambda: uniform(ROWS, 5), 5), "roll": (swiss_roll, 2),
    "sphere": (lambda: sphere(2), 2), "sphere of 4": (lambda: sphere(4), 4),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_the_dimension_of_known_sets_is_found_in_a_wide_space(name):
    make, expected = SETS[name]
    rows = embedded(make())
    assert abs(float(two_nn(rows)) / expected - 1) < 0.2  # the rim of a cube looks thin
    assert abs(float(levina_bickel(rows)) / expected - 1) < 0.2


def test_a_curve_that_fills_space_has_one_dimension_here_and_many_there():
    angle = 2 * math.pi * uniform(ROWS, 1)
    waves = torch.arange(1, 11) * angle
    curve = torch.cat([waves.cos(), waves.sin()], 1)
    assert float(dimensions(curve, centred=True)["participation_ratio"]) > 18
    assert float(two_nn(curve)) < 1.15


def test_the_oracles_agree_also_in_blocks(monkeypatch):
    rows = normal(60, 4)
    monkeypatch.setattr(intrinsic, "_AT_ONCE", 7)
    assert_close(two_nn(rows), oracle.two_nn(rows.numpy()))
    assert_close(levina_bickel(rows, 8), oracle.levina_bickel(rows.numpy(), 8))


def test_what_must_not_matter_does_not():
    rows = normal(200, 6)
    turn = torch.linalg.qr(normal(6, 6, seed=3))[0]
    for changed in (rows @ turn, 1e-4 * rows, rows.flip(0), torch.cat([rows, rows[:50]])):
        assert_close(two_nn(changed), two_nn(rows), rtol=1e-6)
        assert_close(levina_bickel(changed), levina_bickel(rows), rtol=1e-6)


def test_too_few_rows_that_differ_are_refused():
    with pytest.raises(InsufficientData, match="needs 3 rows that differ, found 2"):
        two_nn(torch.tensor([[1.0], [2.0], [1.0], [2.0]]))
    with pytest.raises(InsufficientData, match="from 20 neighbours needs 21"):
        levina_bickel(normal(20, 3))
    with pytest.raises(BadInput, match="2 neighbours were asked for"):
        levina_bickel(normal(20, 3), 2)
    assert two_nn(torch.eye(4)).isnan(), "equal distances to all others tell no dimension"
