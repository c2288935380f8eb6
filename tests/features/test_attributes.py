import pytest
import torch
from torch.nn.functional import one_hot

from energylens.core.errors import BadInput
from energylens.features.attributes import (
    deal_to_groups,
    feature_f1,
    greedy_unions,
    halves_of_groups,
    interpretability,
    union_f1,
)
from tests.common.compare import assert_close
from tests.oracles import attributes as oracle

GROUPS, EACH, VALUES = 40, 4, 5


def prompts(g, groups=GROUPS):
    """Groups of prompts, one value each."""
    value = torch.randint(VALUES, (groups * EACH,), generator=g)
    return one_hot(value, VALUES).bool(), torch.arange(groups).repeat_interleave(EACH)


def noise(g, items, features=30):
    """Features with rates of their own, which depend on the group."""
    rate = torch.rand(items // EACH, features, generator=g).repeat_interleave(EACH, 0)
    return torch.rand(items, features, generator=g) < rate.square()


def test_f1_is_that_of_counting(generator):
    active = torch.rand(50, 7, generator=generator) < 0.3
    active[:, 2] = False
    labels = torch.rand(50, 3, generator=generator) < 0.4
    labels[:, 1] = False
    expected = [[oracle.f1(a.tolist(), y.tolist()) for y in labels.T] for a in active.T]
    assert_close(feature_f1(active, labels), torch.tensor(expected).double())


def test_unions_are_those_of_trying_every_feature(generator):
    labels, _ = prompts(generator)
    active = torch.rand(len(labels), 12, generator=generator) < 0.15
    found = greedy_unions(active, labels, 5)
    for v in range(VALUES):
        steps = oracle.greedy_union(active.numpy(), labels[:, v].tolist(), 5)
        assert [m for m in found.members[v].tolist() if m >= 0] == [m for m, _ in steps]
        assert_close(found.f1[v, : len(steps)], torch.tensor([f for _, f in steps]).double())
    assert_close(union_f1(active, labels, found.members), found.f1)


def test_planted_features_are_found_and_hold(generator):
    labels, group = prompts(generator)
    order = torch.randperm(35, generator=generator)
    active = torch.cat([labels, noise(generator, len(labels))], 1)[:, order]
    found = interpretability(active, labels, group, draws=39, generator=generator)
    assert (order[found.members[:, 0]] == torch.arange(VALUES)).all()
    assert (found.members[:, 1:] == -1).all()
    assert_close(found.held.observed, torch.ones_like(found.held.observed))
    assert_close(found.best.observed, torch.ones(VALUES).double())
    assert float(found.held.p.max()) == float(found.best.p.max()) == 1 / 40
    assert float(found.held.null_mean.max()) < 0.6


def test_over_splitting_shows_as_unions_that_beat_single_features(generator):
    """Each value is told by four features, one in each of four contexts."""
    labels, group = prompts(generator, groups=100)
    context = torch.randint(4, (len(labels),), generator=generator)
    split = (labels[:, :, None] & one_hot(context, 4).bool()[:, None]).flatten(1)
    active = torch.cat([split, noise(generator, len(labels))], 1)
    found = interpretability(active, labels, group, most=8, draws=39, generator=generator)
    assert float(found.held.observed[:, 0].max()) < 0.65
    assert_close(found.held.observed[:, 3], torch.ones(VALUES).double())
    assert (found.members[:, :4] // 4 == torch.arange(VALUES)[:, None]).all()


def test_occlusion_shows_as_an_attribute_at_its_null(generator):
    """One attribute has its features, the other has none though it is there as often."""
    strong, group = prompts(generator)
    weak, _ = prompts(generator)
    active = torch.cat([strong, noise(generator, len(strong))], 1)
    labels = torch.cat([strong, weak], 1)
    found = interpretability(active, labels, group, draws=59, generator=generator)
    assert float(found.held.p[:VALUES, 0].max()) <= 0.05
    assert float(found.held.p[VALUES:, 0].median()) > 0.05
    assert float(found.held.observed[VALUES:, 0].max()) < 0.6


def test_of_features_of_chance_few_pass(generator):
    """The choice is made anew under the null, so that the best of many is no evidence."""
    held, best = [], []
    for _ in range(30):
        labels, group = prompts(generator, groups=20)
        active = noise(generator, len(labels), 60)
        found = interpretability(active, labels, group, most=2, draws=39, generator=generator)
        held.append(found.held.p[0, 1] <= 0.05)
        best.append(found.best.p[0] <= 0.05)
    assert sum(map(int, held)) <= 5 and sum(map(int, best)) <= 5


def test_a_value_that_is_never_judged_is_undefined_and_silence_is_no_feature(generator):
    labels, group = prompts(generator)
    labels[:, 3] = False
    silent = torch.zeros(len(labels), 6, dtype=torch.bool)
    found = interpretability(silent, labels, group, most=2, draws=20, generator=generator)
    assert (found.members == -1).all() and int(found.judged[3]) == 0
    assert found.held.observed[3].isnan().all() and found.held.p[3].isnan().all()
    assert_close(found.held.observed[:3], torch.zeros(3, 2).double())


def test_groups_are_dealt_out_whole(generator):
    group = torch.tensor([1, 0, 1, 0, 2, 2])
    labels = torch.tensor([10, 0, 11, 1, 20, 21])
    for _ in range(10):
        dealt = deal_to_groups(labels, group, generator)
        for g in range(3):
            first, second = dealt[group == g].tolist()
            assert first % 10 == 0 and second == first + 1
        a, b = halves_of_groups(group, generator)
        assert not (a & b).any() and (a | b).all() and len(group[a].unique()) == 2
    with pytest.raises(BadInput, match="groups of 1 to 2 prompts"):
        deal_to_groups(labels[:5], group[:5], generator)
    with pytest.raises(BadInput, match="unions of 0 of 3"):
        greedy_unions(torch.ones(4, 3).bool(), torch.ones(4, 1).bool(), 0)
