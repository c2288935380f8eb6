"""Every attributed task in every vocabulary at hand: labels are right, and one thing changes."""

import pytest
import torch

from energylens.core.errors import InsufficientData
from energylens.sources.attributed import (
    ATTRIBUTED_TASKS,
    FEWEST_GROUPS,
    attributed_item,
    other_than,
)
from energylens.sources.tasks.verb_form import BARE, VERBS
from tests.sources.conftest import small_tokenizer
from tests.sources.test_task import _smollm2, _tiny

GROUPS = 12


@pytest.fixture(scope="module", params=[_tiny, _smollm2], ids=["tiny", "smollm2"])
def tokenizer(request):
    return request.param()


def made(name, tokenizer, seed=0):
    try:
        return ATTRIBUTED_TASKS[name].generate(
            tokenizer, torch.Generator().manual_seed(seed), GROUPS
        )
    except InsufficientData as problem:
        assert "in one token each" in str(problem) and "\n" not in str(problem)
        pytest.skip(str(problem))


def right_names_and_order(text, at, values):
    first, second, giver = (at[place].strip() for place in ("first name", "second name", "giver"))
    taker_first = values["order"] == "taker first"
    named = (
        (values["taker"], values["giver"]) if taker_first else (values["giver"], values["taker"])
    )
    return (first, second, giver) == (*named, values["giver"]) and at["last"] == " to"


def asked_names_and_order(answer, foil, values):
    return (answer, foil) == (values["taker"], values["giver"])


def right_form_and_noun(text, at, values):
    noun, auxiliary = text.split()[1:]
    return noun == values["noun"] and (auxiliary in BARE) == (values["form"] == "bare")


def asked_form_and_noun(answer, foil, values):
    verb, form = (answer, foil) if values["form"] == "bare" else (foil, answer)
    return VERBS[verb] == form


@pytest.mark.parametrize("name", list(ATTRIBUTED_TASKS))
@pytest.mark.parametrize("seed", [0, 1])
def test_labels_places_and_answers_are_right(name, seed, tokenizer):
    found = made(name, tokenizer, seed)
    for one in found.items:
        values = {
            a.name: a.values[v] for a, v in zip(found.attributes, one.values, strict=True)
        }  # fmt: skip
        text = tokenizer.decode(list(one.prompt))
        at = {
            place: tokenizer.decode([one.prompt[position]])
            for place, position in zip(found.places, one.places, strict=True)
        }  # fmt: skip
        assert globals()[f"right_{name}"](text, at, values), (text, at, values)
        answer, foil = (tokenizer.decode([token]).strip() for token in (one.answer, one.foil))
        assert globals()[f"asked_{name}"](answer, foil, values), (text, answer, foil)
        assert one.places[-1] == len(one.prompt) - 1


@pytest.mark.parametrize("name", list(ATTRIBUTED_TASKS))
def test_each_prompt_of_a_group_differs_from_the_first_in_its_own_attribute(name, tokenizer):
    found = made(name, tokenizer)
    size = found.group_size
    assert len(found.items) == GROUPS * size
    for start in range(0, len(found.items), size):
        base, *others = found.items[start : start + size]
        for number, other in enumerate(others):
            changed = [a != b for a, b in zip(base.values, other.values, strict=True)]
            assert changed == [place == number for place in range(len(others))]
    assert found == made(name, tokenizer) and found.items != made(name, tokenizer, 1).items


def test_letters_alone_will_not_do():
    letters = small_tokenizer(258)
    with pytest.raises(InsufficientData, match="needs 4 names in one token each and found 0"):
        ATTRIBUTED_TASKS["names_and_order"].generate(letters, torch.Generator(), GROUPS)
    with pytest.raises(InsufficientData, match=f"needs {FEWEST_GROUPS} groups .* found 0"):
        ATTRIBUTED_TASKS["form_and_noun"].generate(letters, torch.Generator(), GROUPS)
    made = attributed_item(letters, ("ab", "c"), answer="de", foil="f", values=(0,))
    assert made is None


def test_others_are_others(generator):
    drawn = {other_than(1, 4, generator, 2) for _ in range(40)}
    assert drawn == {0, 3}
