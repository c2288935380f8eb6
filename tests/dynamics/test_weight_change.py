import math

import pytest
import torch

from energylens.core.errors import BadInput
from energylens.dynamics.weight_change import (
    relative_weight_change,
    same_parameters,
    weight_cosine,
    weight_distance,
)
from tests.common.compare import assert_close

ALL = (weight_distance, relative_weight_change, weight_cosine)


def test_a_right_angle_and_a_straight_line():
    before, turned = torch.tensor([[3.0, 4.0]]), torch.tensor([[-8.0, 6.0]])
    assert_close(weight_distance(before, turned), math.sqrt(125))
    assert_close(relative_weight_change(before, turned), math.sqrt(125) / 5)
    assert_close(weight_cosine(before, turned), 0.0, atol=1e-12)
    assert_close(weight_cosine(before, 9 * before), 1.0)
    assert_close(weight_cosine(before, -before), -1.0)


def test_steps_in_random_directions_go_as_far_as_their_root(generator):
    steps = torch.randn(100, 4000, generator=generator, dtype=torch.float64)
    steps = 0.1 * steps / steps.norm(dim=1, keepdim=True)
    walked = weight_distance(torch.zeros(4000, dtype=torch.float64), steps.sum(0))
    assert_close(walked, 0.1 * math.sqrt(100), rtol=0.05)


def test_weights_of_zero_are_undefined_where_they_are_divided_by():
    zero, one = torch.zeros(3), torch.ones(3)
    assert relative_weight_change(zero, one).isnan() and weight_cosine(one, zero).isnan()
    assert relative_weight_change(one, zero) == 1.0


@pytest.mark.parametrize("measured", ALL)
def test_other_shapes_are_refused(measured):
    with pytest.raises(BadInput, match=r"shape \[2, 3\] cannot have become \[3, 2\]"):
        measured(torch.ones(2, 3), torch.ones(3, 2))


def test_a_parameter_that_is_missing_is_named():
    one = {"a": torch.ones(1), "b": torch.ones(1)}
    assert same_parameters(one, one) == ("a", "b")
    with pytest.raises(BadInput, match="found 'b' in one of them alone"):
        same_parameters(one, {"a": torch.ones(1)})
