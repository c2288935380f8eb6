"""What form a verb must have, and whose verb it is: attributes on the surface of a prompt."""

import torch

from energylens.sources.attributed import (
    Attribute,
    AttributedItem,
    AttributedItems,
    attributed_item,
    attributed_task,
    in_groups,
    other_than,
)
from energylens.sources.task import in_one_token, pick, shuffled
from energylens.sources.tasks.agreement import NOUNS
from energylens.sources.tasks.verb_form import BARE, PERFECT, VERBS
from energylens.sources.tokenizer import Tokenizer

POOL = 8
AUXILIARIES = (BARE, PERFECT)
PLACES = ("noun", "last")


@attributed_task(
    question="Does the form of a verb fit the auxiliary before it?",
    source="after Warstadt et al. 2020, BLiMP; attributes as in Makelov, Lange & Nanda 2024",
)
def form_and_noun(tokenizer: Tokenizer, generator: torch.Generator, groups: int) -> AttributedItems:
    """“The king would” → go, not gone; “The king had” → gone, not go.

    Attributes are the form that the auxiliary asks for, and the noun.
    """
    known = [
        verb for verb, form in VERBS.items()
        if in_one_token(tokenizer, "The king would", [verb])[0]
        and in_one_token(tokenizer, "The king had", [form])[0]
    ]  # fmt: skip
    nouns = sorted(shuffled(NOUNS, generator)[:POOL])

    def draw() -> list[AttributedItem | None]:
        if not known:
            return []
        noun = int(torch.randint(len(nouns), (), generator=generator))
        form = int(torch.randint(2, (), generator=generator))
        verb, words = pick(known, generator), [pick(some, generator) for some in AUXILIARIES]
        return [
            _item(tokenizer, verb, words, nouns, values)
            for values in (
                (form, noun), (1 - form, noun), (form, other_than(noun, len(nouns), generator)),
            )
        ]  # fmt: skip

    return in_groups(
        draw, groups, task="form_and_noun", places=PLACES,
        left_out=[verb for verb in VERBS if verb not in known],
        attributes=[
            Attribute(name="form", values=("bare", "participle")),
            Attribute(name="noun", values=tuple(nouns)),
        ],
    )  # fmt: skip


def _item(
    tokenizer: Tokenizer, verb: str, words: list[str], nouns: list[str], values: tuple[int, int]
) -> AttributedItem | None:
    form, noun = values
    forms = (verb, VERBS[verb])
    return attributed_item(
        tokenizer, (f"The {nouns[noun]}", f" {words[form]}"), answer=forms[form],
        foil=forms[1 - form], values=values,
    )  # fmt: skip
