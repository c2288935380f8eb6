"""Does the model name the one who was not named again?"""

import torch

from energylens.sources.task import (
    Item,
    TaskItems,
    in_one_token,
    in_units,
    pick,
    shuffled,
    task,
    word_item,
)
from energylens.sources.tokenizer import Tokenizer

NAMES = (
    "Alice", "John", "Mary", "Tom", "James", "Anna", "Peter", "Paul", "Sarah", "Kate", "Jack",
    "David", "Emma", "Lucy", "Mark", "Bob", "Robert", "Susan", "Dan", "Ben", "Sam", "George",
    "Henry", "Jane", "Max", "Adam", "Amy", "Rose", "Kevin", "Brian", "Jason", "Lisa", "Laura",
    "Michael", "Daniel", "William", "Thomas", "Richard", "Charles", "Edward", "Frank", "Simon",
    "Alex", "Eric", "Ryan", "Scott", "Martin", "Helen",
)  # fmt: skip
TIMES = ("When", "After", "Once")
THINGS = ("book", "letter", "drink", "ring", "picture", "flower")


@task(
    question="Does it name the person to whom something is given?",
    unit="pairs of names",
    source="Wang et al. 2022, indirect object identification",
)
def indirect_object(tokenizer: Tokenizer, generator: torch.Generator, count: int) -> TaskItems:
    """“When Mary and John met, John gave a book to” → Mary, not John; and mirrored.

    No name is in two units.
    """
    names, left_out = in_one_token(tokenizer, "gave it to", NAMES)
    names = shuffled(names, generator)
    pairs = list(zip(names[::2], names[1::2], strict=False))
    groups = [(f"{a} and {b}", _pair(tokenizer, a, b, generator)) for a, b in pairs]
    return in_units(groups, count=count, task="indirect_object", needs="pairs of names",
                    left_out=left_out)  # fmt: skip


def _pair(
    tokenizer: Tokenizer, first: str, second: str, generator: torch.Generator
) -> list[Item | None]:
    when, thing = pick(TIMES, generator), pick(THINGS, generator)
    scene = f"{when} {first} and {second} met,"
    return [
        word_item(tokenizer, f"{scene} {giver} gave a {thing} to", answer=taker, foil=giver,
                  label=label)
        for giver, taker, label in ((first, second, "second"), (second, first, "first"))
    ]  # fmt: skip
