"""The processes that torchrun started, as a collective: gloo on the CPU and nccl on CUDA."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from energylens.core.errors import BadInput, EnergylensError
from energylens.core.ports import Collective, solo

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells each process in its environment; `LOCAL_RANK` besides."""
PATIENCE = 4 * 3600.0
"""Seconds that a process waits for a silent peer, which may be the first at work for all of them. A
peer that ends is noticed at once (gloo)."""


class TorchDistributed:
    """A group of processes; it implements `core.ports.Collective`.

    Args:
        group: The group; None for all processes.
        patience: Seconds to wait for a silent peer.

    Every call raises EnergylensError, in one sentence, if a peer ended or stays silent.
    """

    def __init__(self, group: Any = None, *, patience: float | int = PATIENCE) -> None:
        import torch.distributed as dist

        self._dist, self._group, self._patience = dist, group, patience
        self.rank, self.world = dist.get_rank(group), dist.get_world_size(group)

    def all_reduce(self, value: "Tensor") -> "Tensor":
        total = value.detach().clone().contiguous()
        self._together(lambda: self._dist.all_reduce(total, group=self._group))
        return total

    def all_gather(self, value: "Tensor") -> "Tensor":
        import torch

        own = value.detach().contiguous()
        parts = [torch.empty_like(own) for _ in range(self.world)]
        self._together(lambda: self._dist.all_gather(parts, own, group=self._group))
        return torch.stack(parts)

    def broadcast(self, value: "Tensor") -> "Tensor":
        said = value.detach().clone().contiguous()
        self._together(lambda: self._dist.broadcast(said, group=self._group, group_src=0))
        return said

    def once(self, make: Callable[[], T]) -> T:
        import torch

        self.all_reduce(torch.zeros(1))  # no one may still need what is about to change
        made, failed = None, None
        if self.rank == 0:
            try:
                made = make()
            except Exception as error:  # noqa: BLE001 (raised again once the others know)
                failed = error
        said = self._said(json.dumps({
            "made": made, "failed": None if failed is None else " ".join(str(failed).split()),
            "refused": isinstance(failed, BadInput),
        }))  # fmt: skip
        if failed is not None:
            raise failed
        if said["failed"] is not None:
            raise (BadInput if said["refused"] else EnergylensError)(said["failed"])
        return made if self.rank == 0 else said["made"]  # type: ignore[return-value]

    def split(self, colour: int) -> Collective:
        import torch

        colours = self.all_gather(torch.tensor(colour)).tolist()
        same = [rank for rank, other in enumerate(colours) if other == colour]
        if len(same) == 1:
            return solo
        if len(same) == self.world:
            return self
        ranks = same
        if self._group is not None:
            ranks = [self._dist.get_global_rank(self._group, rank) for rank in same]
        group = self._together(lambda: self._dist.new_group(ranks, use_local_synchronization=True))
        return TorchDistributed(group, patience=self._patience)

    def _said(self, text: str) -> dict[str, Any]:
        """What the first process says, on all."""
        import torch

        content = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        size = int(self.broadcast(torch.tensor(len(content))))
        content = content if self.rank == 0 else torch.empty(size, dtype=torch.uint8)
        found: dict[str, Any] = json.loads(bytes(self.broadcast(content).tolist()))
        return found

    def _together(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except RuntimeError as error:  # all that torch.distributed raises
            raise EnergylensError(
                f"process {self.rank + 1} of {self.world} stopped because a peer ended, failed or"
                f" was silent for {self._patience:g} s ({_first_line(error)}): see what the others"
                " say, then start all of them again"
            ) from error


@contextmanager
def processes(*, patience: float | int = PATIENCE) -> Iterator[Collective]:
    """The collective of the processes that torchrun started; `solo` where it started none.

    A process takes the GPU of its local rank, if there is one.

    Args:
        patience: Seconds to wait for a silent peer.

    Raises:
        BadInput: If torchrun's variables are there in part, or say nothing that makes sense.
        EnergylensError: If the others do not come within `patience`.
    """
    if "RANK" not in os.environ and "WORLD_SIZE" not in os.environ:
        yield solo
        return
    rank, world = _place()
    if world == 1:
        yield solo
        return
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    local = int(os.environ.get("LOCAL_RANK", rank))
    has_gpu = torch.cuda.is_available() and local < torch.cuda.device_count()
    if has_gpu:
        torch.cuda.set_device(local)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if has_gpu else "gloo",
            timeout=timedelta(seconds=patience), rank=rank, world_size=world,
        )  # fmt: skip
    except (RuntimeError, ValueError) as error:
        raise EnergylensError(
            f"process {rank + 1} of {world} did not find the others at"
            f" {os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} within {patience:g} s"
            f" ({_first_line(error)}): start all of them with torchrun"
        ) from error
    try:
        yield TorchDistributed(patience=patience)
    finally:
        dist.destroy_process_group()


def _place() -> tuple[int, int]:
    missing = [name for name in NEEDED if name not in os.environ]
    if missing:
        raise BadInput(
            f"{' and '.join(missing)} is missing of the variables that torchrun sets"
            f" ({', '.join(NEEDED)}): start with torchrun, or unset them to work in one process"
        )
    said = os.environ["RANK"], os.environ["WORLD_SIZE"]
    if not all(word.isdecimal() for word in said) or not int(said[0]) < int(said[1]):
        raise BadInput(
            f"RANK is {said[0]!r} and WORLD_SIZE {said[1]!r} in the environment: they are whole"
            " numbers, the first below the second, as torchrun sets them"
        )
    return int(said[0]), int(said[1])


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
