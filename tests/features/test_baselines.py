"""Baselines are dictionaries whose codes equal slow ones, and lose nothing they should not."""

import pytest
import torch
from torch.nn.functional import normalize

from energylens.core.errors import InsufficientData
from energylens.features.baselines import (
    ica_dictionary,
    least_squares_map,
    pca_dictionary,
    pca_subspace,
    random_baseline,
)
from energylens.features.evaluate import fvu, l0, least_squares_scale
from energylens.features.recovery import mean_matched_cosine
from tests.common.compare import assert_close
from tests.oracles import dictionary_metrics as oracle

K = 3


@pytest.fixture
def halves(generator):
    mix = torch.randn(10, 10, generator=generator, dtype=torch.float64)
    rows = torch.randn(600, 10, generator=generator, dtype=torch.float64) @ mix + 5
    return rows[:400], rows[400:]


def test_pca_of_the_k_largest_equals_sorting_row_by_row(halves):
    fit, held_out = halves
    made = pca_dictionary(fit, K)
    expected = oracle.pca_top_k(fit.numpy(), held_out.numpy(), K)
    assert_close(made.reconstruct(held_out), torch.from_numpy(expected), rtol=1e-7)
    assert_close(l0(made.encode(held_out)), float(K))


def test_the_best_subspace_equals_that_of_singular_vectors(halves):
    fit, held_out = halves
    left = fvu(held_out, pca_subspace(fit, K).reconstruct(held_out))
    expected = oracle.pca_variance_unexplained(fit.numpy(), held_out.numpy(), K)
    assert_close(left, expected, rtol=1e-8)


def test_projections_shrink_nothing_and_all_components_leave_nothing(halves):
    fit, _ = halves
    for make in (pca_dictionary, pca_subspace):
        assert_close(least_squares_scale(fit, make(fit, K).reconstruct(fit)), 1.0, rtol=1e-8)
        assert_close(fvu(fit, make(fit, 10).reconstruct(fit)), 0.0, atol=1e-12)


def test_choosing_for_each_row_beats_the_same_subspace_for_all_beats_chance(halves, generator):
    fit, held_out = halves
    left = [
        float(fvu(held_out, made.reconstruct(held_out)))
        for made in (pca_dictionary(fit, K), pca_subspace(fit, K),
                     random_baseline(fit, 20, K, generator))
    ]  # fmt: skip
    assert left == sorted(left) and left[2] > left[1] + 0.1


def test_random_directions_are_scaled_for_these_rows(halves, generator):
    fit, _ = halves
    made = random_baseline(fit, 20, K, generator)
    assert_close(least_squares_scale(fit, made.reconstruct(fit)), 1.0, rtol=1e-6)


def test_ica_finds_directions_that_are_independent_and_not_those_of_pca(generator):
    sources = (
        torch.randn(4000, 6, generator=generator).sign()
        * torch.rand(4000, 6, generator=generator).log().square()
    )  # long tails
    directions = normalize(torch.randn(6, 6, generator=generator), dim=1)
    rows = sources @ directions + 3
    made, settled = ica_dictionary(rows, 2, generator)
    assert settled
    assert float(mean_matched_cosine(directions, made.W_dec)) > 0.99
    assert float(mean_matched_cosine(directions, pca_dictionary(rows, 2).W_dec)) < 0.97
    assert_close(torch.linalg.vector_norm(made.W_dec, dim=1), torch.ones(12), rtol=1e-5)
    whole, _ = ica_dictionary(rows, 6, generator)
    assert float(fvu(rows, whole.reconstruct(rows))) < 1e-6


def test_of_a_transcoder_they_write_what_a_linear_map_predicts(halves, generator):
    fit, held_out = halves
    weight = torch.randn(7, 10, generator=generator, dtype=torch.float64)
    through = least_squares_map(fit, fit @ weight.T - 2)
    assert_close(through(held_out), held_out @ weight.T - 2, rtol=1e-7)
    subspace = pca_subspace(through(fit), K)
    made = through.before(subspace)
    assert made.d_in == 10 and made.d_out == 7
    assert_close(made.reconstruct(held_out), subspace.reconstruct(through(held_out)), rtol=1e-7)
    with pytest.raises(InsufficientData, match="10 dimensions needs more rows"):
        least_squares_map(fit[:10], fit[:10])
