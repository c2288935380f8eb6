"""Who gives, who takes, and who was named first: indirect object identification in attributes."""

import torch

from energylens.core.errors import InsufficientData
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
from energylens.sources.tasks.indirect_object import NAMES, THINGS, TIMES
from energylens.sources.tokenizer import Tokenizer

# Few, so that each name is seen often enough to be learned and judged.
POOL = 8
FEWEST_NAMES = 4
ORDERS = ("taker first", "giver first")
PLACES = ("first name", "second name", "giver", "last")


@attributed_task(
    question="Does it name the person to whom something is given?",
    source="Makelov, Lange & Nanda 2024, arXiv:2405.08366, after Wang et al. 2022",
)
def names_and_order(
    tokenizer: Tokenizer, generator: torch.Generator, groups: int
) -> AttributedItems:
    """“When Mary and John met, John gave a book to” → Mary, not John.

    Attributes are who takes, who gives, and who of them is named first.

    Raises:
        InsufficientData: If fewer than four names are one token each.
    """
    known, left_out = in_one_token(tokenizer, "gave it to", NAMES)
    names = sorted(shuffled(known, generator)[:POOL])
    if len(names) < FEWEST_NAMES:
        raise InsufficientData(
            f"task names_and_order needs {FEWEST_NAMES} names in one token each and found"
            f" {len(names)}: {len(left_out)} are several tokens in this vocabulary"
        )
    count = len(names)

    def draw() -> list[AttributedItem | None]:
        taker = int(torch.randint(count, (), generator=generator))
        giver = other_than(taker, count, generator)
        order = int(torch.randint(2, (), generator=generator))
        when, thing = pick(TIMES, generator), pick(THINGS, generator)
        return [
            _item(tokenizer, names, values, when, thing)
            for values in (
                (taker, giver, order),
                (other_than(taker, count, generator, giver), giver, order),
                (taker, other_than(giver, count, generator, taker), order),
                (taker, giver, 1 - order),
            )
        ]

    return in_groups(
        draw, groups, task="names_and_order", places=PLACES, left_out=left_out,
        attributes=[
            Attribute(name="taker", values=tuple(names)),
            Attribute(name="giver", values=tuple(names)),
            Attribute(name="order", values=ORDERS),
        ],
    )  # fmt: skip


def _item(
    tokenizer: Tokenizer, names: list[str], values: tuple[int, int, int], when: str, thing: str
) -> AttributedItem | None:
    taker, giver = names[values[0]], names[values[1]]
    first, second = (taker, giver) if values[2] == 0 else (giver, taker)
    pieces = (f"{when} {first}", f" and {second}", f" met, {giver}", f" gave a {thing} to")
    return attributed_item(tokenizer, pieces, answer=taker, foil=giver, values=values)
