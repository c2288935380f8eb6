"""How long work takes on a device, for choices that are made by measuring."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch


def fastest_seconds(
    works: Sequence[Callable[[], object]], device: torch.device, runs: int = 3
) -> list[float]:
    """Wall clock of the fastest of some runs of each, taken in turn.

    Whatever else a machine does makes a run longer and never shorter, as does what the first run
    sets up; so the fastest is what the work takes, where a median is what the neighbours let it.
    """
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(runs):
        for work, seconds in zip(works, taken, strict=True):
            start = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
    return [min(seconds) for seconds in taken]


def bf16_speedup(
    device: torch.device, *, rows: int = 256, inner: int = 512, columns: int = 1024, runs: int = 7
) -> float:
    """Time of a float32 product over that of a bfloat16 one of the same size."""
    products = []
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(rows, inner, device=device, dtype=dtype)
        b = torch.ones(inner, columns, device=device, dtype=dtype)
        products.append(partial(torch.matmul, a, b))
    full, half = fastest_seconds(products, device, runs)
    return full / half
