"""The processes that train one dictionary: some have other rows, some other features."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.core.ports import Collective, solo

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """A grid of processes with two axes.

    Rows of a batch are dealt like cards along the one, so that every process has its share of any
    beginning of the batch; features lie in equal shares along the other. Data-parallel training has
    the first axis alone, latent-sharded training the second.

    Attributes:
        rows: The processes that hold the same features and see other rows.
        features: The processes that see the same rows and hold other features.
    """

    rows: Collective = solo
    features: Collective = solo

    @classmethod
    def of(cls, collective: Collective, *, shards: int = 1) -> "Mesh":
        """Processes in a grid; neighbours see the same rows.

        Args:
            collective: All of them.
            shards: How many a dictionary is dealt to: 1 for data-parallel training, all processes
                for latent-sharded training, and between them both at once.

        Raises:
            BadInput: If the number of processes is no multiple of `shards`.
        """
        if shards < 1 or collective.world % shards:
            raise BadInput(
                f"{shards} shards were asked of {collective.world} processes: the number of"
                " processes must be a multiple of the number of shards"
            )
        return cls(
            rows=collective.split(collective.rank % shards),
            features=collective.split(collective.rank // shards),
        )

    def deal(self, batch: Float[Tensor, "sample d"]) -> Float[Tensor, "own d"]:
        """Of a batch's rows, those that this process sees."""
        return batch[self.rows.rank :: self.rows.world]

    def dealt(self, count: int) -> int:
        """How many of the first so many rows of a batch this process sees."""
        return len(range(self.rows.rank, count, self.rows.world))

    def every(self, share: int, own: int, *, like: Tensor) -> Int64[Tensor, " row"]:
        """Those of this process, by its own numbers, of one row in so many of a batch: the first of
        the first so many, the last of the next, the last but one of the next, and so on, which are
        as many on each process.

        Args:
            own: How many rows this process sees.
            like: On the device of the rows.
        """
        numbers = self.rows.rank + self.rows.world * torch.arange(own, device=like.device)
        return ((numbers + numbers // share) % share == 0).nonzero().flatten()

    def total(self, count: int) -> int:
        """A number that every process has of its own rows and features, of all."""
        return int(self.all_reduce(torch.tensor(count)))

    def all_reduce(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        return self.rows.all_reduce(self.features.all_reduce(value))

    def least(self, value: Tensor) -> Tensor:
        """The least value of all processes."""
        return self.rows.all_gather(self.features.all_gather(value).amin(0)).amin(0)

    def broadcast(self, value: Tensor) -> Tensor:
        """The value of the first process."""
        return self.rows.broadcast(self.features.broadcast(value))

    def once(self, make: Callable[[], T]) -> T:
        """What the first process alone makes."""
        return self.rows.once(lambda: self.features.once(make))


ALONE = Mesh()
