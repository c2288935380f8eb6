"""Several processes of one program, told of each other as torchrun tells them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(world: int, module: str, *words: str, **environment: str) -> list[subprocess.Popen]:
    """`python -m module words…`, so many times, each with its rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1", **environment,
    }  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, "-m", module, *words], cwd=ROOT, text=True,
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in range(world)
    ]  # fmt: skip


def ended(started: list[subprocess.Popen], *, seconds: float = 200) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each."""
    try:
        said = [process.communicate(timeout=seconds) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(p.returncode, *words) for p, words in zip(started, said, strict=True)]


def together(world: int, module: str, *words: str) -> None:
    """Run them to a good end."""
    for rank, (code, _, errors) in enumerate(ended(start(world, module, *words))):
        assert code == 0, f"process {rank} of {world} ended with {code}: {errors}"
