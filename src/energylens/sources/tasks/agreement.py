"""Does the verb agree with its subject, past a noun of the other number?"""

import torch

from energylens.sources.task import Item, TaskItems, in_units, pick, shuffled, task, word_item
from energylens.sources.tokenizer import Tokenizer

NOUNS = (
    "key", "cat", "dog", "boy", "girl", "book", "door", "tree", "bird", "horse", "house", "garden",
    "table", "letter", "window", "picture", "teacher", "doctor", "king", "queen", "rabbit",
    "brother", "sister", "father", "mother", "friend", "ship", "road", "river", "stone", "flower",
    "chair", "student", "soldier", "farmer", "writer", "painter", "lawyer", "building", "car",
)  # fmt: skip
BETWEEN = ("near", "behind", "beside", "with")
VERBS = (("is", "are"), ("was", "were"), ("has", "have"))


@task(
    question="Does the verb agree with its subject, past a noun of the other number?",
    unit="subject nouns",
    source="Linzen et al. 2016; minimal pairs as in Marvin & Linzen 2018",
)
def agreement(tokenizer: Tokenizer, generator: torch.Generator, count: int) -> TaskItems:
    """“The key near the doors” → is, not are; “The keys near the door” → are, not is."""
    groups = [(noun, _pair(tokenizer, noun, generator)) for noun in shuffled(NOUNS, generator)]
    return in_units(groups, count=count, task="agreement", needs="verbs")


def _pair(tokenizer: Tokenizer, noun: str, generator: torch.Generator) -> list[Item | None]:
    other = pick([word for word in NOUNS if word != noun], generator)
    between, (one, many) = pick(BETWEEN, generator), pick(VERBS, generator)
    return [
        word_item(tokenizer, f"The {noun} {between} the {other}s", answer=one, foil=many,
                  label="singular"),
        word_item(tokenizer, f"The {noun}s {between} the {other}", answer=many, foil=one,
                  label="plural"),
    ]  # fmt: skip
