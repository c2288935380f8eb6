import torch

from energylens.stats.templates import ramps, sigmoids
from tests.common.compare import assert_close


def test_sums_give_the_inner_products_of_ramps(generator):
    found = ramps(60, (1, 4, 9), margin=3)
    values = torch.randn(2, 3, 60, generator=generator, dtype=torch.float64)
    assert_close(torch.cat(found.onto(values), -1), values @ found.shapes.T, rtol=1e-9, atol=1e-9)
    assert found.counts() == [len(some[0, 0]) for some in found.onto(values)]


def test_a_ramp_leaves_the_ends_free_and_rises_once():
    found = ramps(60, (1, 4, 9), margin=3)
    level = ~found.slope
    assert bool((found.shapes[level, :3] == 0).all() and (found.shapes[level, -3:] == 1).all())
    assert bool((found.shapes.diff(dim=1) >= 0).all())
    assert bool((found.shapes[:, -1] == 1).all())
    step = found.shapes[0]
    assert found.middle[0].item() == 2.5 and step.nonzero()[0].item() == 3


def test_widths_that_do_not_fit_are_left_out():
    assert ramps(30, (1, 11), margin=3, slopes=False).counts() == [25]
    assert len(sigmoids(30, (0.0, 8.0), margin=3, slopes=False).width.unique()) == 1


def test_a_sigmoid_has_its_middle_and_its_width():
    found = sigmoids(201, (0.0, 20.0), margin=5, slopes=False)
    k = int(((found.middle - 100).abs() + (found.width - 20).abs()).argmin())
    shape, middle = found.shapes[k], found.middle[k].item()
    place = torch.arange(201, dtype=torch.float64)
    at = torch.tensor([middle - 10, middle, middle + 10], dtype=torch.float64)
    below = at.floor().long()
    part = at - below
    read = shape[below] * (1 - part) + shape[below + 1] * part
    assert_close(read, torch.tensor([0.1, 0.5, 0.9]), atol=2e-3)
    step = int((found.width == 0).nonzero()[0])
    assert bool((found.shapes[step] == (place > found.middle[step])).all())


def test_a_change_of_slope_begins_at_its_place():
    found = sigmoids(100, (0.0,), margin=5)
    k = int(found.slope.nonzero()[3])
    assert bool((found.shapes[k, : int(found.middle[k]) + 1] == 0).all())
    assert_close(
        found.shapes[k].diff().diff().abs().amax(), found.shapes[k, -1] - found.shapes[k, -2]
    )
