"""Does a span of years end after it began?"""

import torch

from energylens.sources.task import Item, TaskItems, in_units, item, pick, shuffled, task
from energylens.sources.tokenizer import Tokenizer

EVENTS = (
    "war", "siege", "voyage", "reign", "trial", "project", "famine", "drought", "strike", "plague",
    "campaign", "dynasty", "journey", "debate", "rebellion", "occupation", "expedition", "alliance",
    "festival", "mission", "conflict", "dispute", "crisis", "revolt", "truce", "marriage",
)  # fmt: skip
CENTURIES = (13, 14, 15, 16, 17, 18)
# Far enough apart that a fixed preference among the digits is not right for both.
EARLY, LATE = (2, 3), (6, 7)
MOST_YEARS = 10


@task(
    question="Does a span of years end after it began?",
    unit="events",
    source="Hanna et al. 2023, greater-than in GPT-2",
)
def greater_than(tokenizer: Tokenizer, generator: torch.Generator, count: int) -> TaskItems:
    """“The war lasted from 1732 to 17” → later years, not earlier ones.

    Answers are the nearest years after the first, foils as many before it. Where two digits are not
    one token they are the next digit alone, and the digit of the first year itself is in neither.
    """
    groups = [(event, _pair(tokenizer, event, generator)) for event in shuffled(EVENTS, generator)]
    return in_units(groups, count=count, task="greater_than", needs="spans with years")


def _pair(tokenizer: Tokenizer, event: str, generator: torch.Generator) -> list[Item | None]:
    century, last = pick(CENTURIES, generator), pick(range(1, 9), generator)
    return [
        _item(tokenizer, event, century, 10 * pick(decades, generator) + last, label)
        for decades, label in ((EARLY, "early"), (LATE, "late"))
    ]


def _item(tokenizer: Tokenizer, event: str, century: int, year: int, label: str) -> Item | None:
    prompt = f"The {event} lasted from {century}{year} to {century}"
    whole = _around(year, 99, MOST_YEARS)
    digits = _around(year // 10, 9, MOST_YEARS)
    for (later, earlier), places in ((whole, 2), (digits, 1)):
        found = item(
            tokenizer, prompt, answers=[f"{n:0{places}}" for n in later],
            foils=[f"{n:0{places}}" for n in earlier], label=label,
        )  # fmt: skip
        if found is not None:
            return found
    return None


def _around(number: int, largest: int, most: int) -> tuple[range, range]:
    """The nearest numbers above and as many below."""
    reach = min(number, largest - number, most)
    return range(number + 1, number + 1 + reach), range(number - reach, number)
