import numpy as np
import pytest
import torch
from torch.nn.functional import normalize, one_hot

from energylens.core.errors import BadInput
from energylens.features.code import SparseCode
from energylens.features.edits import (
    differences,
    edit_weight,
    greedy_edit,
    labelled_edit,
    random_edit,
)
from energylens.features.supervised import least_squares_dictionary, mean_dictionary
from tests.common.compare import assert_close
from tests.oracles import edits as oracle

ROWS, WIDTH, D, K = 20, 30, 12, 5


def code(g, rows=ROWS):
    """Codes in which some entries are 0, as TopK leaves them, at features listed anyhow."""
    indices = torch.rand(rows, WIDTH, generator=g).topk(K, dim=1).indices
    values = (torch.rand(rows, K, generator=g, dtype=torch.float64) * 2 - 0.4).relu()
    return SparseCode(indices=indices, values=values, width=WIDTH)


@pytest.fixture
def case(generator):
    W = torch.randn(WIDTH, D, generator=generator, dtype=torch.float64)
    return code(generator), code(generator), W


def dense(edit, width=WIDTH):
    table = torch.zeros(len(edit.features), width, dtype=edit.changes.dtype)
    return table.scatter_add(1, edit.features, edit.changes)


def test_all_differences_turn_one_code_into_the_other(case):
    before, after, W = case
    change = differences(before, after)
    assert_close(dense(change), after.dense() - before.dense())
    assert_close(change.move(W), (after.dense() - before.dense()) @ W)
    for row, features in enumerate(change.features):
        moved = features[change.changes[row] != 0].tolist()
        assert len(set(moved)) == len(moved)  # each once


def test_the_greedy_choice_is_that_of_trying_every_feature(case, generator):
    before, after, W = case
    wanted = torch.randn(ROWS, D, generator=generator, dtype=torch.float64) * 2
    found = greedy_edit(differences(before, after), wanted, W, 6)
    a, b = before.dense().numpy(), after.dense().numpy()
    for row in range(ROWS):
        expected = oracle.greedy(a[row], b[row], wanted[row].numpy(), W.numpy(), 6)
        chosen = found.features[row][found.changes[row] != 0].tolist()
        assert chosen == expected
        step = dense(found)[row].numpy()
        assert_close(step[expected], (b[row] - a[row])[expected])


def test_enough_changes_reach_another_row_of_orthogonal_features_and_more_do_nothing(generator):
    before, after = code(generator), code(generator)
    change = differences(before, after)
    wanted = change.move(torch.eye(WIDTH).double())
    found = greedy_edit(change, wanted, torch.eye(WIDTH).double(), 2 * K)
    assert_close(found.move(torch.eye(WIDTH).double()), wanted)
    left = [
        float((wanted - found.first(k).move(torch.eye(WIDTH).double())).norm())
        for k in (1, 2, 4, 8)
    ]
    assert left == sorted(left, reverse=True) and left[-1] < left[0] / 2
    assert (found.count() == change.count()).all()


def test_random_changes_are_some_of_all(case, generator):
    before, after, _ = case
    change = differences(before, after)
    found = random_edit(change, 3, generator)
    whole = dense(change)
    for row in range(ROWS):
        for feature, amount in zip(found.features[row], found.changes[row], strict=True):
            assert amount == 0 or amount == whole[row, feature]
    assert (found.count() == change.count().clamp(max=3)).all()


def test_weight_is_the_share_that_goes(case, generator):
    before, after, W = case
    edit = random_edit(differences(before, after), 4, generator)
    found = edit_weight(before, edit, W)
    steps, a = dense(edit).numpy(), before.dense().numpy()
    expected = [oracle.weight(x, s, W.numpy()) for x, s in zip(a, steps, strict=True)]
    assert_close(found, np.array(expected), rtol=1e-9)
    scaled = SparseCode(indices=before.indices, values=3 * before.values, width=WIDTH)
    again = type(edit)(features=edit.features, changes=3 * edit.changes)
    assert_close(edit_weight(scaled, again, W), found, rtol=1e-9)
    nothing = SparseCode(indices=before.indices, values=0 * before.values, width=WIDTH)
    assert edit_weight(nothing, edit, W).isnan().all()


def test_everything_taken_away_weighs_one(case):
    before, _, W = case
    empty = SparseCode(indices=before.indices, values=0 * before.values, width=WIDTH)
    found = edit_weight(before, differences(before, empty), W)
    assert_close(found, torch.ones(ROWS).double())


def test_labelled_edits_switch_old_features_off_and_new_ones_on():
    before = SparseCode(
        indices=torch.tensor([[0, 1, 4]]), values=torch.tensor([[2.0, 3.0, 1.0]]), width=6
    )
    off, on = torch.tensor([[0, 3, 4]]), torch.tensor([[5, 1, 4]])
    strength = torch.tensor([1.0, 1.0, 1.0, 1.0, 9.0, 7.0])
    found = labelled_edit(before, off, on, strength)
    assert found.features.tolist() == [[0, 5, 3, 1, 4, 4]]
    assert found.changes.tolist() == [[-2.0, 7.0, 0.0, -2.0, 0.0, 0.0]]  # 4 stands for both
    none = labelled_edit(before, off.fill_(-1), on.fill_(-1), strength)
    assert (none.changes == 0).all()


def test_codes_of_other_dictionaries_are_refused(case):
    before, after, _ = case
    other = SparseCode(indices=after.indices, values=after.values, width=WIDTH + 1)
    with pytest.raises(BadInput, match="20 rows of 30 features and of 20 rows of 31"):
        differences(before, other)


def labels_of(g, items=400):
    first, second = (torch.randint(n, (items,), generator=g) for n in (3, 4))
    return torch.cat([one_hot(first, 3), one_hot(second, 4)], 1).bool()


@pytest.mark.parametrize("make", [mean_dictionary, least_squares_dictionary])
def test_planted_directions_are_what_labels_say(make, generator):
    labels = labels_of(generator, 4000)
    directions = normalize(torch.randn(7, 9, generator=generator, dtype=torch.float64), dim=1)
    states = labels.double() @ directions + 5
    made = make(states, labels)
    tolerance = 0.1 if make is mean_dictionary else 1e-9
    assert_close(made.reconstruct(labels), states, atol=tolerance)
    after = labels.roll(1, 0)
    assert_close(made.edit(labels, after), states.roll(1, 0) - states, atol=2 * tolerance)


def test_means_are_those_of_plain_groups(generator):
    labels, states = labels_of(generator), torch.randn(400, 5, generator=generator).double()
    labels[:, 6] = False
    made = mean_dictionary(states, labels)
    for v in range(6):
        assert_close(made.directions[v], states[labels[:, v]].mean(0) - states.mean(0), atol=1e-8)
    assert (made.directions[6] == 0).all()


def test_least_squares_are_no_worse_than_any_other(generator):
    labels, states = labels_of(generator), torch.randn(400, 5, generator=generator).double()
    made = least_squares_dictionary(states, labels)
    design = torch.cat([labels.double(), torch.ones(400, 1).double()], 1)
    best = design @ torch.linalg.lstsq(design, states, driver="gelsd").solution
    assert_close(made.reconstruct(labels), best, atol=1e-9)
