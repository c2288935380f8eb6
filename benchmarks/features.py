"""One training step of a sparse dictionary, ours and our peers', in units of its encoder product.

    python benchmarks/features.py [--shapes n4096d768m16384k32 ...] [--rounds 5] [--threads 1]
                                  [--clock cpu|wall] [--device cpu|cuda] [--only NAME]
                                  [--peers .venv-peers/bin/python] [--add]

Every contender runs in a process of its own, beside the fp32 encoder product of the same shape in
that process; the ratio of medians is reported, as one JSON line a contender. `--clock cpu`
counts process CPU seconds, which neighbours on the machine hardly change; `wall` is what a person
waits, and the only clock for `--device cuda`, where memory is what torch held there at most. Peers
are measured by their own trainers' step, in the interpreter that `--peers` names; one that cannot
be imported there is named as missing. No latent is dead unless the name says so.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SHAPES = (
    "n2048d256m8192k32", "n2048d512m8192k32", "n4096d512m16384k32", "n4096d768m16384k32",
)  # fmt: skip
NEVER = 10**9
Step = Callable[[Any], object]


def heavy_tailed_rows(n: int, d: int, seed: int) -> Any:
    """Sums of features with heavy-tailed rates, a mean and noise: some latents fire far more."""
    import torch
    from torch.nn.functional import embedding_bag, normalize

    generator = torch.Generator().manual_seed(seed)
    directions = normalize(torch.randn(2 * d, d, generator=generator), dim=1)
    rate = torch.arange(1, 2 * d + 1).float() ** -0.8
    chosen = torch.multinomial(rate.expand(n, -1), 24, generator=generator)
    strength = torch.rand(n, 24, generator=generator) + 0.5
    rows = embedding_bag(chosen, directions, per_sample_weights=strength, mode="sum")
    return rows + 0.3 + 0.02 * torch.randn(n, d, generator=generator)


# ---- ours


def ours(architecture: str, *, dead: float = 0.0, precision: str = "auto") -> Callable[..., Step]:
    """The step that `train` makes."""

    def made(n: int, d: int, m: int, k: int, device: str = "cpu") -> Step:
        import torch

        from energylens.features.architecture import ARCHITECTURES
        from energylens.features.dictionary import Dictionary
        from energylens.features.training import Training, TrainOptions
        from energylens.stats.nulls import random_unit_directions

        generator = torch.Generator().manual_seed(0)
        W = random_unit_directions(m, d, generator, like=torch.empty(0))
        dictionary = Dictionary(
            architecture=architecture, k=k, W_enc=W.clone(), W_dec=W,
            b_enc=torch.zeros(m), b_dec=torch.zeros(d),
            own=ARCHITECTURES[architecture].own(m, W),
        ).to(device)  # fmt: skip
        options = TrainOptions(
            architecture=architecture, width=m, k=k, batch=n, aux_k=d // 2, lr=2e-4,
            dead_after_tokens=NEVER, precision=precision,
        )  # fmt: skip
        training = Training(dictionary=dictionary, options=options, steps=1000)
        asleep = (torch.rand(m, generator=generator) < dead).to(device)

        def step(x: Any) -> object:
            training.since_fired[asleep] = NEVER  # as dead at every step as at the first
            return training.advance(x)

        return step

    return made


def dense_autograd(n: int, d: int, m: int, k: int, device: str = "cpu") -> Step:
    """The same update with every tensor dense, by autograd; fused Adam."""
    import torch
    from torch.nn.functional import linear, normalize

    generator = torch.Generator().manual_seed(0)
    W = normalize(torch.randn(m, d, generator=generator), dim=1).to(device)
    weights = [W.clone(), W.new_zeros(m), W, W.new_zeros(d)]
    W_enc, b_enc, W_dec, b_dec = (w.requires_grad_() for w in weights)
    optimizer = torch.optim.Adam(weights, lr=2e-4, fused=True)

    def step(x: Any) -> object:
        top = linear(x - b_dec, W_enc, b_enc).topk(k, dim=1)
        code = x.new_zeros(len(x), m).scatter(1, top.indices, top.values.relu())
        optimizer.zero_grad()
        loss = (code @ W_dec + b_dec - x).square().mean()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            W_dec.div_(W_dec.norm(dim=1, keepdim=True))
        return loss

    return step


# ---- peers


def saelens(architecture: str) -> Callable[..., Step]:
    def made(n: int, d: int, m: int, k: int, device: str = "cpu") -> Step:
        import sae_lens
        from sae_lens.config import LoggingConfig, SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        name = {"topk": "TopKTrainingSAE", "batchtopk": "BatchTopKTrainingSAE"}[architecture]
        config = getattr(sae_lens, f"{name}Config")(d_in=d, d_sae=m, k=k, device=device)
        trainer = SAETrainer(
            SAETrainerConfig(
                total_training_samples=NEVER, train_batch_size_samples=n, device=device,
                lr_end=2e-5, logger=LoggingConfig(log_to_wandb=False),
            ),
            getattr(sae_lens, name)(config), iter(()),
        )  # fmt: skip

        def step(x: Any) -> object:
            trainer.n_training_steps += 1
            return trainer.step(x)

        return step

    return made


def dictionary_learning(architecture: str) -> Callable[..., Step]:
    def made(n: int, d: int, m: int, k: int, device: str = "cpu") -> Step:
        with contextlib.suppress(ImportError):
            import nnsight  # noqa: F401
        if "nnsight" not in sys.modules:  # its buffers alone need it
            stand_in = types.ModuleType("nnsight")
            stand_in.LanguageModel = object  # type: ignore[attr-defined]
            sys.modules["nnsight"] = stand_in
        from dictionary_learning import trainers

        kind = {"topk": "TopKTrainer", "batchtopk": "BatchTopKTrainer"}[architecture]
        trainer = getattr(trainers, kind)(
            steps=10**6, activation_dim=d, dict_size=m, k=k, layer=0, lm_name="none",
            device=device, seed=0, warmup_steps=1,
        )  # fmt: skip
        count = iter(range(1, 10**6))
        return lambda x: trainer.update(next(count), x)

    return made


def sparsify(n: int, d: int, m: int, k: int, device: str = "cpu") -> Step:
    """The body of its fit loop, with Adam."""
    import torch

    with contextlib.redirect_stdout(io.StringIO()):
        from sparsify import SparseCoder, SparseCoderConfig
    coder = SparseCoder(d, SparseCoderConfig(num_latents=m, k=k), device, torch.float32)
    optimizer = torch.optim.Adam(coder.parameters(), lr=2e-4)

    def step(x: Any) -> object:
        coder.set_decoder_norm_to_unit_norm()
        found = coder(x)
        found.fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        torch.nn.utils.clip_grad_norm_(coder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return found.fvu

    return step


OURS: dict[str, Callable[..., Step]] = {
    "energylens topk": ours("topk"),
    "energylens batchtopk": ours("batchtopk"),
    "energylens matryoshka_batchtopk": ours("matryoshka_batchtopk"),
    "energylens groupmax": ours("groupmax"),
    "energylens topk, 30 % dead": ours("topk", dead=0.3),
    "energylens topk, fp32": ours("topk", precision="fp32"),
    "energylens batchtopk, fp32": ours("batchtopk", precision="fp32"),
    "energylens topk, fp32, 30 % dead": ours("topk", dead=0.3, precision="fp32"),
    "dense autograd, fused Adam": dense_autograd,
}
PEERS: dict[str, Callable[..., Step]] = {
    "saelens topk": saelens("topk"),
    "saelens batchtopk": saelens("batchtopk"),
    "dictionary_learning topk": dictionary_learning("topk"),
    "dictionary_learning batchtopk": dictionary_learning("batchtopk"),
    "sparsify topk, Adam": sparsify,
}


# ---- one contender, in this process


def measure(
    name: str, shape: str, *, rounds: int, threads: int, clock: str, device: str
) -> dict[str, Any]:
    """Median of the step over the median of the encoder product, taking turns."""
    import torch

    torch.set_num_threads(threads)
    n, d, m, k = sizes(shape)
    batches = [heavy_tailed_rows(n, d, seed).to(device) for seed in range(2)]
    W, out = torch.randn(m, d, device=device), torch.empty(512, m, device=device)

    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.process_time() if clock == "cpu" else time.perf_counter()

    def product(x: Any) -> object:
        return [torch.mm(part, W.T, out=out[: len(part)]) for part in x.split(512)]

    product(batches[0])
    contender = (OURS | PEERS)[name]
    contender(64, 32, 256, 4, device)(heavy_tailed_rows(64, 32, 0).to(device))  # imports are free
    before = _peak_mb(device)
    step = contender(n, d, m, k, device)
    seconds: dict[Step, list[float]] = {product: [], step: []}
    for number in range(rounds + 2):
        for run, times in seconds.items():
            started = now()
            run(batches[number % 2])
            if number >= 2:
                times.append(now() - started)
    encoder, made = (statistics.median(times) for times in seconds.values())
    return {
        "contender": name, "shape": spelled(shape), "ratio_to_encoder": round(made / encoder, 3),
        "peak_mb": round(_peak_mb(device) - before, 1), "threads": threads, "clock": clock,
        "device": device, "encoder_ms": round(1e3 * encoder, 1),
    }  # fmt: skip


def _peak_mb(device: str) -> float:
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 1024**2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def sizes(shape: str) -> tuple[int, int, int, int]:
    found = re.fullmatch(r"n(\d+)d(\d+)m(\d+)k(\d+)", shape)
    if not found:
        raise SystemExit(f"a shape is written n4096d768m16384k32, not {shape}")
    n, d, m, k = map(int, found.groups())
    return n, d, m, k


def spelled(shape: str) -> str:
    n, d, m, k = sizes(shape)
    return f"n{n} d{d} m{m} k{k}"


# ---- all of them, each in a process of its own


def contest(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for shape in options.shapes:
        for name in OURS | PEERS:
            if options.only and options.only not in name:
                continue
            python = sys.executable if name in OURS else options.peers
            yield _apart(python, name, shape, options)


def _apart(python: str, name: str, shape: str, options: argparse.Namespace) -> dict[str, Any]:
    missing = {"contender": name, "shape": spelled(shape), "missing": ""}
    if not Path(python).is_file():
        return missing | {"missing": f"there is no {python}: make bench-features sets it up"}
    command = [
        python, __file__, "--contender", name, "--shapes", shape, "--rounds", str(options.rounds),
        "--threads", str(options.threads), "--clock", options.clock, "--device", options.device,
    ]  # fmt: skip
    quiet = {
        "OMP_NUM_THREADS": str(options.threads), "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    done = subprocess.run(
        command, env={**os.environ, **quiet}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return missing | {"missing": (done.stderr.strip().splitlines() or ["it failed"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


def environment(threads: int, device: str) -> dict[str, object]:
    import torch

    import energylens

    return {
        "energylens": energylens.__version__, "torch": torch.__version__,
        "python": platform.python_version(), "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(), "threads": threads,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }  # fmt: skip


def earlier(path: Path, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What stands in a file of results and was not measured again."""
    again = {(line["contender"], line["shape"]) for line in lines}
    stored = json.loads(path.read_text(encoding="utf-8"))["contenders"] if path.exists() else []
    return [line for line in stored if (line["contender"], line["shape"]) not in again]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["cpu", "wall"], help="unless given: cpu, on cuda wall")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--peers", default=".venv-peers/bin/python")
    parser.add_argument("--only", default="", help="contenders whose name holds this")
    parser.add_argument("--add", action="store_true", help="to what was measured before")
    parser.add_argument("--contender", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.clock = options.clock or ("wall" if options.device == "cuda" else "cpu")
    if options.device == "cuda" and options.clock == "cpu":
        parser.error("CPU seconds say nothing of a GPU: use --clock wall")
    if options.contender:
        warnings.filterwarnings("ignore")
        (shape,) = options.shapes
        found = measure(
            options.contender, shape, rounds=options.rounds, threads=options.threads,
            clock=options.clock, device=options.device,
        )  # fmt: skip
        sys.stdout.write(json.dumps(found) + "\n")
        return
    lines = []
    for found in contest(options):
        sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
        sys.stdout.flush()
        lines.append(found)
    usual = (options.device, options.threads, options.clock) == ("cpu", 1, "cpu")
    other = f"-{options.device}-{options.threads}-threads-{options.clock}"
    path = RESULTS / f"features{'' if usual else other}.json"
    if options.add or not options.only:
        RESULTS.mkdir(exist_ok=True)
        lines = (earlier(path, lines) if options.add else []) + lines
        text = json.dumps(
            {"benchmark": "features", "unit": "fp32 encoder product of the same process",
             "contenders": lines, "environment": environment(options.threads, options.device)},
            indent=2, ensure_ascii=False,
        )  # fmt: skip
        path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
