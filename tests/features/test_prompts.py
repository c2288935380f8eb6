"""States put into a model at named places, against one prompt edited at a time."""

import pytest
import torch

from energylens.activations.batch import Batch
from energylens.core.errors import BadInput, UnknownName
from energylens.features import prompts as module
from energylens.features.prompts import AttributedPrompts, answered, states_and_run
from energylens.sources.attributed import Attribute, AttributedItem, AttributedItems
from tests.activations.models import SHAPES, subject, tokens
from tests.common.compare import assert_close


def made(groups=5, seed=0):
    """Random prompts of different lengths with two places each; attributes of 3 and 2 values."""
    g = torch.Generator().manual_seed(seed)
    items = []
    for _ in range(groups):
        first, second = (int(torch.randint(n, (), generator=g)) for n in (3, 2))
        values = [(first, second), ((first + 1) % 3, second), (first, 1 - second)]
        for number, value in enumerate(values):
            length = 5 + int(torch.randint(4, (), generator=g))
            items.append(AttributedItem(
                prompt=tuple(tokens(length, seed=10 * len(items) + number).tolist()),
                answer=3 + 7 * value[0], foil=4 + 5 * value[1], values=value,
                places=(2, length - 1),
            ))  # fmt: skip
    return AttributedItems(
        attributes=(
            Attribute(name="a", values=("x", "y", "z")), Attribute(name="b", values=("u", "v")),
        ),
        places=("middle", "last"), items=tuple(items),
    )  # fmt: skip


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("site", ["blocks.1.resid_post", "blocks.2.resid_pre", "blocks.1.mlp_out"])
def test_a_run_is_that_of_one_prompt_edited_at_a_time(family, site, monkeypatch):
    monkeypatch.setattr(module, "PROMPTS_AT_ONCE", 4)
    found, task = subject(family), made()
    states, run = states_and_run(found, site, task)
    g = torch.Generator().manual_seed(1)
    rows = torch.tensor([3, 0, 14, 3, 7, 2])
    new = states[rows] + torch.randn(6, 2, 32, generator=g, dtype=torch.float64)
    logits = run(rows, new)
    for at, row in enumerate(rows.tolist()):
        one = task.items[row]
        alone = Batch.full(torch.tensor([one.prompt]))

        def put(h, one=one, at=at):
            h = h.clone()
            h[0, list(one.places)] = new[at]
            return h

        with torch.no_grad(), found.capture(site) as seen:
            found.forward(alone)
        assert_close(states[row], seen[site][0, list(one.places)], rtol=1e-7)
        with torch.no_grad(), found.edit({site: put}):
            assert_close(logits[at], found.forward(alone)[0, -1], rtol=1e-6, atol=1e-8)


def test_labels_pairs_and_groups_are_those_of_the_items():
    task = made()
    found = AttributedPrompts.of(task)
    assert found.values == (3, 2) and found.group_size == 3
    for row, item in enumerate(task.items):
        assert found.labels[row].nonzero()[:, 0].tolist() == [item.values[0], 3 + item.values[1]]
        assert int(found.group[row]) == row // 3
    for attribute in (0, 1):
        source, target = found.pairs(attribute)
        assert len(source) == 10 and torch.equal(source[:5], target[5:])
        for a, b in zip(source.tolist(), target.tolist(), strict=True):
            one, other = task.items[a].values, task.items[b].values
            assert [x != y for x, y in zip(one, other, strict=True)] == [
                attribute == 0, attribute == 1,
            ]  # fmt: skip
    assert found.labels[:, found.of_attribute(1)].sum(1).tolist() == [1] * 15


def test_the_gate_asks_every_answer_every_question():
    found = AttributedPrompts.of(made())
    logits = torch.randn(15, 60, generator=torch.Generator().manual_seed(0))
    accuracy, preference = answered(found, logits)
    own = [float(logits[i, found.answer[i]] - logits[i, found.foil[i]]) for i in range(15)]
    assert_close(preference, torch.tensor(own))
    right = (torch.tensor(own) > 0).float().view(5, 3).mean()
    assert_close(float(accuracy.accuracy.estimate), float(right))
    foreign = [
        float(logits[i, found.answer[j]] > logits[i, found.foil[j]])
        for i in range(15) for j in range(15) if i // 3 != j // 3
    ]  # fmt: skip
    assert_close(accuracy.chance, sum(foreign) / len(foreign))


def test_sites_that_are_not_there_or_hold_no_vectors_are_refused():
    with pytest.raises(UnknownName):
        states_and_run(subject(), "blocks.1.resid_pots", made())
    with pytest.raises(UnknownName):
        states_and_run(subject(), "blocks.*.resid_post", made())
    with pytest.raises(BadInput, match=r"shape \[15, 8\], not one vector a position"):
        states_and_run(subject(), "model.embed_tokens:in", made())
