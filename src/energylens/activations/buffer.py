"""Batches of rows in random order from more rows than memory holds."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData, NoRoom

MEGABYTE = 2**20
PLACES = 2 * torch.int32.itemsize
"""Bytes a row, while the places of rows are drawn."""


@runtime_checkable
class RowSource(Protocol):
    """Rows of several sites in blocks, which can be had again from any block on, bit for bit.

    Attributes:
        layout: An empty tensor `[0, width]` a site: width, dtype and device of its rows.
        largest: Rows of a block at most.
        total: Rows of an epoch; None where nobody knows before the end.
    """

    @property
    def layout(self) -> Mapping[str, Tensor]: ...

    @property
    def largest(self) -> int: ...

    @property
    def total(self) -> int | None: ...

    def blocks(self, seed: int, first: int) -> Iterator[Mapping[str, Tensor]]:
        """The blocks of an epoch from number `first` on; row i of every site is the same token.

        Args:
            seed: Of the order of blocks, for sources that have them in any order.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where in its source a buffer reads next."""

    epoch: int = 0
    seed: int
    block: int = 0
    row: int = 0
    """First row of the block that was not read yet."""
    rows: int = 0
    """Rows read of this epoch."""


class ShuffleBuffer:
    """An iterator of batches `{site: rows}` in random order, over a source of any length.

    The ring is filled with consecutive rows of the source, each of which is put at once into a
    batch drawn at random, served once through, and filled again with the rows that follow: any two
    rows that are served between two fillings are equally likely to meet in a batch. Within a batch
    rows stand in the order of the source: a part of a batch that is to be like the whole is every
    fourth row, say, not the first quarter. Rows of the next epoch follow those of the last, so
    every batch is full but the very last one.

    A batch is a part of the ring itself, not a copy: it is for reading, and holds until the next is
    asked for. Clone what is to be kept longer.

    Memory is the ring, where its rows belong, one block of the source, and two batches: never more
    than the budget. Since the ring follows from the source alone, a state is a few kilobytes; to go
    on from one, the ring is filled again, unless it is filled as it was.

    Args:
        source: Where rows come from.
        batch: Rows a batch.
        generator: Of every order, the buffer's own; on the CPU or where the rows are.
        budget_mb: Memory, all sites together.
        epochs: Passes over the source; None: without end.
        device: Where the ring lies; None: where the source's rows are.

    Raises:
        BadInput: If `batch` or `epochs` is not positive.
        NoRoom: If the budget holds fewer than two batches and two blocks; names one that does.
    """

    _place: _Place
    _blocks: Iterator[Mapping[str, Tensor]]
    _block: Mapping[str, Tensor] | None
    _mark: tuple[_Place, Tensor]
    _filled: int
    _served: int

    def __init__(
        self,
        source: RowSource,
        batch: int,
        generator: torch.Generator,
        *,
        budget_mb: float | int,
        epochs: int | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if batch < 1 or (epochs is not None and epochs < 1):
            raise BadInput(f"batches of {batch} rows, {epochs} epochs asked for: both start at 1")
        self.source, self.batch, self.epochs = source, batch, epochs
        self._generator = generator
        row_bytes = sum(empty.shape[1] * empty.element_size() for empty in source.layout.values())
        self.capacity = _capacity(source, batch, row_bytes, budget_mb)
        self.num_bytes = _needed(self.capacity, source, batch, row_bytes)
        self._ring = {
            site: empty.new_empty(self.capacity, empty.shape[1], device=device or empty.device)
            for site, empty in source.layout.items()
        }
        self._seek(_Place(seed=self._draw()))
        self._remember()

    def __iter__(self) -> Iterator[dict[str, Float[Tensor, "batch width"]]]:
        return self

    def __next__(self) -> dict[str, Float[Tensor, "batch width"]]:
        if self._served >= self._filled:
            self._fill()
        if not self._filled:
            raise StopIteration
        first, self._served = self._served, min(self._served + self.batch, self._filled)
        return {site: ring[first : self._served] for site, ring in self._ring.items()}

    def ahead(self) -> dict[str, Float[Tensor, "row width"]]:
        """The rows in memory, batch after batch, before the first of them is served or after:
        views, which stay as they are until the ring is filled again."""
        if self._served >= self._filled:
            self._fill()
        return {site: ring[: self._filled] for site, ring in self._ring.items()}

    def state(self) -> dict[str, Tensor]:
        """All that `restore` needs to go on with the very next batch, as tensors for a file."""
        place, generator = self._mark
        numbers = (place.epoch, place.seed, place.block, place.row, place.rows, self._served)
        return {
            "generator": generator.clone(),
            "place": torch.tensor(numbers),
            "shape": torch.tensor([self.capacity, self.batch]),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on where another buffer over the same source was; its batches follow bit for bit.

        Raises:
            BadInput: If the state is of a buffer of another size.
        """
        capacity, batch = state["shape"].tolist()
        if (capacity, batch) != (self.capacity, self.batch):
            raise BadInput(
                f"the state is of a buffer of {capacity:,} rows in batches of {batch} and this one"
                f" has {self.capacity:,} in batches of {self.batch}: give the memory budget, the"
                " sites and the batch that it had"
            )
        epoch, seed, block, row, rows, served = state["place"].tolist()
        place = _Place(epoch=epoch, seed=seed, block=block, row=row, rows=rows)
        if not (place == self._mark[0] and state["generator"].equal(self._mark[1])):
            self._begin(place, state["generator"])
        if served and not self._filled:
            self._fill()
        self._served = served

    def _fill(self) -> None:
        """Read the rows that follow into the ring, each into the batch that is drawn for it."""
        self._remember()
        try:
            slots = _dealt(self.capacity, self.batch, self._generator)
            filled = self._read(slots)
            if filled < self.capacity:
                self._close_up(slots[:filled].sort().values.long())
        except BaseException:  # whoever tries again finds all rows of this ring
            self._begin(*self._mark)
            raise
        self._filled = filled

    def _read(self, slots: Int[Tensor, " row"]) -> int:
        """Fill the ring, as far as there are rows, and count them."""
        filled = 0
        while filled < self.capacity and (block := self._current()) is not None:
            rows, first = _length(block), self._place.row
            count = min(rows - first, self.capacity - filled)
            where = slots[filled : filled + count].long()
            for site, ring in self._ring.items():
                new = block[site][first : first + count]
                ring.index_copy_(0, where.to(ring.device), new.to(ring.device))
            filled += count
            self._advance(count, last=first + count == rows)
        return filled

    def _close_up(self, there: Int64[Tensor, " row"]) -> None:
        """Move the rows of a ring that the source could not fill to its beginning, in their order.

        No row moves up, so what is written over was moved before.
        """
        for ring in self._ring.values():
            for first, some in enumerate(there.to(ring.device).split(self.batch)):
                at = first * self.batch
                ring[at : at + len(some)] = ring.index_select(0, some)

    def _begin(self, place: _Place, generator: Tensor) -> None:
        """Go to where a ring is about to be filled."""
        self._generator.set_state(generator)
        self._seek(place)
        self._remember()

    def _remember(self) -> None:
        """Note from where the ring is filled, and that nothing of it is there yet."""
        self._mark = self._place, self._generator.get_state()
        self._filled, self._served = 0, 0

    def _current(self) -> Mapping[str, Tensor] | None:
        """The block that is read next; None after the last epoch."""
        while self._block is None and self._place.epoch != self.epochs:
            self._block = next(self._blocks, None)
            if self._block is None:
                if not self._place.rows:
                    raise InsufficientData(
                        "no row was found in the whole text: give more text, or longer windows"
                    )
                self._seek(_Place(epoch=self._place.epoch + 1, seed=self._draw()))
        return self._block

    def _advance(self, count: int, *, last: bool) -> None:
        place = replace(self._place, row=self._place.row + count, rows=self._place.rows + count)
        if last:
            self._block, place = None, replace(place, block=place.block + 1, row=0)
        self._place = place

    def _seek(self, place: _Place) -> None:
        self._place, self._block = place, None
        self._blocks = self.source.blocks(place.seed, place.block)

    def _draw(self) -> int:
        generator = self._generator
        return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def _dealt(capacity: int, batch: int, generator: torch.Generator) -> Int[Tensor, " row"]:
    """A place in the ring for each row that comes: a batch at random, and there the next place.

    A batch lies together, and so do the rows that a block gives it: written so, a ring is filled in
    half the time that places in any order take, and serving takes none.
    """
    numbers = torch.randperm(
        capacity, generator=generator, device=generator.device, dtype=torch.int32
    )
    slots = torch.empty_like(numbers)
    for first in range(0, capacity, batch):
        rows = numbers[first : first + batch].sort().values.long()
        slots[rows] = torch.arange(first, first + batch, dtype=slots.dtype, device=slots.device)
    return slots


def _length(block: Mapping[str, Tensor]) -> int:
    return len(next(iter(block.values())))


def _needed(capacity: int, source: RowSource, batch: int, row_bytes: int) -> int:
    """Bytes of a buffer: the ring and the places of its rows, one block, two batches."""
    return capacity * (row_bytes + PLACES) + (source.largest + 2 * batch) * row_bytes


def _capacity(source: RowSource, batch: int, row_bytes: int, budget_mb: float | int) -> int:
    """Rows of the ring: a multiple of the batch, as many as fit and are of use."""
    least = math.ceil(2 * max(batch, source.largest) / batch) * batch
    most = math.inf if source.total is None else math.ceil(source.total / batch) * batch
    free = budget_mb * MEGABYTE - _needed(0, source, batch, row_bytes)
    fits = int(free // (row_bytes + PLACES)) // batch * batch
    if fits < min(least, most):
        wanted = _needed(int(min(least, most)), source, batch, row_bytes) / MEGABYTE
        raise NoRoom(
            f"two batches of {batch:,} rows and two blocks of {source.largest:,} take"
            f" {math.ceil(wanted)} MB and the budget is {budget_mb:g} MB: raise the memory budget,"
            " or ask for fewer sites, smaller batches or smaller shards"
        )
    return int(min(fits, most))
