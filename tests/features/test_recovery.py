from itertools import permutations

import pytest
import torch
from torch.nn.functional import normalize

from energylens.core.errors import BadInput
from energylens.features.code import SparseCode
from energylens.features.recovery import matched_cosines, mean_matched_cosine, recovery
from tests.common.compare import assert_close


def _code(dense: torch.Tensor) -> SparseCode:
    width = dense.shape[1]
    return SparseCode(
        indices=torch.arange(width).expand(len(dense), width), values=dense, width=width
    )


def test_the_pairing_is_the_best_of_all(generator):
    """Every pairing of four planted with six found, tried one by one."""
    planted, found = (torch.randn(n, 5, generator=generator) for n in (4, 6))
    cosine = (normalize(planted, dim=1) @ normalize(found, dim=1).T).double()
    best = max(float(cosine[range(4), list(p)].mean()) for p in permutations(range(6), 4))
    assert_close(mean_matched_cosine(planted, found), best, rtol=1e-6)


def test_what_was_found_is_told_whatever_its_order_and_norm(generator):
    planted = torch.randn(8, 12, generator=generator)
    order = torch.randperm(8, generator=generator)
    found = torch.cat([3 * planted[order], torch.randn(5, 12, generator=generator)])
    assert_close(matched_cosines(planted, found), torch.ones(8))
    active = torch.rand(200, 8, generator=generator) < 0.3
    dense = torch.cat([active[:, order].float(), torch.zeros(200, 5)], dim=1)
    made = recovery(planted, found, active, _code(dense))
    assert (order[made.partner] == torch.arange(8)).all()
    for one in (made.cosine, made.precision, made.recall, made.f1):
        assert_close(one, torch.ones(8))


def test_firing_is_counted(generator):
    planted = torch.eye(2)
    active = torch.tensor([[1, 0], [1, 0], [1, 0], [0, 0]]).bool()
    dense = torch.tensor([[1.0, 0], [2, 0], [0, 0], [1, 0]])
    made = recovery(planted, planted, active, _code(dense))
    assert_close([made.precision[0], made.recall[0], made.f1[0]], [2 / 3] * 3)
    assert made.f1[1].isnan() and made.recall[1].isnan() and made.precision[1] == 0


def test_random_directions_are_what_they_are_by_chance(generator):
    planted, found = (torch.randn(64, 32, generator=generator) for _ in range(2))
    assert 0.3 < float(mean_matched_cosine(planted, found)) < 0.5


def test_too_few_features_or_other_rows_are_refused(generator):
    planted = torch.eye(3)
    active = torch.ones(4, 3, dtype=torch.bool)
    with pytest.raises(BadInput, match="3 planted features of 4 rows and 2 found ones"):
        recovery(planted, planted[:2], active, _code(torch.ones(4, 2)))
    with pytest.raises(BadInput, match="on the same rows"):
        recovery(planted, planted, active, _code(torch.ones(5, 3)))
