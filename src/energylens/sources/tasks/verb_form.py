"""Does the form of a verb fit the auxiliary before it?"""

import torch

from energylens.sources.task import Item, TaskItems, in_units, pick, shuffled, task, word_item
from energylens.sources.tasks.agreement import NOUNS
from energylens.sources.tokenizer import Tokenizer

VERBS = {
    "be": "been", "go": "gone", "do": "done", "see": "seen", "take": "taken", "know": "known",
    "make": "made", "say": "said", "give": "given", "hear": "heard", "find": "found",
    "keep": "kept", "think": "thought", "tell": "told", "leave": "left", "begin": "begun",
    "eat": "eaten", "grow": "grown", "speak": "spoken", "write": "written", "fall": "fallen",
    "forget": "forgotten", "lose": "lost", "feel": "felt", "stand": "stood", "break": "broken",
    "bring": "brought", "buy": "bought", "send": "sent", "meet": "met", "hold": "held",
    "have": "had", "get": "got", "look": "looked", "ask": "asked", "turn": "turned",
    "talk": "talked", "try": "tried", "call": "called", "seem": "seemed", "use": "used",
}  # fmt: skip
BARE, PERFECT = ("would", "could", "must", "might"), ("had", "has")


@task(
    question="Does the form of a verb fit the auxiliary before it?",
    unit="verbs",
    source="after Warstadt et al. 2020, BLiMP",
)
def verb_form(tokenizer: Tokenizer, generator: torch.Generator, count: int) -> TaskItems:
    """“The king would” → go, not gone; “The king had” → gone, not go."""
    groups = [
        (verb, _pair(tokenizer, verb, form, generator))
        for verb, form in shuffled(list(VERBS.items()), generator)
    ]
    return in_units(groups, count=count, task="verb_form", needs="verbs with both forms")


def _pair(
    tokenizer: Tokenizer, verb: str, form: str, generator: torch.Generator
) -> list[Item | None]:
    noun = pick(NOUNS, generator)
    bare, perfect = f"The {noun} {pick(BARE, generator)}", f"The {noun} {pick(PERFECT, generator)}"
    return [
        word_item(tokenizer, bare, answer=verb, foil=form, label="bare"),
        word_item(tokenizer, perfect, answer=form, foil=verb, label="participle"),
    ]
