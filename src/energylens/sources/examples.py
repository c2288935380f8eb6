"""Examples with one class each, to train networks on: images, vectors or words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int, Num
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.core.registry import Registry

FEWEST_UNITS = 8


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Inputs of one shape, a class each.

    Attributes:
        inputs: [example, channel, height, width] of images, [example, feature] of vectors, or
            [example, word] of texts, whole numbers of words.
        labels: A class of each example, counted from 0.
        units: Which independent unit each example is from, such as a document: examples of one unit
            are never on both sides of a split.
        classes: Name of each class.
        words: How many numbers of words there are; 0 where inputs are no words.
        name: As reports say it.
        source: Where they came from, with the version.
        sha256: Hash of what was read.
    """

    inputs: Num[Tensor, "example ..."]
    labels: Int[Tensor, " example"]
    units: Int[Tensor, " example"]
    classes: Sequence[str]
    name: str
    source: str
    sha256: str
    words: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.inputs.shape[1:])

    def take(self, rows: Int[Tensor, " row"]) -> "Examples":
        """Some of the examples, in the order asked for."""
        return replace(
            self, inputs=self.inputs[rows], labels=self.labels[rows], units=self.units[rows]
        )

    def commonest_share(self) -> float:
        """Share of the largest class: the accuracy of who always says it."""
        return float(self.labels.bincount(minlength=len(self.classes)).max()) / len(self)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Examples to train on, and others to measure on."""

    train: Examples
    held_out: Examples


@dataclass(frozen=True, kw_only=True)
class ExampleSet:
    """A set of examples by name.

    Attributes:
        about: What is to be told from what.
        load: Reads or makes it.
        bundled: Whether it is on this machine after the installation, without a network.
    """

    name: str
    about: str
    load: Callable[[], Examples]
    bundled: bool = True


EXAMPLE_SETS: Registry[ExampleSet] = Registry("data set", "energylens.sources.example_sets")


def example_set(
    *, name: str, about: str, bundled: bool = True
) -> Callable[[Callable[[], Examples]], Callable[[], Examples]]:
    """Register what loads a set of examples."""

    def register(load: Callable[[], Examples]) -> Callable[[], Examples]:
        EXAMPLE_SETS.add(name, ExampleSet(name=name, about=about, load=load, bundled=bundled))
        return load

    return register


def split(examples: Examples, generator: torch.Generator, *, held_out: float = 0.2) -> Split:
    """Part examples by their units at random; both parts in the order of the whole, both
    standardised by the training part: images by one mean and deviation, vectors by those of each
    feature, words not at all.

    Args:
        held_out: Share of the units that are not trained on.

    Raises:
        InsufficientData: If there are fewer than 8 units, or a part would be empty.
    """
    units = examples.units.unique()
    kept = round(len(units) * (1 - held_out))
    if len(units) < FEWEST_UNITS or not 0 < kept < len(units):
        raise InsufficientData(
            f"{examples.name} has {len(units)} independent units and {held_out:.0%} of them were to"
            f" be held out: give at least {FEWEST_UNITS}, some for each side"
        )
    mine = units[torch.randperm(len(units), generator=generator)[:kept]]
    trains = torch.isin(examples.units, mine)
    train, rest = (examples.take(rows.nonzero()[:, 0]) for rows in (trains, ~trains))
    if not examples.words:
        over = (0,) if train.inputs.ndim == 2 else tuple(range(train.inputs.ndim))
        mean = train.inputs.mean(over, keepdim=True)
        std = train.inputs.std(over, keepdim=True)
        std = torch.where(std > 0, std, torch.ones_like(std))  # a feature that never varies
        train, rest = (replace(side, inputs=(side.inputs - mean) / std) for side in (train, rest))
    return Split(train=train, held_out=rest)
