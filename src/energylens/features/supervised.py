"""A dictionary made from labels: what a feature would write if there were one for each value.

The yardstick of Makelov, Lange & Nanda 2024, arXiv:2405.08366: an unsupervised dictionary can
hardly do better on the attributes that were labelled, and does well if it comes near.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class SupervisedDictionary:
    """States at one place as the mean and one direction for each value of each attribute.

    Attributes:
        offset: Mean of the states it was made from.
        directions: What each value adds; 0 for a value that never was.
    """

    offset: Float[Tensor, " d"]
    directions: Float[Tensor, "value d"]

    def reconstruct(self, labels: Bool[Tensor, "item value"]) -> Float[Tensor, "item d"]:
        """States as their labels alone would have them."""
        return self.offset + labels.to(self.directions) @ self.directions

    def edit(
        self, before: Bool[Tensor, "item value"], after: Bool[Tensor, "item value"]
    ) -> Float[Tensor, "item d"]:
        """What is added to states whose values change: new directions minus old ones."""
        return (after.to(self.directions) - before.to(self.directions)) @ self.directions


def mean_dictionary(
    states: Float[Tensor, "item d"], labels: Bool[Tensor, "item value"]
) -> SupervisedDictionary:
    """Each value's direction is the mean of its states minus the mean of all.

    Exact where attributes are independent of each other; otherwise a value's direction holds what
    goes along with it.

    Example:
        >>> states = torch.tensor([[1.0], [1.0], [5.0]])
        >>> labels = torch.tensor([[True, False], [True, False], [False, True]])
        >>> made = mean_dictionary(states, labels)
        >>> made.reconstruct(labels).flatten().tolist()
        [1.0, 1.0, 5.0]
    """
    offset = states.mean(0)
    inside = labels.to(states)
    count = inside.sum(0)[:, None]
    mean = inside.T @ (states - offset) / count
    return SupervisedDictionary(offset=offset, directions=torch.where(count > 0, mean, 0.0))


def least_squares_dictionary(
    states: Float[Tensor, "item d"], labels: Bool[Tensor, "item value"]
) -> SupervisedDictionary:
    """The directions that reconstruct best; of all that do equally well, the shortest.

    One-hot labels of several attributes determine directions up to a constant an attribute, which
    edits do not see.
    """
    offset, inside = states.mean(0), labels.double()
    directions = torch.linalg.pinv(inside - inside.mean(0)) @ (states - offset).double()
    fitted = inside.mean(0) @ directions
    return SupervisedDictionary(offset=offset - fitted.to(states), directions=directions.to(states))
