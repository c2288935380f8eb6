import pytest
import torch

from energylens.core.sparse import combine
from energylens.features import kernels
from tests.common.compare import assert_close


def _sorted(values: torch.Tensor) -> torch.Tensor:
    return values.sort(dim=1, descending=True).values


@pytest.mark.parametrize(("width", "k"), [(64, 1), (64, 2), (128, 4), (2048, 32), (4096, 32)])
@pytest.mark.parametrize("levels", [0, 3], ids=["distinct", "ties"])
def test_elimination_finds_the_k_largest(generator, width, k, levels):
    scores = torch.randn(37, width, generator=generator)
    if levels:
        scores = (scores * levels).round() / levels
    values, columns = kernels.top_k_by_elimination(scores, k)
    assert_close(_sorted(values), scores.sort(dim=1, descending=True).values[:, :k])
    assert_close(scores.gather(1, columns), values)
    assert all(len(set(row)) == k for row in columns.tolist())


def test_elimination_when_the_largest_share_one_group(generator):
    scores = torch.randn(5, 256, generator=generator)
    scores[:, ::32] += 100  # all in the group of column 0
    values, _ = kernels.top_k_by_elimination(scores, 8)
    assert_close(_sorted(values), _sorted(scores[:, ::32]))


@pytest.mark.parametrize(("width", "k"), [(30, 4), (31, 31), (2048, 32), (4096, 200)])
def test_any_shape_is_selected_exactly(generator, width, k):
    scores = torch.randn(9, width, generator=generator)
    values, columns = kernels.top_k(scores, k)
    assert_close(_sorted(values), scores.sort(dim=1, descending=True).values[:, :k])
    assert_close(scores.gather(1, columns), values)


def test_encoding_in_blocks_is_encoding_at_once(generator, monkeypatch):
    x, W = (torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in (50, 40))
    b = torch.randn(40, generator=generator, dtype=torch.float64)
    whole = kernels.encode_top_k(x, W, b, 5)
    monkeypatch.setattr(kernels, "BLOCK", 7)
    blocks = kernels.encode_top_k(x, W, b, 5)
    assert_close(_sorted(blocks[0]), _sorted(whole[0]))
    assert blocks[1].sort(1).values.tolist() == whole[1].sort(1).values.tolist()


def test_no_rows_give_an_empty_code(generator):
    W, b = torch.zeros(40, 6), torch.zeros(40)
    values, indices = kernels.encode_top_k(torch.zeros(0, 6), W, b, 5)
    assert values.shape == indices.shape == (0, 5)
    assert combine(indices, values, W).shape == (0, 6)
