"""Other correlations of activation and force, against scipy and numpy one feature at a time."""

import numpy as np
import pytest
import scipy.stats
import torch

from energylens.core.errors import UnknownName
from energylens.energy.alignment_variants import VARIANTS, variant_alignment
from tests.common.compare import assert_close
from tests.oracles.efas import efas

SAMPLES, FEATURES, UNITS = 120, 7, 6


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(SAMPLES, FEATURES, generator=generator, dtype=torch.float64)
    activation = torch.where(wide > 0.4, wide, 0.0)
    force = torch.randn(SAMPLES, FEATURES, generator=generator, dtype=torch.float64)
    force += 0.5 * activation
    return activation, force, torch.arange(SAMPLES) % UNITS


def test_all_is_efas(data):
    activation, force, unit = data
    found = variant_alignment(activation, force, unit, "all")
    directions = np.eye(FEATURES)  # the force along axis f is minus the gradient's entry f
    assert_close(found.value, efas(activation.numpy(), -force.numpy(), directions), rtol=1e-12)


def test_ranks_are_spearmans_with_ties(data):
    activation, force, unit = data
    found = variant_alignment(activation, force, unit, "ranks").value
    expected = [scipy.stats.spearmanr(activation[:, f], force[:, f]).statistic
                for f in range(FEATURES)]  # fmt: skip
    assert_close(found, np.array(expected), rtol=1e-12)


def test_active_looks_where_the_feature_is_active_alone(data):
    activation, force, unit = data
    found = variant_alignment(activation, force, unit, "active").value
    for f in range(FEATURES):
        on = activation[:, f] > 0
        expected = np.corrcoef(activation[on, f], force[on, f])[0, 1]
        assert_close(found[f], expected, rtol=1e-12)


def test_within_is_blind_to_what_documents_share(data):
    activation, force, unit = data
    level = torch.randn(UNITS, FEATURES, generator=torch.Generator().manual_seed(1)).double()
    found = variant_alignment(activation, force, unit, "within").value
    moved = variant_alignment(activation + 9 * level[unit], force - 9 * level[unit], unit, "within")
    assert_close(found, moved.value, rtol=1e-9)
    apart = variant_alignment(activation + 9 * level[unit], force - 9 * level[unit], unit, "all")
    assert (apart.value < -0.5).any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_sum_to_the_value_and_constants_are_undefined(data, variant):
    activation, force, unit = data
    activation[:, 0] = 0.0
    found = variant_alignment(activation, force, unit, variant)
    assert found.scores.shape == (UNITS, FEATURES)
    assert found.value[0].isnan() and found.value[1:].isfinite().all()
    ratio = found.scores.sum(0)[1:] / found.value[1:]
    assert (ratio > 0).all() and (found.value[1:].abs() <= 1).all()


def test_an_unknown_variant_is_told_its_neighbours(data):
    with pytest.raises(UnknownName, match="rank"):
        variant_alignment(*data, "rank")
