"""What a TopK dictionary is like after equal tokens, ours and our peers'.

    python benchmarks/quality.py planted|states [--ks 16 32 64] [--rates 1 4 16] [--epochs 4]
                                 [--peers .venv-peers/bin/python] [--only NAME] [--add]

`planted`: rows made of 512 known directions in 64 dimensions, so that what was found can be counted
(mean cosine of matched directions, F1 of firing). `states`: SmolLM2's states after block 15 on the
default text. Every contender sees the same rows in batches of 1,024, so often, and is judged on
the same held-out rows. Peers train by their own trainers with their own schedules, warm-ups cut
to 5 % of the steps and dead features counted after as many tokens as ours, at each multiple of
their default learning rate that `--rates` names; all are reported, and the best is marked. Ours
has its default rate alone. Seconds are process CPU seconds of training on one thread.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from features import environment

RESULTS = Path(__file__).parent / "results"
BATCH = 1024
WIDTHS = {"planted": 512, "states": 2048}
KS = {"planted": (8,), "states": (16, 32, 64)}
TRAIN, HELD_OUT = 40_960, 8_192
DEAD_AFTER = 20_000
SETTING, FOUND = ("contender", "k", "rate", "epochs"), "found.safetensors"
Trained = Callable[[Any], tuple[Any, Any]]
"""Rows to their reconstruction and their dense code."""


# ---- the rows


def planted(directory: Path) -> None:
    """Rows of a few of 512 directions each, with rates that fall as a power."""
    import torch
    from safetensors.torch import save_file
    from torch.nn.functional import normalize

    generator = torch.Generator().manual_seed(0)
    directions = normalize(torch.randn(512, 64, generator=generator), dim=1)
    rate = 8 * normalize(torch.arange(1, 513).float() ** -0.5, p=1, dim=0)
    active = torch.rand(TRAIN + HELD_OUT, 512, generator=generator) < rate
    strength = active * (0.5 + torch.rand(active.shape, generator=generator))
    noise = 0.02 * torch.randn(len(active), 64, generator=generator)
    rows = strength @ directions + 0.5 + noise
    save_file({"train": rows[:TRAIN].clone(), "held_out": rows[TRAIN:].clone(),
               "directions": directions, "active": active[TRAIN:].clone()},
              directory / "rows.safetensors")  # fmt: skip


def states(directory: Path) -> None:
    """Ordinary states of a real model, training and held-out ones of other documents."""
    import torch
    from safetensors.torch import save_file

    import energylens as el
    from energylens.activations.stream import collect_rows
    from energylens.features.ordinary import Ordinary
    from energylens.sources.text import load_text
    from energylens.sources.windows import tokenise

    subject = el.load("smollm2")
    windows = tokenise(
        load_text("default"), subject.loaded.tokenizer, 128, documents=420,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    held_out, train = windows.split(HELD_OUT / (TRAIN + HELD_OUT), torch.Generator().manual_seed(1))
    found = {
        name: collect_rows(subject, some.ids, some.document, ["blocks.15.resid_post"],
                           budget_mb=2_000)["blocks.15.resid_post"]
        for name, some in (("train", train), ("held_out", held_out))
    }  # fmt: skip
    usual = Ordinary.of(found["train"])
    kept = {name: rows[usual.holds(rows)].clone() for name, rows in found.items()}
    cut = {"train": kept["train"][:TRAIN].clone(), "held_out": kept["held_out"][:HELD_OUT].clone()}
    save_file(cut, directory / "rows.safetensors")


def batches(rows: Any, epochs: int) -> Iterator[Any]:
    import torch

    generator = torch.Generator().manual_seed(1)
    for _ in range(epochs):
        order = torch.randperm(len(rows), generator=generator)
        for some in order.split(BATCH):
            if len(some) == BATCH:
                yield rows[some]


# ---- the contenders: each trains and returns what it makes of rows


def energylens(rows: Any, m: int, k: int, rate: float, epochs: int) -> Trained:
    import torch

    from energylens.features.train import train
    from energylens.features.training import TrainOptions

    options = TrainOptions(
        width=m, k=k, epochs=epochs, batch=BATCH, dead_after_tokens=DEAD_AFTER,
        lr=rate * TrainOptions(width=m).learning_rate(),
    )  # fmt: skip
    dictionary, _ = train(rows, options, torch.Generator().manual_seed(0))
    return lambda x: (dictionary.reconstruct(x), dictionary.encode(x).dense(), dictionary.W_dec)


def saelens(rows: Any, m: int, k: int, rate: float, epochs: int) -> Trained:
    from itertools import chain, islice

    import sae_lens
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    steps = len(rows) // BATCH * epochs
    first = min(10, len(rows) // BATCH)
    config = sae_lens.TopKTrainingSAEConfig(
        d_in=rows.shape[1], d_sae=m, k=k, normalize_activations="expected_average_only_in"
    )
    settings = SAETrainerConfig(
        total_training_samples=steps * BATCH, train_batch_size_samples=BATCH, lr=3e-4 * rate,
        lr_warm_up_steps=steps // 20, lr_decay_steps=steps // 5, lr_end=3e-6 * rate,
        dead_feature_window=DEAD_AFTER // BATCH, n_batches_for_norm_estimate=first,
        logger=LoggingConfig(log_to_wandb=False),
    )  # fmt: skip
    stream = chain(islice(batches(rows, 1), first), batches(rows, epochs))
    trainer = SAETrainer(settings, sae_lens.TopKTrainingSAE(config), stream)
    with contextlib.redirect_stderr(io.StringIO()):
        sae = trainer.fit()
    return lambda x: (sae.decode(code := sae.encode(x)), code, sae.W_dec)


def dictionary_learning(rows: Any, m: int, k: int, rate: float, epochs: int) -> Trained:
    if "nnsight" not in sys.modules:  # its buffers alone need it
        stand_in = types.ModuleType("nnsight")
        stand_in.LanguageModel = object  # type: ignore[attr-defined]
        sys.modules["nnsight"] = stand_in
    from dictionary_learning.trainers import TopKTrainer

    steps = len(rows) // BATCH * epochs
    scale = rows.square().sum(1).mean().sqrt()  # its own normalisation: mean squared norm 1
    trainer = TopKTrainer(
        steps=steps, activation_dim=rows.shape[1], dict_size=m, k=k, layer=0, lm_name="none",
        lr=rate * 2e-4 / (m / 2**14) ** 0.5, warmup_steps=steps // 20, decay_start=steps * 4 // 5,
        device="cpu", seed=0,
    )  # fmt: skip
    trainer.dead_feature_threshold = DEAD_AFTER
    for number, batch in enumerate(batches(rows, epochs)):
        trainer.update(number, batch / scale)

    def made(x: Any) -> Any:
        code = trainer.ae.encode(x / scale, use_threshold=False)
        return trainer.ae.decode(code) * scale, code, trainer.ae.decoder.weight.T

    return made


def sparsify(rows: Any, m: int, k: int, rate: float, epochs: int) -> Trained:
    import torch

    with contextlib.redirect_stdout(io.StringIO()):
        from sparsify import SparseCoder, SparseCoderConfig
    steps = len(rows) // BATCH * epochs
    torch.manual_seed(0)
    coder = SparseCoder(rows.shape[1], SparseCoderConfig(num_latents=m, k=k), "cpu", torch.float32)
    coder.b_dec.data = rows.mean(0)
    optimizer = torch.optim.Adam(coder.parameters(), lr=rate * 2e-4 / (m / 2**14) ** 0.5)
    warm = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (steps - step) / (steps - warm), 1.0)
    )
    silent = torch.zeros(m, dtype=torch.long)
    for batch in batches(rows, epochs):
        coder.set_decoder_norm_to_unit_norm()
        found = coder(batch, dead_mask=silent >= DEAD_AFTER)
        (found.fvu + found.auxk_loss / 32).backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        torch.nn.utils.clip_grad_norm_(coder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        silent += len(batch)
        silent[found.latent_indices.flatten().unique()] = 0

    def made(x: Any) -> Any:
        found = coder(x)
        code = torch.zeros(len(x), m).scatter(1, found.latent_indices, found.latent_acts)
        return found.sae_out, code, coder.W_dec

    return made


CONTENDERS = {"energylens": energylens, "saelens": saelens,
              "dictionary_learning": dictionary_learning, "sparsify": sparsify}  # fmt: skip


# ---- one contender, in this process


def run_one(options: argparse.Namespace) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    data = load_file(Path(options.directory) / "rows.safetensors")
    (k,), (rate,), (epochs,), m = options.ks, options.rates, options.epochs, WIDTHS[options.data]
    CONTENDERS[options.contender](data["train"][: 2 * BATCH], 64, 4, rate, 1)  # imports are free
    started = time.process_time()
    made = CONTENDERS[options.contender](data["train"], m, k, rate, epochs)
    seconds = time.process_time() - started
    with torch.no_grad():
        rebuilt, code, decoder = made(data["held_out"])
    save_file({"rebuilt": rebuilt.contiguous(), "code": code.to(torch.float32).contiguous(),
               "decoder": decoder.detach().contiguous(), "seconds": torch.tensor(seconds)},
              options.out)  # fmt: skip


# ---- all of them


def judged(data: dict[str, Any], found: dict[str, Any]) -> dict[str, float]:
    """Measures of ours, on what any contender made."""
    from energylens.features.code import SparseCode
    from energylens.features.evaluate import fvu
    from energylens.features.recovery import recovery

    code = found["code"]
    told = {
        "fvu": float(fvu(data["held_out"], found["rebuilt"])),
        "l0": float((code != 0).sum(1).double().mean()),
        "dead": float((code == 0).all(0).double().mean()), "cpu_seconds": float(found["seconds"]),
    }  # fmt: skip
    if "directions" in data:
        top = code.topk(int((code != 0).sum(1).max()), dim=1)
        sparse = SparseCode(indices=top.indices, values=top.values, width=code.shape[1])
        pairs = recovery(data["directions"], found["decoder"], data["active"].bool(), sparse)
        told |= {"cosine": float(pairs.cosine.mean()), "f1": float(pairs.f1.nanmean())}
    return {name: round(value, 4) for name, value in told.items()}


def contest(options: argparse.Namespace, directory: Path) -> Iterator[dict[str, Any]]:
    from safetensors.torch import load_file

    {"planted": planted, "states": states}[options.data](directory)
    data = load_file(directory / "rows.safetensors")
    names = [name for name in CONTENDERS if options.only in name]
    for name, k, epochs in product(names, options.ks or KS[options.data], options.epochs):
        for rate in [1.0] if name == "energylens" else options.rates:
            row = {"contender": name, "k": k, "rate": rate, "epochs": epochs}
            why = apart(options, row, directory)
            yield row | ({"missing": why} if why else judged(data, load_file(directory / FOUND)))


def apart(options: argparse.Namespace, row: dict[str, Any], directory: Path) -> str:
    """One contender in a process of its own; why it failed, or nothing."""
    python = sys.executable if row["contender"] == "energylens" else options.peers
    command = [
        python, __file__, options.data, "--contender", row["contender"], "--ks", str(row["k"]),
        "--rates", str(row["rate"]), "--epochs", str(row["epochs"]),
        "--directory", str(directory), "--out", str(directory / FOUND),
    ]  # fmt: skip
    quiet = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, env={**os.environ, **quiet}, capture_output=True, text=True, check=False
    )
    return (done.stderr.strip().splitlines() or ["it failed"])[-1] if done.returncode else ""


def earlier(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What stands in a file of results and was not measured again."""
    again = [[row[part] for part in SETTING] for row in rows]
    stored = json.loads(path.read_text())["contenders"] if path.exists() else []
    return [row for row in stored if [row[part] for part in SETTING] not in again]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", choices=["planted", "states"])
    parser.add_argument("--ks", nargs="+", type=int, default=[])
    parser.add_argument("--rates", nargs="+", type=float, default=[1.0, 4.0, 16.0])
    parser.add_argument("--epochs", nargs="+", type=int, default=[4])
    parser.add_argument("--add", action="store_true", help="to what was measured before")
    parser.add_argument("--peers", default=".venv-peers/bin/python")
    parser.add_argument("--only", default="", help="contenders whose name holds this")
    for hidden in ("--contender", "--directory", "--out"):
        parser.add_argument(hidden, default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        run_one(options)
        return
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for row in contest(options, Path(directory)):
            print(json.dumps(row), flush=True)
            rows.append(row)
    path = RESULTS / f"quality-{options.data}.json"
    rows = (earlier(path, rows) if options.add else []) + rows
    for name, k, epochs in {(r["contender"], r["k"], r["epochs"]) for r in rows if "fvu" in r}:
        same = {"contender": name, "k": k, "epochs": epochs}
        own = [row for row in rows if same.items() <= row.items() and "fvu" in row]
        least = min(row["fvu"] for row in own)
        for row in own:
            row["best"] = row["fvu"] == least
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(
        {"environment": environment(1, "cpu"), "data": options.data, "width": WIDTHS[options.data],
         "train": TRAIN, "held_out": HELD_OUT, "batch": BATCH, "contenders": rows},
        indent=1) + "\n")  # fmt: skip


if __name__ == "__main__":
    main()
