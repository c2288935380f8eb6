"""Does the pronoun fit the noun it stands for?"""

import torch

from energylens.sources.task import Item, TaskItems, in_units, pick, shuffled, task, word_item
from energylens.sources.tokenizer import Tokenizer

PAIRS = (
    ("king", "queen"), ("father", "mother"), ("boy", "girl"), ("man", "woman"),
    ("son", "daughter"), ("brother", "sister"), ("uncle", "aunt"), ("husband", "wife"),
    ("duke", "duchess"), ("prince", "princess"), ("actor", "actress"), ("lord", "lady"),
    ("grandfather", "grandmother"), ("nephew", "niece"), ("waiter", "waitress"),
    ("gentleman", "gentlewoman"), ("monk", "nun"), ("wizard", "witch"), ("hero", "heroine"),
    ("widower", "widow"), ("god", "goddess"), ("emperor", "empress"),
)  # fmt: skip
TEMPLATES = (
    "The {noun} was tired because", "The {noun} said that", "The {noun} knew that",
    "The {noun} was late, and",
)  # fmt: skip


@task(
    question="Does the pronoun fit the noun it stands for?",
    unit="pairs of nouns",
    source="after Vig et al. 2020 and Mathwin et al. 2023; nouns whose gender is in their meaning",
)
def gendered_pronoun(tokenizer: Tokenizer, generator: torch.Generator, count: int) -> TaskItems:
    """“The king said that” → he, not she; “The queen said that” → she, not he."""
    groups = [
        (f"{he} and {she}", _pair(tokenizer, he, she, generator))
        for he, she in shuffled(PAIRS, generator)
    ]
    return in_units(groups, count=count, task="gendered_pronoun", needs="pronouns")


def _pair(tokenizer: Tokenizer, he: str, she: str, generator: torch.Generator) -> list[Item | None]:
    template = pick(TEMPLATES, generator)
    return [
        word_item(tokenizer, template.format(noun=he), answer="he", foil="she", label="he"),
        word_item(tokenizer, template.format(noun=she), answer="she", foil="he", label="she"),
    ]
