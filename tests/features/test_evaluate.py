import numpy as np
import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.features import evaluate
from energylens.features.code import SparseCode
from energylens.features.evaluate import ReconstructionStats
from tests.common.compare import assert_close
from tests.features.planted import random_weights, topk_dictionary
from tests.oracles import dictionary_metrics as oracle


@pytest.fixture
def case(generator):
    dictionary = topk_dictionary(random_weights(generator, width=60, d=8), 3)
    rows = torch.randn(101, 8, generator=generator, dtype=torch.float64) + 50
    code = dictionary.encode(rows)
    unit = torch.randint(5, (101,), generator=generator)
    return rows, code, dictionary.decode(code), unit


def _stream(case, cut: int) -> evaluate.Reconstruction:
    rows, code, made, unit = case
    stats = ReconstructionStats(width=code.width, units=6)
    for first in range(0, len(rows), cut):
        part = slice(first, first + cut)
        some = SparseCode(indices=code.indices[part], values=code.values[part], width=code.width)
        stats.update(rows[part], some, made[part], unit[part])
    return stats.result()


@pytest.mark.parametrize("cut", [1, 13, 101])
def test_streamed_sums_equal_the_whole_whatever_the_cut(case, cut):
    rows, code, made, _ = case
    found = _stream(case, cut)
    assert_close(found.fvu, oracle.variance_unexplained(rows.numpy(), made.numpy()), rtol=1e-10)
    assert_close(found.l0, oracle.mean_active(code.dense().numpy()))
    assert_close(found.dead_share, oracle.share_never_active(code.dense().numpy()))
    assert_close(found.density, (code.dense() != 0).double().mean(0))


@pytest.mark.parametrize("cut", [1, 13, 101])
def test_shrinkage_and_direction_equal_the_oracle_and_come_from_the_stream(case, cut):
    rows, code, made, _ = case
    made = made + 0.3
    there, found = rows.numpy(), made.numpy()
    assert_close(evaluate.cosine_similarity(rows, made), oracle.mean_cosine(there, found))
    assert_close(evaluate.norm_ratio(rows, made), oracle.norm_ratio(there, found))
    assert_close(evaluate.least_squares_scale(rows, made), oracle.best_scale(there, found))
    counts = code.column_counts()
    assert_close(evaluate.dense_share(counts, 101), oracle.share_dense(code.dense().numpy()))
    seen = _stream((rows, code, made, case[3]), cut)
    for name, part, whole in (
        ("cosine_similarity", seen.cosine, seen.directed),
        ("norm_ratio", seen.made_norm, seen.norm),
        ("least_squares_scale", seen.along, seen.made_total),
    ):  # fmt: skip
        expected = getattr(evaluate, name)(rows, made)
        assert_close(part.sum() / whole.sum(), expected, rtol=1e-8)
    assert seen.dense_share == float(evaluate.dense_share(counts, 101))
    assert_close(seen.active.sum() / 101, evaluate.l0(code))


def test_a_row_of_nothing_has_no_cosine_and_is_not_counted_as_one():
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    made = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    assert_close(evaluate.cosine_similarity(rows, made), 1.0)
    assert evaluate.cosine_similarity(rows[1:], made[1:]).isnan()
    assert evaluate.least_squares_scale(rows, rows.mean(0).expand_as(rows)).isnan()
    assert evaluate.dense_share(torch.tensor([0]), 0).isnan()


def test_units_add_up_and_are_about_the_common_mean(case):
    rows, _, made, unit = case
    found = _stream(case, 20)
    deviation = (rows - rows.mean(0)).square().sum(1)
    for u in range(6):
        assert_close(found.residual[u], (rows - made)[unit == u].square().sum())
        assert_close(found.total[u], deviation[unit == u].sum(), rtol=1e-9)
        assert int(found.samples[u]) == int((unit == u).sum())
    assert_close(found.residual.sum() / found.total.sum(), found.fvu)


def test_a_large_common_offset_costs_no_digits(generator):
    rows = torch.randn(500, 4, generator=generator, dtype=torch.float64)
    code = SparseCode(indices=torch.zeros(500, 1).long(), values=torch.ones(500, 1), width=2)
    expected = oracle.variance_unexplained(rows.numpy(), 0.5 * rows.numpy())
    stats = ReconstructionStats(width=2)
    for part in (slice(0, 100), slice(100, 500)):
        some = SparseCode(indices=code.indices[part], values=code.values[part], width=2)
        stats.update(rows[part] + 1e6, some, 0.5 * rows[part] + 1e6)
    assert_close(stats.result().fvu, expected, rtol=1e-6)


def test_one_shot_measures_agree_with_the_stream(case):
    rows, code, made, _ = case
    found = _stream(case, 40)
    assert_close(evaluate.fvu(rows, made), found.fvu)
    assert_close(evaluate.l0(code), found.l0)
    assert_close(evaluate.dead_share(code.column_counts()), found.dead_share)


def test_predicting_the_mean_leaves_everything_and_the_rows_nothing(case):
    rows = case[0]
    assert_close(evaluate.fvu(rows, rows.mean(0).expand_as(rows)), 1.0)
    assert_close(evaluate.fvu(rows, rows), 0.0)


def test_constant_rows_have_no_fvu():
    rows = torch.ones(4, 3)
    assert np.isnan(float(evaluate.fvu(rows, rows)))


def test_loss_recovered_by_hand_and_undefined_where_ablation_costs_nothing():
    clean, ablated = torch.tensor([3.0, 3.0, 3.0, 3.0]), torch.tensor([7.0, 7.0, 3.0, 2.0])
    made = torch.tensor([3.0, 8.0, 3.0, 3.0])
    expected = torch.tensor([1.0, -0.25, torch.nan, torch.nan])
    assert_close(evaluate.loss_recovered(clean, ablated, made), expected)


def test_misuse_is_refused(case):
    rows, code, made, _ = case
    with pytest.raises(InsufficientData, match="no row"):
        ReconstructionStats(width=3).result()
    with pytest.raises(BadInput, match="code of 60"):
        ReconstructionStats(width=3).update(rows, code, made)
    with pytest.raises(BadInput, match=r"numbered 0 … 1"):
        ReconstructionStats(width=60, units=2).update(rows, code, made, torch.full((101,), 2))
