import numpy as np
import torch

from energylens.features.match import (
    best_partners,
    correlations,
    standard_scores,
    with_partner,
)
from tests.common.compare import assert_close


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_correlations_are_those_of_numpy():
    a, b = drawn(30, 4), drawn(30, 5, seed=1)
    known = torch.as_tensor(np.corrcoef(a.T, b.T)[:4, 4:])
    found = correlations(standard_scores(a), standard_scores(b))
    assert_close(found, known)
    partner = torch.tensor([4, 0, 2, 2])
    judged = with_partner(standard_scores(a), standard_scores(b), partner)
    assert_close(judged, known[torch.arange(4), partner])


def test_features_that_are_shared_find_each_other_whatever_their_order_and_scale():
    shared = drawn(200, 20)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    other = 5 * shared[:, order] + 0.1 * drawn(200, 20, seed=4)
    found = best_partners(correlations(standard_scores(shared), standard_scores(other)))
    assert torch.equal(order[found.partner], torch.arange(20)) and bool(found.mutual.all())


def test_a_feature_that_never_varies_has_no_partner_and_is_none():
    a, b = drawn(20, 3), drawn(20, 3, seed=1)
    a[:, 1], b[:, 0] = 2.0, 0.0
    found = best_partners(correlations(standard_scores(a), standard_scores(b)))
    assert found.correlation.isnan().tolist() == [False, True, False]
    assert not found.mutual[1] and not (found.partner[[0, 2]] == 0).any()
