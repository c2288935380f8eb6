"""Does the model repeat what followed a word the last time?"""

import torch

from energylens.sources.task import Item, TaskItems, in_one_token, in_units, pick, task
from energylens.sources.tokenizer import Tokenizer

WORDS = (
    "a", "about", "after", "again", "all", "and", "any", "at", "away", "back", "be", "before",
    "book", "by", "came", "can", "come", "could", "day", "do", "door", "down", "eyes", "first",
    "for", "from", "get", "go", "good", "great", "had", "hand", "have", "he", "head", "her",
    "here", "him", "his", "house", "how", "i", "if", "in", "into", "is", "it", "just", "know",
    "last", "like", "little", "long", "look", "made", "make", "man", "me", "mind", "more",
    "much", "must", "my", "never", "no", "not", "now", "of", "off", "old", "on", "once", "one",
    "or", "other", "out", "over", "people", "place", "poor", "put", "right", "round", "said",
    "say", "see", "she", "side", "so", "some", "than", "that", "the", "them", "then", "there",
    "they", "thing", "this", "thought", "time", "to", "too", "turned", "two", "up", "upon",
    "very", "voice", "was", "water", "way", "we", "well", "went", "were", "what", "when",
    "which", "who", "will", "with", "word", "work", "world", "would", "year", "you",
)  # fmt: skip
FEWEST_WORDS = 24
# Words in a sequence: enough that chance is low, few enough to be cheap.
LENGTH = 7


@task(
    question="Does it go on as the same random words went on before?",
    unit="random sequences",
    source="Olsson et al. 2022, in-context learning and induction heads",
)
def induction(tokenizer: Tokenizer, generator: torch.Generator, count: int) -> TaskItems:
    """Random words said twice, the second time broken off; a foil is another of the words.

    Each item is a unit by itself, so half of `count` gives as many units as pairs of items do.
    """
    words, left_out = in_one_token(tokenizer, " the", WORDS)
    groups: list[tuple[str, list[Item | None]]] = []
    if len(words) >= FEWEST_WORDS:
        groups = [
            (f"sequence {n}", [_item(tokenizer, words, generator)]) for n in range(count // 2)
        ]
    return in_units(groups, count=count, task="induction",
                    needs="sequences of ordinary words", left_out=left_out)  # fmt: skip


def _item(tokenizer: Tokenizer, words: list[str], generator: torch.Generator) -> Item:
    chosen = torch.randperm(len(words), generator=generator)[:LENGTH].tolist()
    ids = [_token(tokenizer, words[i]) for i in chosen]
    said = 2 + int(torch.randint(LENGTH - 3, (), generator=generator))
    others = [token for place, token in enumerate(ids) if place not in (said - 1, said)]
    return Item(
        prompt=(*ids, *ids[:said]), answers=(ids[said],), foils=(pick(others, generator),),
        label=f"after {said} words",
    )  # fmt: skip


def _token(tokenizer: Tokenizer, word: str) -> int:
    return tokenizer.encode(f" the {word}", add_special_tokens=False)[-1]
