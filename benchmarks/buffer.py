"""What a batch from the shuffling buffer costs, in units of a bare gather of as many rows.

    python benchmarks/buffer.py [--rounds 7]

The bare gather is `rows[numbers]` from rows that are all in memory, as training on rows in memory
does; beside it stands `index_select`, the fastest gather there is. The buffer is timed over whole
rings, filling and permutation included, from blocks that are ready (what a model pass costs is not
its matter) and from a cache on disk that the system has in memory; and once more without filling.
Contenders take turns in one process on one thread; times are process CPU seconds, and the ratio of
medians is what is reported. Memory is what the process grew by at most.
"""

import argparse
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file
from torch import Tensor

import energylens
from energylens.activations.buffer import MEGABYTE, ShuffleBuffer
from energylens.activations.cache import CachedRows, Manifest, Shard

ROWS, D, BATCH = 131_072, 512, 4096
BLOCK, SHARD = 1008, 16_384
BUDGET_MB = 384
RESULT = Path(__file__).parent / "results" / "buffer.json"


class Ready:
    """One block, again and again."""

    total, largest = None, BLOCK

    def __init__(self) -> None:
        self.block = {"site": torch.randn(BLOCK, D)}
        self.layout = {"site": torch.empty(0, D)}

    def blocks(self, seed: int, first: int) -> Iterator[Mapping[str, Tensor]]:
        for _ in range(2 * ROWS // BLOCK):
            yield self.block


def cached(folder: Path) -> CachedRows:
    shards = []
    for number in range(2 * ROWS // SHARD):
        path = folder / f"shard-{number:05d}.safetensors"
        save_file({"site": torch.randn(SHARD, D)}, path)
        shards.append(Shard(rows=SHARD, bytes=path.stat().st_size, sha256="", tokens=""))
    manifest = Manifest(
        model="", text="", sites={"site": D}, dtype="float32", context=0, windows_per_pass=1,
        passes_per_shard=1, rows_per_shard=SHARD, shards=tuple(shards), complete=True,
    )  # fmt: skip
    return CachedRows(folder=folder, manifest=manifest)


def buffer(source: Ready | CachedRows, budget_mb: int = BUDGET_MB) -> ShuffleBuffer:
    return ShuffleBuffer(source, BATCH, torch.Generator().manual_seed(0), budget_mb=budget_mb)


def one_ring(of: ShuffleBuffer) -> Callable[[], None]:
    def serve() -> None:
        for _ in range(of.capacity // BATCH):
            next(of)

    return serve


def gathers(rows: Tensor, gather: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)

    def serve() -> None:
        for numbers in torch.randperm(len(rows), generator=generator).split(BATCH):
            gather(numbers)

    return serve


def served_again(of: ShuffleBuffer) -> Callable[[], None]:
    """All of one ring but the first batch, which fills it."""
    next(of)
    state = of.state()

    def serve() -> None:
        of.restore(state)
        for _ in range(of.capacity // BATCH - 1):
            next(of)

    return serve


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(rounds: int, folder: Path) -> dict[str, object]:
    one_ring(buffer(Ready(), 48))()  # what any first use loads is not the buffer's
    ready = buffer(Ready())
    before = peak_mb()
    one_ring(ready)()
    grown = peak_mb() - before
    on_disk, rows = buffer(cached(folder)), torch.randn(ready.capacity, D)
    batches = ready.capacity // BATCH
    contenders = {
        "bare_gather": (gathers(rows, lambda numbers: rows[numbers]), batches),
        "index_select": (gathers(rows, lambda numbers: rows.index_select(0, numbers)), batches),
        "buffer": (one_ring(ready), batches),
        "buffer_on_cache": (one_ring(on_disk), on_disk.capacity // BATCH),
        "buffer_without_filling": (served_again(buffer(Ready())), batches - 1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, (serve, count) in contenders.items():
            started = time.process_time()
            serve()
            if number:
                seconds[name].append((time.process_time() - started) / count)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "rows": ready.capacity, "d": D, "batch": BATCH,
        "ms_per_batch": {name: round(1e3 * value, 3) for name, value in median.items()},
        **{
            f"ratio_to_{bare}": {
                name: round(value / median[bare], 3) for name, value in median.items()
            }
            for bare in ("bare_gather", "index_select")
        },
        "budget_mb": BUDGET_MB,
        "stated_mb": round(ready.num_bytes / MEGABYTE, 1),
        "peak_growth_mb": round(grown, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        result = {
            "benchmark": "buffer", "rounds": rounds, **measure(rounds, Path(folder)),
            "clock": "process CPU seconds", "threads": 1, "energylens": energylens.__version__,
            "torch": torch.__version__, "machine": platform.machine(),
            "python": platform.python_version(),
        }  # fmt: skip
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
