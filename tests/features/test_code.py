import pytest
import torch

from energylens.features.code import SparseCode
from tests.common.compare import assert_close


def _code() -> SparseCode:
    return SparseCode(
        indices=torch.tensor([[4, 1], [1, 0], [2, 0]]),
        values=torch.tensor([[2.0, 1.0], [3.0, 0.0], [0.0, 0.0]]),
        width=6,
    )


def test_dense_places_every_value():
    expected = torch.zeros(3, 6)
    expected[0, 4], expected[0, 1], expected[1, 1] = 2.0, 1.0, 3.0
    assert_close(_code().dense(), expected)


def test_column_counts_leave_out_zero_values():
    assert _code().column_counts().tolist() == [0, 2, 0, 0, 1, 0]


@pytest.mark.parametrize("features", [[1, 5, 4, 0], [5, 1]], ids=["all active", "some"])
def test_columns_are_those_of_the_dense_code_in_the_order_asked_for(features):
    features = torch.tensor(features)
    assert_close(_code().columns(features), _code().dense()[:, features])


def test_zero_padding_does_not_overwrite_a_real_entry():
    code = SparseCode(indices=torch.tensor([[0, 0]]), values=torch.tensor([[7.0, 0.0]]), width=2)
    assert_close(code.dense(), [[7.0, 0.0]])
    assert_close(code.columns(torch.tensor([0])), [[7.0]])
