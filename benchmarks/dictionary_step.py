"""What one training step of a TopK dictionary costs, in units of its own encoder product.

    python benchmarks/dictionary_step.py [--rounds 9]

The step is the one that `energylens.features.train` makes: batch, encoder product, selection,
reconstruction, gradients, Adam, unit norms. Beside it stands the same update by dense autograd.
Contenders take turns in one process on one thread; times are process CPU seconds, so that
neighbours on the machine count little, and the ratio of medians is what is reported. The data are
sums of features with heavy-tailed rates, so that some latents fire far more often than others.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, linear, normalize

import energylens
from energylens.features import train as training
from energylens.features.order import Order
from energylens.features.training import Training, TrainOptions

SHAPES = [
    {"n": 1024, "d": 576, "m": 4096, "k": 32},
    {"n": 2048, "d": 512, "m": 8192, "k": 32},
    {"n": 4096, "d": 768, "m": 16384, "k": 32},
]
RESULT = Path(__file__).parent / "results" / "dictionary_step.json"


def heavy_tailed_rows(n: int, d: int, generator: torch.Generator) -> Tensor:
    directions = normalize(torch.randn(2 * d, d, generator=generator), dim=1)
    rate = torch.arange(1, 2 * d + 1).float() ** -0.8
    chosen = torch.multinomial(rate.expand(n, -1), 24, generator=generator)
    strength = torch.rand(n, 24, generator=generator) + 0.5
    rows = embedding_bag(chosen, directions, per_sample_weights=strength, mode="sum")
    return rows + 0.3 + 0.02 * torch.randn(n, d, generator=generator)


def encoder_product(n: int, d: int, m: int, generator: torch.Generator) -> Callable[[], object]:
    x, W, b = (torch.randn(*s, generator=generator) for s in ((n, d), (m, d), (m,)))
    out = torch.empty(n, m)
    return lambda: torch.addmm(b, x, W.T, out=out)


def our_step(rows: Tensor, options: TrainOptions, steps: int) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(0)
    frame = training._Frame.of(rows)
    start = training._initial(rows, frame, options, generator)
    state = Training(dictionary=start, options=options, steps=steps)
    order = Order(len(rows), options.batch, generator)
    return lambda: state.advance(frame.enter(rows[next(order)]))


def dense_step(rows: Tensor, options: TrainOptions) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(0)
    frame = training._Frame.of(rows)
    start = training._initial(rows, frame, options, generator)
    order = Order(len(rows), options.batch, generator)
    weights = [getattr(start, w).requires_grad_() for w in ("W_enc", "b_enc", "W_dec", "b_dec")]
    W_enc, b_enc, W_dec, b_dec = weights
    optimizer = torch.optim.Adam(weights, lr=1e-4, fused=True)

    def step() -> None:
        x = frame.enter(rows[next(order)])
        top = linear(x - b_dec, W_enc, b_enc).topk(options.k, dim=1)
        code = torch.zeros(len(x), options.width).scatter(1, top.indices, top.values.relu())
        optimizer.zero_grad()
        (code @ W_dec + b_dec - x).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            W_dec.div_(W_dec.norm(dim=1, keepdim=True))

    return step


def measure(shape: dict[str, int], rounds: int, warm_up: int = 2) -> dict[str, object]:
    n, d, m, k = (shape[name] for name in "ndmk")
    generator = torch.Generator().manual_seed(0)
    rows = heavy_tailed_rows(4 * n, d, generator)
    options = TrainOptions(width=m, k=k, batch=n, dead_after_tokens=10**9)
    contenders = {
        "encoder": encoder_product(n, d, m, generator),
        "step": our_step(rows, options, rounds + warm_up),
        "dense_autograd": dense_step(rows, options),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + warm_up):
        for name, run in contenders.items():
            started = time.process_time()
            run()
            if number >= warm_up:
                seconds[name].append(time.process_time() - started)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        **shape,
        "encoder_ms": round(1e3 * median["encoder"], 2),
        "step_ratio": round(median["step"] / median["encoder"], 3),
        "dense_autograd_ratio": round(median["dense_autograd"] / median["encoder"], 3),
    }


def environment() -> dict[str, object]:
    return {
        "energylens": energylens.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "clock": "process CPU seconds",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    result = {
        "benchmark": "dictionary_step",
        "unit": "CPU time of one fp32 encoder product of the same shape and process",
        "rounds": rounds,
        "shapes": [measure(shape, rounds) for shape in SHAPES],
        "environment": environment(),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
