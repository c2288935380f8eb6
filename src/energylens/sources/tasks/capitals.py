"""Does the model know the capital of a country?"""

import torch

from energylens.sources.task import (
    Item,
    TaskItems,
    in_one_token,
    in_units,
    shuffled,
    task,
    word_item,
)
from energylens.sources.tokenizer import Tokenizer

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo",
    "England": "London", "Russia": "Moscow", "China": "Beijing", "Egypt": "Cairo",
    "Greece": "Athens", "Austria": "Vienna", "Ireland": "Dublin", "Cuba": "Havana",
    "Iran": "Tehran", "Iraq": "Baghdad", "Syria": "Damascus", "Turkey": "Ankara",
    "Poland": "Warsaw", "Hungary": "Budapest", "Belgium": "Brussels", "Portugal": "Lisbon",
    "Sweden": "Stockholm", "Norway": "Oslo", "Denmark": "Copenhagen", "Finland": "Helsinki",
    "Kenya": "Nairobi", "Lebanon": "Beirut", "Canada": "Ottawa", "Peru": "Lima",
    "Thailand": "Bangkok", "Vietnam": "Hanoi", "Ukraine": "Kiev", "Scotland": "Edinburgh",
    "Wales": "Cardiff", "Nepal": "Kathmandu", "Libya": "Tripoli", "Pakistan": "Islamabad",
    "Afghanistan": "Kabul", "Australia": "Canberra", "Ghana": "Accra", "Taiwan": "Taipei",
}  # fmt: skip


@task(
    question="Does it know the capital of a country?",
    unit="pairs of countries",
    source="facts as in Meng et al. 2022",
)
def capitals(tokenizer: Tokenizer, generator: torch.Generator, count: int) -> TaskItems:
    """“The capital of France is” → Paris, not Berlin; Germany the other way round.

    No country is in two units.
    """
    words, left_out = in_one_token(tokenizer, "is", CAPITALS.values())
    known = shuffled([land for land, city in CAPITALS.items() if city in words], generator)
    pairs = list(zip(known[::2], known[1::2], strict=False))
    groups = [(f"{a} and {b}", _pair(tokenizer, a, b)) for a, b in pairs]
    return in_units(groups, count=count, task="capitals", needs="pairs of capitals",
                    left_out=left_out)  # fmt: skip


def _pair(tokenizer: Tokenizer, one: str, other: str) -> list[Item | None]:
    return [
        word_item(tokenizer, f"The capital of {here} is", answer=CAPITALS[here],
                  foil=CAPITALS[there], label=here)
        for here, there in ((one, other), (other, one))
    ]  # fmt: skip
