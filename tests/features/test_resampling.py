"""Dead features begun anew: where, how, and what it is good for."""

from dataclasses import replace

import pytest
import torch

from energylens.core.checkpoint import FolderCheckpoint
from energylens.core.errors import BadInput
from energylens.core.ports import Solo
from energylens.features.course import Course, look_at
from energylens.features.mesh import Mesh
from energylens.features.order import Order
from energylens.features.recovery import mean_matched_cosine
from energylens.features.resampling import begin_anew, drawing_law
from energylens.features.train import train
from energylens.features.training import TrainOptions
from tests.common.compare import assert_close
from tests.core.test_checkpoint import Killed, Mortal, same
from tests.features.planted import planted_rows, random_weights, topk_dictionary

OPTIONS = TrainOptions(
    architecture="standard_constrained", width=72, k=3, batch=128, epochs=6, dead_after_tokens=400,
    resample=True,
)  # fmt: skip


def _drawn(residual, seed):
    """Which row one dead feature is put at."""
    generator = torch.Generator().manual_seed(seed)
    d = len(residual)
    rows = torch.eye(d, dtype=torch.float64)
    made = topk_dictionary(random_weights(torch.Generator().manual_seed(0), width=3, d=d), 1)
    made.b_dec.zero_()
    dead = torch.tensor([False, True, False])
    (which,) = begin_anew(made, rows, rows, residual, dead, {}, generator).tolist()
    assert which == 1
    return int(made.W_dec[1].argmax())


def test_a_row_is_drawn_in_proportion_to_the_square_of_its_loss():
    residual = torch.zeros(5, 5, dtype=torch.float64)
    residual[:, :2] = torch.tensor([[1.0, 0], [0, 0], [1, 1], [0.5, 1], [1.2, 0.1]])
    loss = [1.0, 0.0, 2.0, 1.25, 1.45]  # squared lengths, by hand
    law = torch.tensor([one**2 for one in loss]).double()
    assert_close(drawing_law(residual), law / law.sum(), rtol=1e-6)
    draws = 3000
    counts = torch.bincount(
        torch.tensor([_drawn(residual, seed) for seed in range(draws)]), minlength=5
    )
    expected = draws * law / law.sum()
    assert counts[1] == 0
    other = expected > 0
    squares = (counts[other] - expected[other]).square() / expected[other]
    assert float(squares.sum()) < 16.3  # chi-squared of 3 degrees of freedom, p = .001
    by_loss = draws * torch.tensor(loss).double() / sum(loss)  # without the square it would fail
    assert float(((counts - by_loss)[other].square() / by_loss[other]).sum()) > 50


@pytest.mark.parametrize("subtracts", [True, False])
def test_a_feature_reads_and_writes_along_its_row_small_and_without_past(subtracts, generator):
    made = topk_dictionary(random_weights(generator, width=20, d=8), 2)
    made = replace(made, subtracts_b_dec=subtracts)
    x = torch.randn(6, 8, generator=generator, dtype=torch.float64)
    goal = torch.randn(6, 8, generator=generator, dtype=torch.float64)
    dead = torch.zeros(20, dtype=torch.bool)
    dead[[2, 5, 11]] = True
    before = {name: weight.clone() for name, weight in made.weights.items()}
    moments = {
        name: {"step": torch.tensor(7.0), "exp_avg": torch.ones_like(weight)}
        for name, weight in made.weights.items()
    }
    which = begin_anew(made, x, goal, goal - x, dead, moments, generator)
    assert which.tolist() == [2, 5, 11]
    size = 0.2 * before["W_enc"][~dead].norm(dim=1).mean()
    read = x - made.b_dec if subtracts else x
    seen = set()
    for feature in which.tolist():
        row = int((read @ made.W_enc[feature] / read.norm(dim=1)).argmax())
        seen.add(row)
        assert_close(made.W_enc[feature], size * read[row] / read[row].norm())
        toward = goal[row] - made.b_dec
        assert_close(made.W_dec[feature], toward / toward.norm())
        assert float(made.b_enc[feature]) == 0
    assert len(seen) == 3  # no row twice
    for name in ("W_enc", "b_enc", "W_dec"):
        assert torch.equal(getattr(made, name)[~dead], before[name][~dead])
        assert float(moments[name]["exp_avg"][dead].abs().max()) == 0
        assert bool((moments[name]["exp_avg"][~dead] == 1).all()) and moments[name]["step"] == 7
    assert bool((moments["b_dec"]["exp_avg"] == 1).all())


def test_no_more_are_begun_than_rows_leave_something_over(generator):
    made = topk_dictionary(random_weights(generator, width=20, d=8), 2)
    x = torch.randn(6, 8, generator=generator, dtype=torch.float64)
    left = x.clone()
    left[2:] = 0
    everything = torch.ones(20, dtype=torch.bool)
    before = made.W_enc.clone()
    assert begin_anew(made, x, x, left, everything, {}, generator).tolist() == [0, 1]
    assert_close(made.W_enc[:2].norm(dim=1), (0.2 * before.norm(dim=1).mean()).expand(2))
    assert begin_anew(made, x, x, 0 * left, everything, {}, generator).tolist() == []


def _with_half_dead(rows, options):
    """The course of a training that begins with half of the features far from firing."""
    generator = torch.Generator().manual_seed(1)
    seen = look_at(rows, None, massive=options.massive)
    course = Course.begin(seen, options, 300, generator)
    course.training.dictionary.b_enc[:36] = -50
    order = Order(len(rows), options.batch, generator)
    for _ in range(300):
        course.learn(rows[next(order)])
    return course


def test_what_is_dead_comes_to_life_and_finds_what_was_missing(generator):
    rows, directions = planted_rows(generator, n=3000)
    left = _with_half_dead(rows, replace(OPTIONS, resample=False, aux_k=0))
    begun = _with_half_dead(rows, OPTIONS)
    found = {course: course.record().dead_share[-1] for course in (left, begun)}
    assert found[left] >= 0.5 and found[begun] < 0.1
    cosine = {c: mean_matched_cosine(directions, c.finish().W_dec) for c in found}
    assert cosine[begun] > cosine[left] + 0.1
    assert float(begun.finish().W_dec.norm(dim=1).sub(1).abs().max()) < 1e-5


def test_nothing_is_begun_anew_while_the_learning_rate_falls(generator):
    rows, _ = planted_rows(generator, n=600)
    late = _with_half_dead(rows, replace(OPTIONS, decay=1.0))
    assert late.record().dead_share[-1] >= 0.5


@pytest.mark.parametrize("name", ["standard_constrained", "p_anneal"])
def test_killed_and_resumed_is_uninterrupted(name, generator, tmp_path):
    rows, _ = planted_rows(generator, n=1500)
    options = replace(OPTIONS, architecture=name, width=160, lr=0.05)
    again = lambda **kept: train(rows, options, torch.Generator().manual_seed(3), **kept)
    whole = again()
    assert max(whole[1].dead_share) > 0.05  # something was there to begin anew
    for last in (1, 4):
        with pytest.raises(Killed):
            again(checkpoint=Mortal(tmp_path / "kept", every=5, last=last, saves=True))
    same(again(checkpoint=FolderCheckpoint(tmp_path / "kept")), whole)


class Two(Solo):
    rank, world = 0, 2


@pytest.mark.parametrize(("change", "mesh", "words"), [
    (dict(architecture="topk"), Mesh(), "asked of topk and is for p_anneal and standard_con"),
    ({}, Mesh(rows=Two()), "asked of 2 processes and is done by one"),
    ({}, Mesh(features=Two()), "asked of 2 processes"),
])  # fmt: skip
def test_where_it_is_not_done_it_is_refused(change, mesh, words, generator):
    rows, _ = planted_rows(generator, n=300)
    with pytest.raises(BadInput, match=words) as told:
        train(rows, replace(OPTIONS, **change), generator, mesh=mesh)
    assert "\n" not in str(told.value)
