"""Prompts with attributes: which value each has, and the same prompt with one of them changed.

Prompts come in groups of one wording. The first of a group is drawn; each of the others differs
from it in one attribute, in their order, so that a group of A attributes has 1 + A prompts. Groups
are drawn independently, and are the unit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from energylens.core.errors import InsufficientData
from energylens.core.registry import Registry
from energylens.sources.task import continuation
from energylens.sources.tokenizer import Tokenizer

FEWEST_GROUPS = 8
# Draws of a group for each that is kept: some fail where a vocabulary cuts a text in two ways.
MOST_TRIES = 4


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """What prompts differ in, and the values it may have."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AttributedItem:
    """One prompt.

    Attributes:
        prompt: Token ids, without a start token.
        answer: The token that is right.
        foil: A token that is wrong.
        values: Number of the value of each attribute.
        places: Position of each place that the task names.
    """

    prompt: tuple[int, ...]
    answer: int
    foil: int
    values: tuple[int, ...]
    places: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class AttributedItems:
    """The prompts of a task in one vocabulary.

    Attributes:
        places: Names of places that an attribute can be read at, the last position among them.
        items: Group after group, the drawn prompt first and then one for each attribute.
        left_out: Words that could not be used, being several tokens in this vocabulary.
    """

    attributes: tuple[Attribute, ...]
    places: tuple[str, ...]
    items: tuple[AttributedItem, ...]
    left_out: tuple[str, ...] = ()

    @property
    def group_size(self) -> int:
        """Prompts of a group."""
        return 1 + len(self.attributes)


# Makes so many groups, from a tokenizer and a source of randomness.
GenerateGroups = Callable[[Tokenizer, torch.Generator, int], AttributedItems]


@dataclass(frozen=True, kw_only=True)
class AttributedTask:
    """A task whose prompts have attributes, for any model with a tokenizer.

    Attributes:
        question: What it asks of a model.
        source: Where the task comes from.
    """

    name: str
    question: str
    source: str
    generate: GenerateGroups


ATTRIBUTED_TASKS: Registry[AttributedTask] = Registry("attributed task", "energylens.sources.tasks")


def attributed_task(*, question: str, source: str) -> Callable[[GenerateGroups], GenerateGroups]:
    """Register a generator of groups as a task, under the generator's name."""

    def register(generate: GenerateGroups) -> GenerateGroups:
        name = generate.__name__
        ATTRIBUTED_TASKS.add(
            name, AttributedTask(name=name, question=question, source=source, generate=generate)
        )
        return generate

    return register


def attributed_item(
    tokenizer: Tokenizer,
    pieces: Sequence[str],
    *,
    answer: str,
    foil: str,
    values: Sequence[int],
) -> AttributedItem | None:
    """The prompt of these pieces, each of which ends at a place; None if it cannot be made.

    It cannot where a continuation after a space is not one token in this vocabulary, or where the
    tokens of a beginning are not the beginning of the tokens.
    """
    prompt = "".join(pieces)
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    places, text = [], ""
    for piece in pieces:
        text += piece
        begun = tokenizer.encode(text, add_special_tokens=False)
        if ids[: len(begun)] != begun:
            return None
        places.append(len(begun) - 1)
    right, wrong = (continuation(tokenizer, prompt, f" {word}") for word in (answer, foil))
    if right is None or wrong is None:
        return None
    return AttributedItem(
        prompt=tuple(ids), answer=right, foil=wrong, values=tuple(values), places=tuple(places)
    )


def in_groups(
    draw: Callable[[], Sequence[AttributedItem | None]],
    groups: int,
    *,
    attributes: Sequence[Attribute],
    places: Sequence[str],
    left_out: Sequence[str],
    task: str,
) -> AttributedItems:
    """So many groups of those drawn whose prompts could all be made.

    Raises:
        InsufficientData: If fewer than `FEWEST_GROUPS` groups come together.
    """
    items: list[AttributedItem] = []
    size = 1 + len(attributes)
    for _ in range(MOST_TRIES * groups):
        if len(items) == groups * size:
            break
        whole = [one for one in draw() if one is not None]
        items += whole if len(whole) == size else []
    if len(items) < FEWEST_GROUPS * size:
        raise InsufficientData(
            f"task {task} needs {FEWEST_GROUPS} groups of prompts whose answers are one token each"
            f" and found {len(items) // size}: give a model with a larger vocabulary"
        )
    return AttributedItems(
        attributes=tuple(attributes), places=tuple(places), items=tuple(items),
        left_out=tuple(sorted(left_out)),
    )  # fmt: skip


def other_than(number: int, count: int, generator: torch.Generator, *also: int) -> int:
    """A number below `count` at random that is none of those given."""
    left = [n for n in range(count) if n not in (number, *also)]
    return left[int(torch.randint(len(left), (), generator=generator))]
