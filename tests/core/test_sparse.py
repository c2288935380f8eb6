import torch

from energylens.core.sparse import by_feature, combine, sampled_products, transposed_product
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
