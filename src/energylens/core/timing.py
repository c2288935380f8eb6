"""How long work takes on a device, for choices that are made by measuring."""

import time
from collections.abc import Callable
from functools import partial

import torch


def median_seconds(work: Callable[[], object], device: torch.device, runs: int = 3) -> float:
    """Wall clock of the median of some runs, the first of which pays for what is set up once."""
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return sorted(taken)[runs // 2]


def bf16_speedup(
    device: torch.device, *, rows: int = 256, inner: int = 512, columns: int = 1024, runs: int = 7
) -> float:
    """Time of a float32 product over that of a bfloat16 one of the same size."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(rows, inner, device=device, dtype=dtype)
        b = torch.ones(inner, columns, device=device, dtype=dtype)
        seconds[dtype] = median_seconds(partial(torch.matmul, a, b), device, runs)
    return seconds[torch.float32] / seconds[torch.bfloat16]
