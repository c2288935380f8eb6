"""A behaviour task: prompts whose next token is right or wrong, made for a tokenizer on the spot.

Items come in units, and the unit is what must be resampled: two prompts about one noun are not two
pieces of evidence. Within a unit the items mirror each other where the task allows it, so that a
model which always prefers the same token is right as often as it is wrong. Templates are fixed:
what is inferred is about other nouns in these templates, not about other templates.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from energylens.core.errors import InsufficientData
from energylens.core.registry import Registry
from energylens.sources.tokenizer import Tokenizer

FEWEST_UNITS = 8
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One prompt and what may follow it.

    Attributes:
        prompt: Token ids, without a start token.
        answers: Tokens that are right.
        foils: As many tokens that are wrong.
        label: What the right answer depends on, such as "plural".
        unit: Which unit of the task the item is from.
    """

    prompt: tuple[int, ...]
    answers: tuple[int, ...]
    foils: tuple[int, ...]
    label: str
    unit: int = 0


@dataclass(frozen=True, kw_only=True)
class TaskItems:
    """The items of a task in one vocabulary.

    Attributes:
        items: Sorted by unit.
        left_out: Words that could not be used, being several tokens in this vocabulary.
    """

    items: tuple[Item, ...]
    left_out: tuple[str, ...] = ()


# Makes at most so many items, from a tokenizer and a source of randomness.
Generate = Callable[[Tokenizer, torch.Generator, int], TaskItems]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task that any model with a tokenizer can be given.

    Attributes:
        question: What it asks of a model.
        unit: What the units are, as in "subject nouns".
        source: Where the task comes from.
    """

    name: str
    question: str
    unit: str
    source: str
    generate: Generate


TASKS: Registry[Task] = Registry("task", "energylens.sources.tasks")


def task(*, question: str, unit: str, source: str) -> Callable[[Generate], Generate]:
    """Register a generator of items as a task, under the generator's name."""

    def register(generate: Generate) -> Generate:
        name = generate.__name__
        TASKS.add(name, Task(name=name, question=question, unit=unit, source=source,
                             generate=generate))  # fmt: skip
        return generate

    return register


def item(
    tokenizer: Tokenizer, prompt: str, *, answers: Sequence[str], foils: Sequence[str], label: str
) -> Item | None:
    """The item of these strings; None if a continuation is not one token in this vocabulary."""
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    right = [continuation(tokenizer, prompt, text) for text in answers]
    wrong = [continuation(tokenizer, prompt, text) for text in foils]
    found = [token for token in (*right, *wrong) if token is not None]
    if len(found) < len(right) + len(wrong):
        return None
    return Item(
        prompt=tuple(ids), answers=tuple(found[: len(right)]), foils=tuple(found[len(right) :]),
        label=label,
    )  # fmt: skip


def word_item(
    tokenizer: Tokenizer, prompt: str, *, answer: str, foil: str, label: str
) -> Item | None:
    """The item of one right and one wrong word after a space."""
    return item(tokenizer, prompt, answers=[f" {answer}"], foils=[f" {foil}"], label=label)


def continuation(tokenizer: Tokenizer, prompt: str, ending: str) -> int | None:
    """The one token that carries `prompt` on by `ending`; None where it takes several, where the
    prompt's last token would change, or where the vocabulary does not know it."""
    before = tokenizer.encode(prompt, add_special_tokens=False)
    after = tokenizer.encode(prompt + ending, add_special_tokens=False)
    known = tokenizer.decode(after[-1:]).strip() == ending.strip()
    return after[-1] if after[:-1] == before and known else None


def in_one_token(
    tokenizer: Tokenizer, prompt: str, words: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Words that are one token after a prompt and a space, and those that are not."""
    kept: list[str] = []
    left_out: list[str] = []
    for word in words:
        one = continuation(tokenizer, prompt, f" {word}") is not None
        (kept if one else left_out).append(word)
    return kept, left_out


def in_units(
    groups: Iterable[tuple[str, Sequence[Item | None]]],
    *,
    count: int,
    task: str,
    needs: str,
    left_out: Sequence[str] = (),
) -> TaskItems:
    """The first groups whose items are all there, numbered as units, up to `count` items.

    Args:
        groups: What a unit is about, and its items, None for one that could not be made.
        needs: What there are too few of, for the message.
        left_out: Words that were left out before.

    Raises:
        InsufficientData: If fewer than `FEWEST_UNITS` units come together.
    """
    units: list[list[Item]] = []
    dropped = list(left_out)
    for name, items in groups:
        whole = [one for one in items if one is not None]
        if len(whole) < len(items):
            dropped.append(name)
        else:
            units.append(whole)
    if len(units) < FEWEST_UNITS:
        raise InsufficientData(
            f"task {task} needs {FEWEST_UNITS} {needs} in one token each and found {len(units)}:"
            f" {len(dropped)} are several tokens in this vocabulary"
        )
    chosen: list[Item] = []
    for number, unit in enumerate(units):
        if len(chosen) + len(unit) > count:
            break
        chosen += [replace(one, unit=number) for one in unit]
    return TaskItems(items=tuple(chosen), left_out=tuple(sorted(dropped)))


def shuffled(things: Sequence[T], generator: torch.Generator) -> list[T]:
    """The things in random order."""
    return [things[i] for i in torch.randperm(len(things), generator=generator).tolist()]


def pick(things: Sequence[T], generator: torch.Generator) -> T:
    """One of the things at random."""
    return things[int(torch.randint(len(things), (), generator=generator))]
