"""Kill a training at random moments with SIGKILL, resume it, and compare all that it leaves.

    python benchmarks/kills.py [--moments 20] [--seed 0] [--at-once 2]

Each moment is a share of the time that an uninterrupted `energylens run train-dictionary` takes,
drawn at random; the run is resumed with the same command, and killed once more in half of the
cases. Compared byte by byte: dictionaries, summary, the table of steps and the lines that grow
while it runs. Prints one line a moment and stores them.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from features import RESULTS, environment

COMMAND = (
    "-m", "energylens", "run", "train-dictionary", "--model", "tiny", "--sites",
    "blocks.1.resid_post", "--architectures", "topk", "jumprelu", "--widths", "256", "--ks", "16",
    "--tokens", "8000", "--context", "64", "--epochs", "16", "--batch", "256", "--held-out", "20",
    "--threads", "1", "--checkpoint-seconds", "0.5",
)  # fmt: skip
COMPARED = ("dictionaries/**/*", "summary.json", "tables/training_steps.parquet", "live/*.jsonl")


def some_text(path: Path) -> None:
    """The beginnings of speeches, quicker to read than the default text."""
    from energylens.sources.default_text import presidential_messages

    lines = (json.dumps({"text": one.text[:3_000]}) for one in presidential_messages()[:120])
    path.write_text("\n".join(lines))


def begin(out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *COMMAND, "--text", str(out.parent / "speeches.jsonl"), "--out", str(out)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def kill_after(seconds: float, out: Path) -> str:
    """Start, kill, and say how far it had come; "done" if it was faster."""
    running = begin(out)
    try:
        running.wait(seconds)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
        return stage(out)
    return "done"


def stage(out: Path) -> str:
    if (out / "parts" / "trained.json").is_file():
        return "trained, being judged"
    if list((out / "work").glob("checkpoint/*.safetensors")):
        return "training, with a checkpoint"
    if list((out / "live").glob("*.jsonl")):
        return "training, before a checkpoint"
    return "reading" if out.is_dir() else "before the folder"


def content(out: Path) -> dict[str, bytes]:
    files = (path for pattern in COMPARED for path in sorted(out.glob(pattern)) if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def moment(number: int, shares: Sequence[float], seconds: float, whole: dict[str, bytes],
           folder: Path) -> dict[str, object]:  # fmt: skip
    out = folder / f"run-{number}"
    stages = [kill_after(share * seconds, out) for share in shares]
    begin(out).wait()
    found = content(out)
    differ = sorted(name for name in whole.keys() | found.keys()
                    if whole.get(name) != found.get(name))  # fmt: skip
    return {"moment": number, "killed_after_s": [round(share * seconds, 2) for share in shares],
            "stages": stages, "files": len(found), "differ": differ}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=2)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    shares = [
        [draw.uniform(0.1, 0.9) for _ in range(1 + number % 2)] for number in range(options.moments)
    ]
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        some_text(folder / "speeches.jsonl")
        started = time.monotonic()
        begin(folder / "whole").wait()
        seconds = (time.monotonic() - started) * options.at_once**0.5  # they share the cores
        whole = content(folder / "whole")
        with ThreadPoolExecutor(options.at_once) as pool:
            jobs = [pool.submit(moment, number, some, seconds, whole, folder)
                    for number, some in enumerate(shares)]  # fmt: skip
            rows = []
            for job in jobs:
                rows.append(job.result())
                print(json.dumps(rows[-1]), flush=True)
    same = sum(not row["differ"] for row in rows)
    print(f"{same} of {len(rows)} are the same to the byte")
    told = {"environment": environment(1, "cpu"), "seconds": round(seconds, 1), "same": same,
            "moments": rows}  # fmt: skip
    (RESULTS / "kills.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
