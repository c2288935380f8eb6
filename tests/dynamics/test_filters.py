import pytest
import torch

from energylens.core.errors import InsufficientData
from energylens.dynamics.filters import (
    filter_cosine,
    filter_orthogonality,
    isotropic_filter_cosine,
)
from tests.common.compare import assert_close
from tests.oracles import mechanisms as oracle


def test_both_are_those_of_slow_loops(generator):
    import numpy as np

    weights = torch.randn(6, 3, 2, 2, generator=generator)
    cosines = oracle.filter_cosines(weights.double().numpy())
    assert_close(filter_cosine(weights), np.nanmean(abs(cosines), 1))
    assert_close(filter_orthogonality(weights), 1 - np.nanmean(cosines**2, 1))


@pytest.mark.parametrize("d", [4, 27])
def test_random_filters_have_the_value_of_the_null(d, generator):
    weights = torch.randn(1500, d, generator=generator)
    assert_close(filter_cosine(weights).mean(), isotropic_filter_cosine(d), rtol=0.01)
    assert_close(filter_orthogonality(weights).mean(), 1 - 1 / d, rtol=0.01)


def test_orthogonal_and_equal_filters_are_the_two_ends(generator):
    rows = torch.linalg.qr(torch.randn(9, 9, generator=generator, dtype=torch.float64)).Q
    assert_close(filter_orthogonality(rows), torch.ones(9), atol=1e-12)
    same = rows[:1] * torch.tensor([[1.0], [-2.0], [5.0]], dtype=torch.float64)
    assert_close(filter_orthogonality(same), torch.zeros(3), atol=1e-12)
    assert_close(filter_cosine(same), torch.ones(3), atol=1e-12)


def test_neither_scale_nor_sign_nor_rotation_matters(generator):
    weights = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64)).Q
    signs = torch.tensor([[1.0], [-3.0], [0.1], [-1.0], [7.0]], dtype=torch.float64)
    for measured in (filter_cosine, filter_orthogonality):
        assert_close(measured(signs * weights @ turn), measured(weights))


def test_a_filter_of_zeros_is_undefined_and_no_partner(generator):
    weights = torch.randn(4, 6, generator=generator)
    weights[2] = 0
    found = filter_cosine(weights)
    assert found[2].isnan()
    assert_close(found[[0, 1, 3]], filter_cosine(weights[[0, 1, 3]]))


def test_one_filter_has_no_other():
    with pytest.raises(InsufficientData, match="found 1 that are not 0"):
        filter_cosine(torch.tensor([[1.0, 2.0], [0.0, 0.0]]))
