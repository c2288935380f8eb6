import pytest
import torch

from energylens.activations.batch import Batch
from energylens.activations.suffix import logits_at
from energylens.energy.behaviour import (
    Move,
    Prompts,
    answer_preference,
    exchanged_preferences,
    preference_changes,
)
from energylens.sources.task import Item
from tests.activations.models import SHAPES, subject, tokens
from tests.common.compare import assert_close

SITE = "blocks.1.resid_post"


def prompts(count=6, seed=0):
    """Prompts of different lengths, with one to three answers and as many foils."""
    g = torch.Generator().manual_seed(seed)
    items = []
    for n in range(count):
        choices = (3 + torch.randperm(50, generator=g)[:6]).tolist()
        m = 1 + n % 3
        items.append(Item(
            prompt=tuple(tokens(5 + n % 3, seed=seed + n).tolist()), answers=tuple(choices[:m]),
            foils=tuple(choices[3 : 3 + m]), label="", unit=n // 2,
        ))  # fmt: skip
    return items, Prompts.of(items)


def naive_preference(logits, item):
    p = logits.softmax(-1)
    return (sum(p[t] for t in item.answers) / sum(p[t] for t in item.foils)).log()


@pytest.mark.parametrize("family", SHAPES)
def test_logits_at_one_place_are_those_of_the_whole_pass(family):
    found, batch = subject(family), Batch.full(tokens(4, 9))
    at = torch.tensor([8, 0, 3, 5])
    with torch.no_grad():
        whole = found.forward(batch)
        assert_close(logits_at(found, batch, at), whole[torch.arange(4), at], rtol=1e-9)


@pytest.mark.parametrize("family", SHAPES)
def test_changes_are_those_of_one_edit_of_one_prompt_at_a_time(family):
    found = subject(family)
    items, asked = prompts()
    with torch.no_grad(), found.capture(SITE) as seen:
        logits = found.forward(asked.batch)
    rows = torch.arange(len(items))
    base = answer_preference(logits[rows, asked.last], asked.answers, asked.foils)
    g = torch.Generator().manual_seed(3)
    moves = []
    for _ in range(3):
        change = torch.randn(asked.batch.ids.shape, generator=g, dtype=torch.float64)
        change = change * asked.batch.mask * (torch.rand(len(items), 1, generator=g) < 0.7)
        direction = torch.randn(32, generator=g, dtype=torch.float64)
        moves.append(Move(change=change, direction=direction))
    effects = preference_changes(found, SITE, asked, seen[SITE], base, moves, rows=4)
    for m, move in enumerate(moves):
        for n, item in enumerate(items):
            alone = Batch.full(torch.tensor([item.prompt]))
            length = len(item.prompt)
            step = move.change[n, :length, None] * move.direction
            with torch.no_grad():
                old = naive_preference(found.forward(alone)[0, -1], item)
                with found.edit({SITE: lambda h, step=step: h + step}):
                    new = naive_preference(found.forward(alone)[0, -1], item)
            assert_close(base[n], old, rtol=1e-7, atol=1e-9)
            assert_close(effects[m, n], new - old, rtol=1e-6, atol=1e-9)


def test_where_nothing_moves_nothing_is_run_and_nothing_changes(monkeypatch):
    found = subject()
    _, asked = prompts()
    with torch.no_grad(), found.capture(SITE) as seen:
        found.forward(asked.batch)
    ran = []
    forward = type(found).forward
    monkeypatch.setattr(
        type(found), "forward", lambda self, batch: (ran.append(len(batch.ids)),
                                                     forward(self, batch))[1]
    )  # fmt: skip
    change = torch.zeros(asked.batch.ids.shape, dtype=torch.float64)
    change[2, 1] = 1.0
    still = torch.zeros_like(change)
    direction = torch.ones(32, dtype=torch.float64)
    moves = [Move(change=c, direction=direction) for c in (change, still)]
    base = torch.zeros(6, dtype=torch.float64)
    effects = preference_changes(found, SITE, asked, seen[SITE], base, moves)
    assert ran == [1]
    assert (effects != 0).nonzero().tolist() == [[0, 2]]


def test_a_constant_and_the_order_do_not_matter():
    _, asked = prompts()
    logits = torch.randn(6, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = answer_preference(logits, asked.answers, asked.foils)
    assert_close(answer_preference(logits + 7, asked.answers, asked.foils), found, rtol=1e-9)
    turned = answer_preference(logits, asked.answers.flip(1), asked.foils.flip(1))
    assert_close(turned, found, rtol=1e-12)


def test_exchanged_preferences_ask_each_row_every_question():
    items, asked = prompts()
    logits = torch.randn(6, 60, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = exchanged_preferences(logits, asked)
    for i in range(6):
        for j in range(6):
            assert_close(found[i, j], naive_preference(logits[i], items[j]), rtol=1e-9)
