import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from energylens.energy.alignment import (
    ActivationSums,
    ForceSums,
    active_forces,
    alignment_with_every_direction,
    energy_feature_alignment,
    join,
    within_units,
)
from tests.common.compare import assert_close
from tests.oracles import efas as oracle

N, D, M, K, UNITS = 300, 12, 40, 4, 6


def sparse_case(seed, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=dtype)
    scores = torch.rand(N, M - 1, generator=g)  # the last feature never fires
    indices = scores.topk(K, dim=1).indices
    values = draw(N, K).abs() * (torch.rand(N, K, generator=g) > 0.1)  # some entries are zero
    unit = torch.arange(N) * UNITS // N
    directions = torch.nn.functional.normalize(draw(M, D), dim=1)
    return indices, values, draw(N, D) + 0.3, directions, unit


def streamed(case, pieces=1, batch=64):
    indices, values, gradient, directions, unit = case
    parts = []
    for members in torch.arange(UNITS).chunk(pieces):
        a = ActivationSums.zeros(width=M, n_units=len(members))
        f = ForceSums.zeros(width=M, d_model=D, n_units=len(members))
        rows = torch.isin(unit, members).nonzero()[:, 0]
        for some in rows.split(batch):
            local = unit[some] - members[0]
            force = active_forces(indices[some], gradient[some], directions)
            a.add_(indices[some], values[some], local)
            f.add_(indices[some], values[some], gradient[some], force, local)
        parts.append((a, f))
    a, f = (join([part[i] for part in parts]) for i in (0, 1))
    return energy_feature_alignment(a, f, directions)


def dense(case):
    gradient, directions, unit = (x.numpy() for x in case[2:])
    activation = torch.zeros(N, M, dtype=torch.float64)
    activation.scatter_(1, case[0], case[1])
    return activation.numpy(), gradient, directions, unit


@pytest.mark.parametrize("seed", range(3))
def test_demeaned_alignment_is_that_of_demeaned_series(seed):
    indices, values, gradient, directions, unit = case = sparse_case(seed)
    a = ActivationSums.zeros(width=M, n_units=UNITS)
    f = ForceSums.zeros(width=M, d_model=D, n_units=UNITS)
    a.add_(indices, values, unit)
    f.add_(indices, values, gradient, active_forces(indices, gradient, directions), unit)
    activation, *_ = dense(case)
    flat = gradient.numpy().copy()
    for u in range(UNITS):
        here = unit.numpy() == u
        activation[here] -= activation[here].mean(0)
        flat[here] -= flat[here].mean(0)
    within = within_units(a, f, directions)
    found = energy_feature_alignment(*within, directions)
    assert_close(found.efas, oracle.efas(activation, flat, directions.numpy()), atol=1e-6)
    assert_close(found.scores, oracle.unit_scores(activation, flat, directions.numpy(),
                                                  unit.numpy()), atol=1e-6)  # fmt: skip
    assert_close(found.n_active, energy_feature_alignment(a, f, directions).n_active)
    firing = found.efas.isfinite().nonzero()[:, 0]
    pairs = alignment_with_every_direction(*within, directions[firing], features=firing)
    assert_close(pairs.diagonal(), found.efas[firing], atol=1e-5)


def test_demeaning_takes_out_what_documents_share():
    """Documents differ in both, places do not: a correlation between documents alone."""
    g = torch.Generator().manual_seed(5)
    unit = torch.arange(N) * UNITS // N
    level = torch.arange(UNITS, dtype=torch.float64)[unit]
    directions = torch.eye(D, dtype=torch.float64)[:2]
    values = (level + 1 + 0.1 * torch.rand(N, generator=g, dtype=torch.float64))[:, None]
    gradient = 0.1 * torch.randn(N, D, generator=g, dtype=torch.float64)
    gradient[:, 0] -= level
    indices = torch.zeros(N, 1, dtype=torch.long)
    a = ActivationSums.zeros(width=2, n_units=UNITS)
    f = ForceSums.zeros(width=2, d_model=D, n_units=UNITS)
    a.add_(indices, values, unit)
    f.add_(indices, values, gradient, active_forces(indices, gradient, directions), unit)
    assert float(energy_feature_alignment(a, f, directions).efas[0]) > 0.9
    within = energy_feature_alignment(*within_units(a, f, directions), directions)
    assert abs(float(within.efas[0])) < 0.3


def test_a_code_without_sparsity_sums_to_the_same():
    indices, values, gradient, directions, unit = sparse_case(3)
    matrix = torch.zeros(N, M, dtype=torch.float64).scatter(1, indices, values)
    a = ActivationSums.zeros(width=M, n_units=UNITS)
    f = ForceSums.zeros(width=M, d_model=D, n_units=UNITS)
    a.add_dense_(matrix, unit)
    f.add_dense_(matrix, gradient, -(gradient @ directions.T), unit)
    dense, sparse = energy_feature_alignment(a, f, directions), streamed(sparse_case(3))
    for name in ("efas", "scores", "scale", "attribution", "n_active", "n_units"):
        assert_close(getattr(dense, name), getattr(sparse, name), atol=1e-5)
    assert_close(f.cross, matrix.T @ gradient, rtol=1e-5, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 3]), st.sampled_from([7, 64, 300]))
def test_streaming_equals_the_naive_computation(seed, pieces, batch):
    case = sparse_case(seed)
    activation, gradient, directions, unit = dense(case)
    found = streamed(case, pieces, batch)
    assert_close(found.efas, oracle.efas(activation, gradient, directions), atol=1e-6)
    assert_close(
        found.scores, oracle.unit_scores(activation, gradient, directions, unit), atol=1e-6
    )
    assert_close(found.attribution, oracle.attribution(activation, gradient, directions), atol=1e-6)


def test_a_feature_that_reads_the_slope_scores_one():
    """Activation = force, shifted to be positive: aligned, and −1 with the sign turned."""
    g = torch.Generator().manual_seed(1)
    gradient = torch.randn(N, D, generator=g, dtype=torch.float64)
    direction = torch.nn.functional.normalize(torch.randn(1, D, generator=g).double(), dim=1)
    force = -(gradient @ direction.T)
    indices, unit = torch.zeros(N, 1, dtype=torch.long), torch.arange(N) % UNITS
    for sign in (1, -1):
        values = sign * force + 10
        a, f = (
            ActivationSums.zeros(width=1, n_units=UNITS),
            ForceSums.zeros(width=1, d_model=D, n_units=UNITS),
        )
        a.add_(indices, values, unit)
        f.add_(indices, values, gradient, force, unit)
        assert_close(energy_feature_alignment(a, f, direction).efas, [float(sign)])


def test_a_silent_feature_is_undefined_not_zero():
    found = streamed(sparse_case(3))
    assert torch.isnan(found.efas[-1])
    assert found.n_active[-1] == 0


@pytest.mark.parametrize("factor", [0.01, 50.0])
def test_scale_of_energy_and_activations_does_not_matter(factor):
    indices, values, gradient, directions, unit = case = sparse_case(4)
    scaled = (indices, values * factor, gradient * factor, directions, unit)
    assert_close(streamed(scaled).efas, streamed(case).efas, atol=1e-9)


def test_sample_order_does_not_matter():
    indices, values, gradient, directions, unit = case = sparse_case(5)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    shuffled = (indices[order], values[order], gradient[order], directions, unit[order])
    assert_close(streamed(shuffled).efas, streamed(case).efas, atol=1e-9)


def test_activity_is_counted_where_it_is_positive():
    case = sparse_case(6)
    activation, *_, unit = dense(case)
    found = streamed(case)
    assert_close(found.n_active, (activation > 0).sum(0).astype(float))
    by_unit = [((activation[unit == u] > 0).any(0)) for u in range(UNITS)]
    assert_close(found.n_units, sum(x.astype(float) for x in by_unit))


def test_an_alignment_shows_its_features_beside_signs_flipped_by_unit():
    g = torch.Generator().manual_seed(0)
    active = torch.rand(400, 2, generator=g)
    unit = torch.arange(400) // 20
    gradient = torch.randn(400, 2, generator=g)
    gradient[:, 0] -= 4 * active[:, 0]  # the energy falls where feature 0 rises
    activation = ActivationSums.zeros(width=2, n_units=20)
    force = ForceSums.zeros(width=2, d_model=2, n_units=20)
    activation.add_dense_(active, unit)
    force.add_dense_(active, gradient, -gradient, unit)
    found = energy_feature_alignment(activation, force, torch.eye(2))
    caption, first, second, note = repr(found).splitlines()
    assert caption.startswith("EFAS of 2 features over 20 units")
    assert first.strip().startswith("feature 0") and "p < .001" in first
    assert second.strip().startswith("feature 1") and "p < .001" not in second
    sizes = found.scores[:, 0].square().sum().sqrt() / found.scale[0]
    assert f"± {float(sizes):.2f}"[2:].lstrip("0") in first
    assert "1 have q ≤ .05" in note and "signs flipped" in note
    assert "no interval" in repr(dataclasses.replace(found, scores=found.scores.sum(0)[None]))
