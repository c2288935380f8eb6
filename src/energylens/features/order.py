"""The order in which rows are learned from: shuffled, endless, and resumable where it stopped."""

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Int64
from torch import Tensor


class Order(Iterator[Int64[Tensor, " size"]]):
    """Row numbers, `size` at a time: one permutation after the other, nothing left over.

    Args:
        count: Rows there are.
        size: Numbers a batch.
        generator: Of the permutations; may live on the CPU.

    Example:
        >>> order = Order(4, 2, torch.Generator().manual_seed(0))
        >>> sorted(torch.cat([next(order), next(order)]).tolist())
        [0, 1, 2, 3]
    """

    def __init__(self, count: int, size: int, generator: torch.Generator) -> None:
        self._size, self._generator = size, generator
        self._order = torch.empty(count, dtype=torch.int64, device=generator.device)
        self._start = count

    def __next__(self) -> Int64[Tensor, " size"]:
        numbers = torch.empty(self._size, dtype=torch.int64, device=self._order.device)
        filled, count = 0, len(self._order)
        while filled < self._size:
            if self._start == count:
                torch.randperm(count, generator=self._generator, out=self._order)
                self._start = 0
            taken = min(self._size - filled, count - self._start)
            numbers[filled : filled + taken] = self._order[self._start : self._start + taken]
            filled, self._start = filled + taken, self._start + taken
        return numbers

    def state(self) -> dict[str, Tensor]:
        """All that the next numbers depend on."""
        return {
            "order": self._order.clone(), "start": torch.tensor(self._start),
            "generator": self._generator.get_state(),
        }  # fmt: skip

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on as the order whose `state` this is; it must be of as many rows."""
        self._order.copy_(state["order"])
        self._start = int(state["start"])
        self._generator.set_state(state["generator"])
