"""What tracking costs: a look in units of a training step, our measures in units of ndtracker's.

    python benchmarks/dynamics.py [--peers .venv-peers/bin/python] [--only tracker|measures]

`tracker`: networks of the suite are trained at batch 64 on 784 inputs with a tracker on a probe of
256 samples, and each part of the step is timed apart; overhead is the time of the tracker over that
of the training, at its default interval and at every 5 steps, both halves of the probe included.

`measures`: the four measures of ndtracker 2.0.0 by our code and by its own, of the same uncentred
activations of a network's layers, in turns in one process of the interpreter that `--peers` names.
One that cannot be had is named. Process CPU seconds, one thread, medians.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from energylens.dynamics.dimension import (
    energy_rank,
    nuclear_norm_ratio,
    participation_ratio_sigma,
    stable_rank,
    variances_of_each,
)
from energylens.dynamics.tracker import EVERY, Tracker

RESULT = Path(__file__).parent / "results" / "dynamics.json"
PROBE, BATCH, INPUTS, CLASSES = 256, 64, 784, 10
OFTEN = 5
SAME = (stable_rank, participation_ratio_sigma, energy_rank, nuclear_norm_ratio)
"""ndtracker's answers, in its order; its energy rank counts one more where the share is met."""


def mlp(*hidden: int) -> nn.Module:
    widths = [INPUTS, *hidden]
    layers = [m for a, b in pairwise(widths)
              for m in (nn.Linear(a, b), nn.ReLU())]  # fmt: skip
    return nn.Sequential(*layers, nn.Linear(widths[-1], CLASSES))


def cnn(*channels: int) -> nn.Module:
    widths = [1, *channels]
    layers = [m for a, b in pairwise(widths)
              for m in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))]  # fmt: skip
    side = 28 // 2 ** len(channels)
    return nn.Sequential(nn.Unflatten(1, (1, 28, 28)), *layers, nn.Flatten(),
                         nn.Linear(channels[-1] * side * side, CLASSES))  # fmt: skip


class Transformer(nn.Module):
    """An image in 16 tokens."""

    def __init__(self, layers: int, d: int = 128) -> None:
        super().__init__()
        self.embed = nn.Linear(INPUTS // 16, d)
        self.positions = nn.Parameter(torch.randn(1, 16, d))
        block = nn.TransformerEncoderLayer(d, 4, 4 * d, 0.1, batch_first=True)
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.head = nn.Linear(d, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.view(len(x), 16, -1)) + self.positions
        return self.head(self.blocks(tokens).mean(1))  # type: ignore[no-any-return]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mlp_shallow_2": lambda: mlp(128, 64),
    "mlp_medium_5": lambda: mlp(64, 64, 64, 64, 32),
    "mlp_deep_10": lambda: mlp(*[32] * 10),
    "mlp_verydeep_15": lambda: mlp(*[24] * 15),
    "mlp_narrow": lambda: mlp(*[32] * 4),
    "mlp_medium": lambda: mlp(128, 128, 64, 64),
    "mlp_wide": lambda: mlp(256, 256, 128, 128),
    "mlp_verywide": lambda: mlp(512, 512, 256, 256),
    "cnn_shallow": lambda: cnn(32, 64),
    "cnn_medium": lambda: cnn(32, 64, 128),
    "cnn_deep": lambda: cnn(32, 64, 128, 256),
    "transformer_shallow": lambda: Transformer(2),
    "transformer_medium": lambda: Transformer(4),
    "transformer_deep": lambda: Transformer(6),
    "transformer_narrow": lambda: Transformer(4, 64),
}


def tracker(name: str, seconds: float) -> dict[str, Any]:
    """One network: medians of a training step, of a look, and of telling of a step."""
    torch.manual_seed(0)
    model, generator = NETWORKS[name](), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = torch.rand(BATCH, INPUTS, generator=generator)
    y = torch.randint(CLASSES, (BATCH,), generator=generator)
    tracked = Tracker(model, torch.rand(PROBE, INPUTS, generator=generator), every=OFTEN)
    spent: dict[str, list[float]] = {"step": [], "told": [], "before": [], "look": []}
    with tracked:
        step, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end or step < 6 * OFTEN:
            step += 1
            start = time.process_time()
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            trained = time.process_time()
            tracked.after_step(step, loss=loss)
            due = "look" if step % OFTEN == 0 else "before" if (step + 1) % OFTEN == 0 else "told"
            spent["step"].append(trained - start)
            spent[due].append(time.process_time() - trained)
    median = {kind: statistics.median(values[2:]) for kind, values in spent.items()}

    def overhead(every: int) -> float:
        told = median["look"] + median["before"] + (every - 2) * median["told"]
        return told / (every * median["step"])

    return {
        "network": name, "sites": len(tracked.sites), "probe": PROBE,
        "step_ms": 1e3 * median["step"], "look_ms": 1e3 * median["look"],
        "looks": len(spent["look"]), f"overhead_every_{EVERY}": overhead(EVERY),
        f"overhead_every_{OFTEN}": overhead(OFTEN),
    }  # fmt: skip


def layers_of(name: str) -> list[Tensor]:
    """What the linear maps and convolutions of an untrained network make of 128 images."""
    torch.manual_seed(0)
    model, seen = NETWORKS[name]().train(False), []
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(lambda _, args, output: seen.append(output))
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad():
        model(torch.rand(PROBE // 2, INPUTS))
    return [x.movedim(1, -1).flatten(0, -2) if x.ndim == 4 else x.flatten(0, -2) for x in seen]


def measures(name: str, rounds: int) -> dict[str, Any]:
    """The measures of every layer, ours and ndtracker's in turns."""
    from ndt.core.estimators import compute_all_metrics

    layers = layers_of(name)

    def ours() -> dict[str, Tensor]:
        variances = variances_of_each(layers, centred=False)
        return {measure.__name__: measure(variances) for measure in SAME}

    def theirs() -> list[Any]:
        return [compute_all_metrics(layer) for layer in layers]

    seconds: dict[str, list[float]] = {"energylens": [], "ndtracker": []}
    for _ in range(rounds + 1):
        for contender, work in (("energylens", ours), ("ndtracker", theirs)):
            start = time.process_time()
            work()
            seconds[contender].append(time.process_time() - start)
    median = {who: statistics.median(values[1:]) for who, values in seconds.items()}
    found = ours()
    off = max(
        abs(float(found[name][at]) / other[place] - 1)
        for at, other in enumerate(theirs())
        for place, name in enumerate(found)
        if name != "energy_rank"
    )
    return {
        "network": name, "layers": len(layers), "ratio": median["ndtracker"] / median["energylens"],
        "energylens_ms": 1e3 * median["energylens"], "ndtracker_ms": 1e3 * median["ndtracker"],
        "largest_difference": off, "rounds": rounds,
    }  # fmt: skip


def apart(python: str, name: str, rounds: int) -> dict[str, Any]:
    """`measures` in the interpreter that has ndtracker."""
    missing = {"network": name, "missing": ""}
    if not Path(python).is_file():
        return missing | {"missing": f"there is no {python}: make bench-features sets it up"}
    source = Path(__file__).parents[1] / "src"
    done = subprocess.run(
        [python, __file__, "--measures", name, "--rounds", str(rounds)],
        env={**os.environ, "PYTHONPATH": str(source)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return missing | {"missing": (done.stderr.strip().splitlines() or ["it failed"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


def contest(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in NETWORKS:
        if options.only in ("", "tracker"):
            yield "tracker", tracker(name, options.seconds)
        if options.only in ("", "measures"):
            yield "measures", apart(options.peers, name, options.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", default=".venv-peers/bin/python")
    parser.add_argument("--only", default="", choices=["", "tracker", "measures"])
    parser.add_argument("--seconds", type=float, default=5, help="of each training")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measures", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.measures:
        print(json.dumps(measures(options.measures, options.rounds)))
        return
    found: dict[str, list[dict[str, Any]]] = {"tracker": [], "measures": []}
    for kind, line in contest(options):
        print(json.dumps(line), flush=True)
        found[kind].append(line)
    if options.only:
        return
    ratios = [line["ratio"] for line in found["measures"] if "ratio" in line]
    ours, theirs = (
        sum(line.get(f"{who}_ms", 0.0) for line in found["measures"])
        for who in ("energylens", "ndtracker")
    )
    record = {
        "benchmark": "dynamics",
        "largest_overhead_at_default": max(
            line[f"overhead_every_{EVERY}"] for line in found["tracker"]
        ),
        "default_interval": EVERY,
        "ratio_to_ndtracker": theirs / ours if ours else None,
        "least_ratio_to_ndtracker": min(ratios, default=None), **found,
        "clock": "process CPU seconds", "threads": 1, "torch": torch.__version__,
        "machine": platform.machine(), "python": platform.python_version(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }  # fmt: skip
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
