import math

import pytest
import torch

from energylens.core.errors import InsufficientData
from energylens.dynamics.sparsity import hoyer_sparsity, treves_rolls_sparsity, zero_share
from tests.common.compare import assert_close
from tests.oracles import mechanisms as oracle

BOTH = (hoyer_sparsity, treves_rolls_sparsity)


def test_both_are_those_of_slow_loops(generator):
    values = torch.randn(3, 4, 9, generator=generator, dtype=torch.float64).relu()
    rows = values.reshape(-1, 9).numpy()
    assert_close(hoyer_sparsity(values).flatten(), [oracle.hoyer(x) for x in rows])
    assert_close(treves_rolls_sparsity(values).flatten(), [oracle.treves_rolls(x) for x in rows])


def test_normal_values_have_the_value_of_the_null(generator):
    n = 200_000
    values = torch.randn(n, generator=generator)
    limit = (math.sqrt(n) - math.sqrt(2 * n / math.pi)) / (math.sqrt(n) - 1)
    assert_close(hoyer_sparsity(values), limit, rtol=0.02)
    assert_close(treves_rolls_sparsity(values), 1 - 2 / math.pi, rtol=0.02)
    assert_close(treves_rolls_sparsity(values.relu()), 1 - 1 / math.pi, rtol=0.02)
    assert_close(zero_share(values.relu()), 0.5, rtol=0.02)


@pytest.mark.parametrize("sparsity", BOTH)
def test_the_two_ends_and_what_does_not_matter(sparsity, generator):
    assert_close(sparsity(torch.full((5,), 3.0)), 0.0, atol=1e-12)
    assert_close(sparsity(torch.tensor([0.0, 0.0, 1e-30])), 1.0)
    values = torch.randn(8, generator=generator, dtype=torch.float64)
    assert_close(sparsity(-1e200 * values.flip(0)), sparsity(values))


@pytest.mark.parametrize("sparsity", BOTH)
def test_a_neuron_that_never_fires_is_undefined(sparsity):
    assert sparsity(torch.zeros(2, 5)).isnan().all()
    assert zero_share(torch.zeros(5)).item() == 1.0
    assert zero_share(torch.tensor([torch.nan, 0.0])).isnan()


@pytest.mark.parametrize("sparsity", BOTH)
def test_one_entry_has_no_sparsity(sparsity):
    with pytest.raises(InsufficientData, match="2 entries, got 1"):
        sparsity(torch.ones(3, 1))
