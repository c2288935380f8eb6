"""Does a model answer better than if it had not read the question?"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.stats.interval import Interval
from energylens.stats.rates import wilson_interval


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How often a model is right, and how often it would be without reading.

    Attributes:
        accuracy: Mean over units; Wilson's interval with one trial a unit, which is never too
            narrow for the mean of several items.
        chance: The same answers judged by the questions of all other units.
        units: Independent units.
    """

    accuracy: Interval
    chance: float
    units: int

    @property
    def can(self) -> bool:
        """Whether the interval lies above chance."""
        return float(self.accuracy.low) > self.chance


def accuracy_beyond_exchange(
    preferences: Float[Tensor, "item item"], unit: Int[Tensor, " item"]
) -> Accuracy:
    """Accuracy of answers to their own questions, and to those of other units.

    Args:
        preferences: Row i, column j: by how much what item i says favours the right answer of item
            j over its wrong one; above 0 is right, 0 counts half.
        unit: Which unit each item is from.

    Raises:
        InsufficientData: If there are fewer than two units.

    Example:
        >>> always_the_same = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
        >>> found = accuracy_beyond_exchange(always_the_same, torch.tensor([0, 1]))
        >>> found.accuracy.estimate.item(), found.chance
        (0.5, 0.5)
    """
    units, number = unit.unique(return_inverse=True)
    if len(units) < 2:
        raise InsufficientData(f"an exchange between units needs 2, got {len(units)}: ask more")
    right = (preferences > 0).double() + (preferences == 0).double() / 2
    foreign = number[:, None] != number
    own = torch.zeros(len(units), dtype=torch.float64, device=right.device)
    own = own.index_add(0, number, right.diagonal()) / torch.bincount(number)
    return Accuracy(
        accuracy=wilson_interval(own.sum(), torch.tensor(len(units), device=own.device)),
        chance=float(right[foreign].mean()), units=len(units),
    )  # fmt: skip
