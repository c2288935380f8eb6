"""Measures of dimension: the oracle, identities, noise, and what float32 can tell."""

from itertools import pairwise

import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.dynamics.dimension import dimensions, dimensions_of_each
from energylens.dynamics.gram import ceiling
from energylens.dynamics.isotropic import isotropic_dimensions
from tests.common.compare import assert_close
from tests.oracles import dimension as oracle

BOTH = pytest.mark.parametrize("centred", [False, True])


def drawn(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def with_spectrum(sigma, rows, *, seed=0):
    """A matrix of so many rows whose singular values are these."""
    left = torch.linalg.qr(drawn(rows, len(sigma), seed=seed))[0]
    right = torch.linalg.qr(drawn(len(sigma), len(sigma), seed=seed + 1))[0]
    return (left * sigma) @ right.T


def test_layers_of_many_shapes_are_each_measured_as_alone():
    shapes = [(40, 12), (12, 40), (12, 40), (30, 12), (3000, 5), (700, 300), (700, 300)]
    layers = [drawn(*shape, seed=at) for at, shape in enumerate(shapes)]
    found = dimensions_of_each(layers, centred=True)
    for at, layer in enumerate(layers):
        for name, value in dimensions(layer, centred=True).items():
            assert_close(found[name][at], value, rtol=1e-9)
    expected = oracle.dimensions(layers[-1].numpy(), centred=True)
    assert_close(found["entropy_rank"][-1], expected["entropy_rank"])
    with pytest.raises(BadInput, match="several dtypes"):
        dimensions_of_each([layers[0], layers[1].float()], centred=True)
    with pytest.raises(InsufficientData, match="no layer"):
        dimensions_of_each([], centred=True)


@BOTH
@pytest.mark.parametrize(("rows", "units"), [(40, 12), (12, 40), (20, 20), (2, 7), (9, 1)])
def test_a_batch_of_layers_equals_the_oracle_whichever_side_is_longer(rows, units, centred):
    layers = drawn(3, rows, units) + 0.7
    found = dimensions(layers, centred=centred, q=0.8)
    for at, layer in enumerate(layers):
        expected = oracle.dimensions(layer.numpy(), centred=centred, q=0.8)
        assert set(expected) == set(found) and "energy_rank_80" in found
        for name, value in expected.items():
            assert_close(found[name][at], value, rtol=1e-7)


def test_stable_rank_is_the_square_of_the_nuclear_norm_ratio_over_the_ratio_in_sigma():
    found = dimensions(drawn(5, 30, 12), centred=True)
    square = found["nuclear_norm_ratio"].square()
    assert_close(found["stable_rank"], square / found["participation_ratio_sigma"])
    order = ("stable_rank", "participation_ratio", "entropy_rank", "participation_ratio_sigma")
    for low, high in pairwise(order):
        assert bool((found[low] <= found[high]).all()), f"{low} above {high}"


def test_orthonormal_rows_span_as_many_dimensions_as_there_are_and_one_line_spans_one():
    rows = torch.linalg.qr(drawn(20, 10))[0].T
    line = drawn(30, 1, dtype=torch.float32) @ drawn(1, 17, seed=1, dtype=torch.float32)
    for name, value in dimensions(rows, centred=False).items():
        expected = {"energy_rank_90": 9.0, "spectral_exponent": 0.0}.get(name, 10.0)
        assert_close(value, expected, atol=1e-6)
    assert_close(dimensions(rows, centred=False, q=1.0)["energy_rank_100"], 10.0)
    for name, value in dimensions(line, centred=False).items():
        assert_close(value, torch.nan if name == "spectral_exponent" else 1.0, rtol=1e-6)


@BOTH
def test_a_scale_a_rotation_and_an_order_change_nothing(centred):
    rows = drawn(30, 12) + 1
    turn = torch.linalg.qr(drawn(12, 12, seed=4))[0]
    before = dimensions(rows, centred=centred)
    for changed in (rows * 1e-3, rows @ turn, rows.flip(0), rows[:, torch.randperm(12)]):
        for name, value in dimensions(changed, centred=centred).items():
            assert_close(value, before[name], rtol=1e-8)


def test_a_mean_is_a_dimension_unless_it_is_taken_off():
    rows = drawn(200, 10) + 30
    assert float(dimensions(rows, centred=False)["stable_rank"]) < 1.1
    assert float(dimensions(rows, centred=True)["stable_rank"]) > 6


def test_rows_that_are_all_the_same_have_no_dimension_about_their_mean():
    same = drawn(1, 20, dtype=torch.float32).expand(301, 20)
    for name, value in dimensions(same, centred=True).items():
        assert value.isnan(), name
    assert_close(dimensions(same, centred=False)["stable_rank"], 1.0, rtol=1e-5)


def test_layers_of_zeros_or_without_finite_numbers_are_undefined_and_the_others_are_not():
    layers = drawn(4, 10, 6, dtype=torch.float32)
    alone = dimensions(layers[3], centred=True)
    layers[0], layers[1, 2, 3], layers[2, 0, 0] = 0.1, torch.nan, torch.inf
    for name, value in dimensions(layers, centred=True).items():
        assert value[:3].isnan().all()
        assert_close(value[3], alone[name])


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_float32_tells_what_float64_tells(power):
    sigma = torch.arange(1, 65, dtype=torch.float64) ** -power
    rows = with_spectrum(sigma, 300)
    single = dimensions(rows.float(), centred=False)
    for name, value in dimensions(rows, centred=False).items():
        sums = name in ("nuclear_norm_ratio", "participation_ratio_sigma")
        assert_close(single[name], value, rtol=0.025 if sums and power > 1 else 2e-4)
    assert_close(dimensions(rows, centred=False)["spectral_exponent"], 2 * power, rtol=1e-6)


def test_what_float32_cannot_tell_counts_as_nothing():
    sigma = torch.tensor([1.0, 1e-2, 1e-5, 1e-6], dtype=torch.float64)
    rows = with_spectrum(sigma, 100_000)
    found = dimensions(rows.float(), centred=False)["nuclear_norm_ratio"]
    assert_close(found, 1.01, rtol=1e-4)
    assert_close(dimensions(rows, centred=False)["nuclear_norm_ratio"], sigma.sum(), rtol=1e-8)


def test_half_precision_is_multiplied_in_single():
    rows = drawn(50, 20).bfloat16()
    for name, value in dimensions(rows, centred=True).items():
        assert_close(value, dimensions(rows.float(), centred=True)[name])


@BOTH
@pytest.mark.parametrize(
    ("rows", "units", "rtol"), [(10, 10, 0.035), (60, 50, 0.012), (33, 300, 0.012), (80, 1, 1e-6)]
)
def test_noise_has_the_dimensions_of_isotropic_noise(rows, units, rtol, centred):
    drawings = dimensions(drawn(300, rows, units, seed=rows), centred=centred)
    for name, value in isotropic_dimensions(rows, units, centred=centred).items():
        mean = drawings[name].mean()
        if name == "energy_rank_90":
            assert abs(float(mean) - value) < 1
        else:
            assert_close(value, mean, rtol=3 * rtol if name == "spectral_exponent" else rtol)


def test_correlated_rows_have_fewer_dimensions_than_noise():
    noise = isotropic_dimensions(200, 40)
    mixed = dimensions(drawn(200, 40) @ drawn(40, 40, seed=1), centred=False)
    for name, value in mixed.items():
        assert (float(value) > noise[name]) == (name == "spectral_exponent")


def test_what_has_no_dimension_is_refused():
    for rows, units in ((1, 5), (0, 5), (5, 0)):
        with pytest.raises(InsufficientData, match=f"two rows and a unit, got {rows} × {units}"):
            dimensions(torch.ones(rows, units), centred=False)
        with pytest.raises(InsufficientData, match="has no spectrum"):
            isotropic_dimensions(rows, units)
    with pytest.raises(BadInput, match="q is a share"):
        dimensions(torch.ones(3, 3), centred=False, q=1.5)


def test_a_centred_matrix_has_a_dimension_less_than_rows():
    rows = torch.linalg.qr(drawn(20, 9))[0].T
    found = dimensions(rows, centred=True)["entropy_rank"]
    assert float(found) <= ceiling(9, 20, centred=True) + 1e-9 < ceiling(9, 20, centred=False)
    assert ceiling(9, 4, centred=True) == 4
    assert ceiling(9, 20, centred=True) - float(found) < 0.5
