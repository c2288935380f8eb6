import pytest
import torch

from energylens.core import sparse
from energylens.core.sparse import (
    by_feature,
    combine,
    row_of,
    sampled_products,
    transposed_product,
)
from tests.common.compare import assert_close


def test_sparse_products_are_the_dense_ones(generator):
    n, m, d, k = 20, 15, 7, 4
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    W, rows, values = draw(m, d), draw(n, d), draw(n, k)
    indices = torch.rand(n, m, generator=generator).topk(k, dim=1).indices
    dense = torch.zeros(n, m, dtype=torch.float64).scatter(1, indices, values)
    assert_close(combine(indices, values, W), dense @ W)
    assert_close(sampled_products(rows, indices, W), (rows @ W.T).gather(1, indices))
    entries = by_feature(indices, m)
    assert_close(transposed_product(entries, values, rows), dense.T @ rows)


def test_features_that_never_fire_get_no_gradient():
    entries = by_feature(torch.tensor([[3, 1]]), 6)
    gradient = transposed_product(entries, torch.tensor([[2.0, 5.0]]), torch.ones(1, 2))
    assert_close(gradient[:, 0], [0.0, 5.0, 0.0, 2.0, 0.0, 0.0])


def test_rows_without_entries_are_zero():
    nothing = torch.zeros(3, 0, dtype=torch.int64)
    assert_close(combine(nothing, torch.zeros(3, 0), torch.ones(4, 2)), torch.zeros(3, 2))
    assert sampled_products(torch.ones(3, 2), nothing, torch.ones(4, 2)).shape == (3, 0)


def test_rows_of_different_length_give_the_dense_products(generator):
    dense = torch.randn(9, 6, generator=generator, dtype=torch.float64)
    dense *= torch.rand(9, 6, generator=generator) < 0.4
    row, feature = dense.nonzero(as_tuple=True)
    count = torch.bincount(row, minlength=9)
    start, values = count.cumsum(0) - count, dense[row, feature]
    W, g = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (6, 9))
    assert (row_of(start, len(row)) == row).all()
    assert_close(combine(feature, values, W, start), dense @ W)
    assert_close(sampled_products(g, feature, W, start), (g @ W.T)[row, feature])
    entries = by_feature(feature, 6, start)
    assert_close(transposed_product(entries, values, g), dense.T @ g)


@pytest.mark.parametrize("at_once", [1, 4, 6, 100])
def test_a_product_some_features_at_a_time_is_the_whole(generator, monkeypatch, at_once):
    monkeypatch.setattr(sparse, "FEATURES_AT_ONCE", at_once)
    dense = torch.randn(9, 6, generator=generator, dtype=torch.float64)
    dense[:, 2] = 0  # a feature without entries
    feature = dense.nonzero()[:, 1]
    entries = by_feature(feature, 6, 5 * torch.arange(9))
    values, g = dense[dense != 0], torch.randn(9, 5, generator=generator, dtype=torch.float64)
    out = torch.full((6, 5), torch.nan, dtype=torch.float64)
    assert transposed_product(entries, values, g, out=out) is out
    assert_close(out, dense.T @ g)


def test_a_product_of_no_feature_is_empty():
    entries = by_feature(torch.zeros(0, dtype=torch.int64), 0, torch.zeros(2, dtype=torch.int64))
    out = torch.zeros(0, 3)
    assert transposed_product(entries, torch.zeros(0), torch.ones(2, 3), out=out).shape == (0, 3)
