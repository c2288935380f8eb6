import pytest
import torch

from energylens.core.errors import BadInput
from energylens.dynamics.history import History


def history(steps: list[int], columns: int) -> History:
    return History(
        steps=torch.tensor(steps),
        sites=("first", "second"),
        values={"stable_rank": torch.ones(2, columns)},
        again={},
        ceiling=torch.tensor([4, 4]),
        training={},
    )


def test_a_step_that_comes_twice_is_refused() -> None:
    with pytest.raises(BadInput, match="ascend, each once"):
        history([0, 5, 5], 3)


def test_values_of_another_length_are_refused() -> None:
    with pytest.raises(BadInput, match=r"values of stable_rank have the shape \(2, 4\)"):
        history([0, 5, 10], 4)


def test_depth_goes_from_the_input_to_the_output() -> None:
    assert history([0, 5, 10], 3).depth().tolist() == [0.0, 1.0]
