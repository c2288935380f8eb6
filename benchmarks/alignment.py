"""EFAS for all features at once: the streaming sums against the whole matrix of forces.

Each contender runs in a process of its own, so that its peak memory is its own; time is process
CPU seconds of one thread, median of several. The naive one holds activations and forces as
[sample feature] matrices in the same float32.

    python benchmarks/alignment.py                     # 100,000 tokens, 16,384 features, d 576
    python benchmarks/alignment.py --tokens 20000 --width 4096
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch

from energylens.energy.alignment import (
    ActivationSums,
    ForceSums,
    active_forces,
    energy_feature_alignment,
)

RESULT = Path(__file__).parent / "results" / "alignment.json"
BATCH, UNITS = 1000, 100


def case(tokens: int, width: int, d: int, k: int) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    indices = torch.randint(0, width, (tokens, k), generator=g)
    # No feature twice a row: a repeated one is switched off.
    repeated = (indices[:, :, None] == indices[:, None, :]).tril(-1).any(2)
    values = torch.rand(tokens, k, generator=g) * ~repeated
    gradient = torch.randn(tokens, d, generator=g)
    directions = torch.nn.functional.normalize(torch.randn(width, d, generator=g), dim=1)
    return indices, values, gradient, directions


def streaming(
    indices: torch.Tensor, values: torch.Tensor, gradient: torch.Tensor, directions: torch.Tensor
) -> torch.Tensor:
    width, d = directions.shape
    a = ActivationSums.zeros(width=width, n_units=UNITS)
    f = ForceSums.zeros(width=width, d_model=d, n_units=UNITS)
    for first in range(0, len(indices), BATCH):
        rows = slice(first, first + BATCH)
        unit = torch.full((len(indices[rows]),), first * UNITS // len(indices))
        force = active_forces(indices[rows], gradient[rows], directions)
        a.add_(indices[rows], values[rows], unit)
        f.add_(indices[rows], values[rows], gradient[rows], force, unit)
    return energy_feature_alignment(a, f, directions).efas


def naive(
    indices: torch.Tensor, values: torch.Tensor, gradient: torch.Tensor, directions: torch.Tensor
) -> torch.Tensor:
    activation = torch.zeros(len(indices), len(directions)).scatter_add_(1, indices, values)
    force = -(gradient @ directions.T)
    activation -= activation.mean(0)
    force -= force.mean(0)
    spread = activation.square().sum(0) * force.square().sum(0)
    return activation.mul_(force).sum(0) / spread.sqrt()


def measure(contender: str, shape: list[int], runs: int) -> dict[str, object]:
    torch.set_num_threads(1)
    data = case(*shape)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, out = [], torch.empty(0)
    for _ in range(runs):
        start = time.process_time()
        out = {"streaming": streaming, "naive": naive}[contender](*data)
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "contender": contender, "cpu_s": statistics.median(seconds),
        "peak_mb": (peak - before) / 1024, "efas": out.tolist(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("tokens", 100_000), ("width", 16_384), ("d", 576), ("k", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--contender")
    options = parser.parse_args()
    shape = [options.tokens, options.width, options.d, options.k]
    if options.contender:
        print(json.dumps(measure(options.contender, shape, options.runs)))
        return
    found = {}
    for contender in ("streaming", "naive"):
        command = [sys.executable, __file__, "--contender", contender, "--runs", str(options.runs)]
        command += [f"--{n}={v}" for n, v in zip(("tokens", "width", "d", "k"), shape, strict=True)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[contender] = json.loads(answer)
    both = [torch.tensor(found[c].pop("efas")) for c in ("streaming", "naive")]
    record = {
        "benchmark": "alignment", "shape": "n{} m{} d{} k{}".format(*shape),
        "largest_difference": float((both[0] - both[1]).abs().max()),
        "time_ratio_naive_to_streaming": found["naive"]["cpu_s"] / found["streaming"]["cpu_s"],
        "memory_ratio_naive_to_streaming":
            found["naive"]["peak_mb"] / found["streaming"]["peak_mb"],
        **found, "threads": 1, "clock": "process CPU seconds", "torch": torch.__version__,
        "machine": platform.machine(), "python": platform.python_version(),
    }  # fmt: skip
    print(json.dumps(record))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
