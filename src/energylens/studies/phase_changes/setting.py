"""What a training is made of: a network, what it is taught, and by what its progress is known."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn, optim

# A value, and the same on other data of the kind, or nan where there is none.
Reading = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A training that is ready to begin.

    Attributes:
        network: With its first weights.
        optimizer: Of all its parameters.
        loss: Of the next step; what is random in it goes on from step to step.
        probe: Inputs to look at activations by.
        sites: Places in the network, from its input to its output.
        progress: Measures of the network as it is when this is called.
        hindsight: For measures that need to know where the training led: called when it is over, it
            gives what then measures the network at each earlier look.
        accuracy: Of these measures, the share of right answers.
        chance: That share of one who guesses.
        data: Name of what is taught.
        architecture: Name of the network, with its layers.
        layers: How many it has.
    """

    network: nn.Module
    optimizer: optim.Optimizer
    loss: Callable[[], Tensor]
    probe: Tensor
    sites: tuple[str, ...]
    progress: Callable[[], Mapping[str, Reading]]
    hindsight: Callable[[], Callable[[], Mapping[str, Reading]]]
    accuracy: str
    chance: float
    data: str
    architecture: str
    layers: int
