"""A model that is two read-outs of planted directions: everything about it is known."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import one_hot

from energylens.core.errors import BadInput
from energylens.features.chance import random_dictionary_like
from energylens.features.dictionary import Dictionary
from energylens.features.prompts import AttributedPrompts
from energylens.features.sparse_control import (
    approximations,
    dictionary_control,
    supervised_control,
)
from energylens.features.trials import edit_accuracy, edit_effect, judged, trials
from tests.common.compare import assert_close

NAMES, CONTEXTS, OTHERS, ACTIVE, D, GROUPS = 5, 3, 20, 4, 40, 60
TAKER, GIVER, CONTEXT, OTHER = 0, NAMES, 2 * NAMES, 2 * NAMES + CONTEXTS


def world(g, *, knows=True, giver_matters=True):
    """Groups of (taker, giver) with either changed; states of one place; directions; and the model.

    The model says the name whose taker direction is strongest; it prefers the giver to the rest.
    """
    basis = torch.linalg.qr(torch.randn(D, D, generator=g, dtype=torch.float64)).Q
    rows = []
    for _ in range(GROUPS):
        taker, giver, a, b = torch.randperm(NAMES, generator=g)[:4].tolist()
        context = int(torch.randint(CONTEXTS, (), generator=g))
        others = torch.randperm(OTHERS, generator=g)[:ACTIVE]
        for t, s in ((taker, giver), (a, giver), (taker, b)):
            code = torch.zeros(OTHER + OTHERS, dtype=torch.float64)
            code[[TAKER + t, GIVER + s, CONTEXT + context]] = 1.0
            code[OTHER + others] = 1.0
            rows.append((t, s, code))
    taker, giver = (torch.tensor([row[end] for row in rows]) for end in (0, 1))
    planted = basis[: OTHER + OTHERS]
    states = (torch.stack([row[2] for row in rows]) @ planted)[:, None]
    prompts = AttributedPrompts(
        answer=taker, foil=giver, values=(NAMES, NAMES),
        labels=torch.cat([one_hot(taker, NAMES), one_hot(giver, NAMES)], 1).bool(),
        group=torch.arange(len(rows)) // 3,
    )  # fmt: skip
    readout = 2 * planted[TAKER : TAKER + NAMES]
    if giver_matters:
        readout = readout + planted[GIVER : GIVER + NAMES]
    fixed = torch.randn(NAMES, generator=g, dtype=torch.float64)

    def run(rows, changed):
        said = changed[:, 0] @ readout.T
        return said if knows else fixed.expand_as(said)

    return trials(prompts, states, run, generator=g), planted


def of_directions(W, k):
    return Dictionary(
        architecture="topk", k=k, W_enc=W, W_dec=W, b_enc=W.new_zeros(len(W)),
        b_dec=W.new_zeros(W.shape[1]),
    )  # fmt: skip


def perfect(planted):
    return of_directions(planted, 3 + ACTIVE)


def rotated(planted, g):
    return perfect(planted @ torch.linalg.qr(torch.randn(D, D, generator=g).double()).Q)


def by_name(found, attribute=0):
    return {(one.method, one.most): one for one in found if one.attribute == attribute}


def value(interval):
    return float(interval.estimate)


def test_a_perfect_dictionary_does_everything(generator):
    asked, planted = world(generator)
    assert asked.can and value(asked.accuracy.accuracy) == 1.0
    found = dictionary_control(asked, perfect(planted), draws=50, generator=generator)
    taker = by_name(found)
    for method in ("greedy", "by labels"):
        for most in (2, 4, 8):
            one = taker[method, most]
            assert value(one.accuracy) == value(one.turned) == 1.0
            assert_close(value(one.effect), 1.0, rtol=1e-6)
            assert_close([one.weight, one.changed], [1 / 7, 2.0], rtol=1e-6)
        assert 0.2 < value(taker[method, 1].effect) < 0.8  # half of what is to be done
    assert value(taker["all features", 0].accuracy) == 1.0
    assert value(taker["random features", 8].accuracy) == 1.0  # only two differ
    assert taker["greedy", 2].pairs == taker["greedy", 2].turning == 60
    kept = {one.method: one for one in approximations(
        asked, [("perfect", perfect(planted))], draws=50, generator=generator
    )}  # fmt: skip
    assert_close(value(kept["perfect"].share), 1.0, rtol=1e-6)
    assert_close([value(kept[m].share) for m in ("nothing changed", "mean ablation")], [1.0, 0.0])


def test_a_rotated_or_random_one_does_no_better_than_chance(generator):
    asked, planted = world(generator)
    nulls = [rotated(planted, generator), random_dictionary_like(perfect(planted), generator)]
    for null in nulls:
        taker = by_name(dictionary_control(asked, null, draws=50, generator=generator))
        assert value(taker["greedy", 2].turned) < 0.5
        assert value(taker["greedy", 2].effect) < 0.5
        assert value(taker["by labels", 2].effect) < 0.25
    made = [(str(n), one) for n, one in enumerate(nulls)]
    kept = approximations(asked, made, draws=50, generator=generator)
    assert max(value(one.share) for one in kept if one.method in "01") < 0.8


def test_no_edit_random_features_and_shuffled_labels_stay_at_their_null(generator):
    """With features that differ for no reason, a random one of them is seldom the right one."""
    asked, planted = world(generator)
    shaken = asked.states.clone()
    noise = torch.rand(len(shaken), OTHERS, generator=generator).topk(ACTIVE, dim=1).indices
    extra = one_hot(noise, OTHERS).sum(1).double() @ planted[OTHER:]
    others = planted[OTHER:].T @ planted[OTHER:]
    shaken[:, 0] = shaken[:, 0] - shaken[:, 0] @ others + extra
    asked = trials(asked.prompts, shaken, asked.run, generator=generator)
    found = by_name(dictionary_control(asked, perfect(planted), draws=50, generator=generator))
    assert value(found["greedy", 8].turned) > 0.95
    assert value(found["random features", 2].turned) < 0.4
    assert value(found["by labels", 2].turned) == 1.0
    assert value(found["by shuffled labels", 2].turned) < 0.4
    made = by_name(supervised_control(asked, draws=50, generator=generator))
    assert value(made["no edit", 0].turned) == value(made["no edit", 0].effect) == 0.0
    assert value(made["supervised, shuffled labels", 0].turned) < 0.3
    for method in ("supervised, means", "supervised, least squares"):
        assert value(made[method, 0].turned) > 0.95
        assert_close(value(made[method, 0].effect), 1.0, atol=0.3)


def test_an_occluded_attribute_cannot_be_edited_and_the_other_can(generator):
    """A dictionary without features for the taker: most of a state is there, not the answer."""
    asked, planted = world(generator)
    without = of_directions(planted[GIVER:], 2 + ACTIVE)
    made = asked.states[:, 0]
    assert float((made - without.reconstruct(made)).square().sum() / made.square().sum()) < 0.2
    found = dictionary_control(asked, without, draws=50, generator=generator)
    assert value(by_name(found, 0)["greedy", 8].turned) == 0.0
    assert value(by_name(found, 0)["by labels", 8].effect) < 0.2
    assert_close(value(by_name(found, 1)["greedy", 2].effect), 1.0, rtol=1e-6)
    (kept,) = [one for one in approximations(
        asked, [("without", without)], draws=50, generator=generator
    ) if one.method == "without"]  # fmt: skip
    assert value(kept.share) < 0.1


def test_features_that_were_split_need_a_union_of_them(generator):
    """One feature for each taker in each context: two by labels are too few, eight will do."""
    asked, planted = world(generator)
    taker, context = planted[:NAMES], planted[CONTEXT:OTHER]
    reads = (taker[:, None] + context).flatten(0, 1)
    writes = taker.repeat_interleave(CONTEXTS, 0)
    blank = perfect(planted)
    split = replace(
        blank, architecture="standard", W_enc=torch.cat([2 * reads, planted[GIVER:]]),
        W_dec=torch.cat([writes, planted[GIVER:]]),
        b_enc=planted.new_tensor([-3.0] * len(reads) + [0.0] * (len(planted) - GIVER)),
    )  # fmt: skip
    found = by_name(dictionary_control(asked, split, draws=50, generator=generator))
    assert value(found["greedy", 2].turned) == 1.0
    assert value(found["by labels", 2].effect) < 0.8 < value(found["by labels", 8].effect)


def test_patching_itself_scores_one_and_sums_are_those_of_the_measures(generator):
    asked, _ = world(generator)
    patching = asked.patchings[0]
    rows = patching.pairs.source
    whole = asked.states[patching.pairs.target] - asked.states[rows]
    one = judged(asked, 0, whole, method="patching", draws=50, generator=generator)
    assert value(one.accuracy) == value(one.turned) == 1.0
    assert_close(value(one.effect), 1.0)
    half = 0.45 * whole + 0.3 * torch.randn(whole.shape, generator=generator).double()
    one = judged(asked, 0, half, method="some of it", draws=50, generator=generator)
    said, after = patching.pairs.says(asked.run(rows, asked.states[rows] + half))
    assert 0.1 < value(one.accuracy) < 0.9
    assert_close(value(one.accuracy), float(edit_accuracy(said, patching.said)))
    assert_close(value(one.effect), float(edit_effect(patching.before, after, patching.after)))
    logits = asked.run(rows, asked.states[rows] + half)
    again, moved = patching.pairs.says(logits + 5.0)
    assert torch.equal(again, said)
    assert_close(moved, after, atol=1e-9)


def test_where_the_model_is_at_chance_everything_is_nan_and_counted(generator):
    asked, planted = world(generator, knows=False)
    assert not asked.can and asked.patchings == ()
    found = dictionary_control(asked, perfect(planted), draws=50, generator=generator)
    found += supervised_control(asked, draws=50, generator=generator)
    assert len(found) == 2 * (17 + 4)
    for one in found:
        assert one.accuracy.estimate.isnan() and one.effect.low.isnan() and one.pairs == 60
    kept = approximations(asked, [("perfect", perfect(planted))], draws=50, generator=generator)
    assert all(one.share.estimate.isnan() for one in kept)


def test_an_attribute_that_patching_shows_to_be_idle_has_no_effect_to_share(generator):
    asked, planted = world(generator, giver_matters=False)
    found = dictionary_control(asked, perfect(planted), draws=50, generator=generator)
    giver = by_name(found, 1)["greedy", 2]
    assert giver.turning == 0 and giver.turned.estimate.isnan() and giver.effect.low.isnan()
    assert value(giver.accuracy) == 1.0
    assert value(by_name(found, 0)["greedy", 2].effect) > 0.99


def test_a_dictionary_of_other_rows_is_refused(generator):
    asked, planted = world(generator)
    with pytest.raises(BadInput, match=r"width 40 .* found one from 39 to 39"):
        dictionary_control(asked, of_directions(planted[:, :39], 3), generator=generator)
