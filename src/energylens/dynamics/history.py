"""What was measured of one network while it trained."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.core.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class History:
    """Measures of every site at the moments that were looked at, in training steps.

    Attributes:
        steps: The training steps (updates done before the look), ascending, each once.
        sites: Names, from the network's input to its output.
        values: By measure. A site that could not be measured at a moment has nan there.
        again: The same measures on the other half of the probe: what differs is noise of the
            measurement. Empty if there is no second half.
        ceiling: The largest value that a dimension could have at each site, min(rows, units).
        training: `loss`, `grad_norm`, `weight_norm`, `update_norm`, as far as they were given.

    Raises:
        BadInput: If steps do not ascend, or a shape does not fit.
    """

    steps: Int[Tensor, " sample"]
    sites: tuple[str, ...]
    values: Mapping[str, Float[Tensor, "site moment"]]
    again: Mapping[str, Float[Tensor, "site look"]]
    ceiling: Int[Tensor, " site"]
    training: Mapping[str, Float[Tensor, " sample"]]

    def __post_init__(self) -> None:
        if bool((self.steps.diff() <= 0).any()):
            raise BadInput("the steps of a history must ascend, each once: sort them first")
        shape = (len(self.sites), len(self.steps))
        for kind, table in (("values", self.values), ("again", self.again)):
            for name, series in table.items():
                if tuple(series.shape) != shape:
                    raise BadInput(
                        f"{kind} of {name} have the shape {tuple(series.shape)}: "
                        f"{len(self.sites)} sites at {len(self.steps)} steps need {shape}"
                    )

    def depth(self) -> Float[Tensor, " site"]:
        """How deep each site lies: 0 at the first, 1 at the last (0 if there is but one).

        Example:
            >>> from energylens.dynamics.history import History
            >>> one = torch.ones(3, 2)
            >>> history = History(steps=torch.tensor([0, 5]), sites=("a", "b", "c"),
            ...     values={"stable_rank": one}, again={}, ceiling=torch.tensor([2, 2, 2]),
            ...     training={})
            >>> history.depth().tolist()
            [0.0, 0.5, 1.0]
        """
        return torch.linspace(0.0, 1.0, len(self.sites)) if len(self.sites) > 1 else torch.zeros(1)
