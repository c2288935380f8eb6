"""How far a training by 2 and 4 processes ends from the same training by one.

    python benchmarks/parallel.py [--worlds 2 4] [--dtypes float32 float64] [--steps 24]

Every architecture is trained on planted rows in every way to share it: rows dealt, features dealt,
and (on four processes) both; some as transcoders across three layers too. Printed and kept are the
largest difference of a weight, relative to the largest weight, and of a loss, relative to the loss.
Beside each stands what rounding alone does: the same of one process whose rows are moved in their
last digit. Processes are on this machine, by gloo.
"""

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "parallel.json"
ROWS, WIDTH, D, K, BATCH = 2048, 256, 32, 8, 256
ACROSS = "across layers, "
LAYERED = tuple(f"{ACROSS}{name}" for name in ("topk", "batchtopk", "jumprelu"))


def trained(architecture: str, dtype: str, steps: int, mesh: Any = None, moved: float = 0) -> Any:
    import torch

    from energylens.features.mesh import ALONE
    from energylens.features.train import train
    from energylens.features.training import TrainOptions

    if architecture.startswith(ACROSS):
        return across_layers(architecture.removeprefix(ACROSS), dtype, steps, mesh or ALONE, moved)
    generator = torch.Generator().manual_seed(0)
    truth = torch.nn.functional.normalize(torch.randn(128, D, generator=generator), dim=1)
    active = torch.rand(ROWS, 128, generator=generator).topk(6, dim=1).indices
    rows = torch.zeros(ROWS, 128).scatter(1, active, 1 + torch.rand(ROWS, 6, generator=generator))
    rows = (rows @ truth).to(getattr(torch, dtype))
    rows *= 1 + moved * torch.randn(rows.shape, generator=generator, dtype=rows.dtype)
    options = TrainOptions(
        architecture=architecture, width=WIDTH, k=K, batch=BATCH, epochs=steps * BATCH // ROWS,
        dead_after_tokens=4 * BATCH, aux_k=32,
    )  # fmt: skip
    return train(rows, options, generator.manual_seed(1), mesh=mesh or ALONE)


def across_layers(architecture: str, dtype: str, steps: int, mesh: Any, moved: float) -> Any:
    import torch

    from energylens.features.cross_layer_training import train_cross_layer
    from energylens.features.planted import planted_layers
    from energylens.features.training import TrainOptions

    generator = torch.Generator().manual_seed(0)
    planted = planted_layers(
        3, features=96, d_in=D, d_out=D, rows=ROWS, active=4, generator=generator
    )
    inputs, targets = (
        {layer: rows.to(getattr(torch, dtype)) for layer, rows in some.items()}
        for some in (planted.inputs, planted.targets)
    )
    for rows in inputs.values():
        rows *= 1 + moved * torch.randn(rows.shape, generator=generator, dtype=rows.dtype)
    options = TrainOptions(
        architecture=architecture, width=WIDTH, k=K, batch=BATCH, epochs=steps * BATCH // ROWS,
        dead_after_tokens=4 * BATCH, aux_k=32,
    )  # fmt: skip
    return train_cross_layer(inputs, targets, options, generator.manual_seed(1), mesh=mesh)


def cases(worlds: list[int], dtypes: list[str]) -> list[tuple[int, int, str, str]]:
    from energylens.features.architecture import ARCHITECTURES

    return [
        (world, shards, dtype, architecture)
        for world in worlds for shards in (1, 2, 4) if world % shards == 0
        for dtype in dtypes for architecture in (*sorted(ARCHITECTURES), *LAYERED)
    ]  # fmt: skip


def as_process(arguments: argparse.Namespace) -> None:
    """What each of the processes does: the first leaves weights and losses."""
    import torch
    from safetensors.torch import save_file

    from energylens.features.mesh import Mesh
    from energylens.run.edges.collective.torch_distributed import processes

    torch.set_num_threads(1)
    with processes(patience=300) as collective:
        for world, shards, dtype, name in cases([collective.world], arguments.dtypes):
            mesh = Mesh.of(collective, shards=shards)
            dictionary, record = trained(name, dtype, arguments.steps, mesh)
            if collective.rank == 0:
                found = weights_and_loss(dictionary, record)
                save_file(found, arguments.out / f"{name}-{world}-{shards}-{dtype}.safetensors")


def weights_and_loss(dictionary: Any, record: Any) -> dict[str, Any]:
    import torch

    return {**dictionary.weights, "loss": torch.tensor(record.loss, dtype=torch.float64)}


def difference(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
    """Of weights over the largest of each kind, and of the loss over itself."""
    weights = max(
        float((one[key] - w).abs().max() / w.abs().max().clamp_min(1e-30))
        for key, w in other.items()
        if key != "loss"
    )
    return weights, float(((one["loss"] - other["loss"]).abs() / other["loss"]).max())


def start(world: int, arguments: argparse.Namespace, out: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
              "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}  # fmt: skip
    words = [sys.executable, __file__, "--out", str(out), "--steps", str(arguments.steps),
             "--dtypes", *arguments.dtypes]  # fmt: skip
    started = [subprocess.Popen(words, env={**common, "RANK": str(r)}) for r in range(world)]
    if any([process.wait() for process in started]):
        raise SystemExit(f"a process of {world} ended early: see above")


def way(world: int, shards: int) -> str:
    if shards == 1:
        return "rows"
    return "features" if shards == world else "rows and features"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.out is not None:
        as_process(arguments)
        return
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for world in arguments.worlds:
            start(world, arguments, Path(folder))
        alone: dict[tuple[str, str], Any] = {}
        null: dict[tuple[str, str], tuple[float, float]] = {}
        for world, shards, dtype, name in cases(arguments.worlds, arguments.dtypes):
            if (name, dtype) not in alone:
                alone[name, dtype] = weights_and_loss(*trained(name, dtype, arguments.steps))
                digit = torch.finfo(getattr(torch, dtype)).eps
                again = trained(name, dtype, arguments.steps, moved=digit)
                null[name, dtype] = difference(weights_and_loss(*again), alone[name, dtype])
            found = load_file(Path(folder) / f"{name}-{world}-{shards}-{dtype}.safetensors")
            weights, loss = difference(found, alone[name, dtype])
            rows.append({
                "architecture": name, "dtype": dtype, "processes": world,
                "dealt": way(world, shards), "weights": weights, "loss": loss,
                "weights_by_rounding": null[name, dtype][0],
                "loss_by_rounding": null[name, dtype][1],
            })  # fmt: skip
            print(json.dumps(rows[-1]), flush=True)
    said = {
        "what": f"{arguments.steps} steps of {BATCH} rows, d {D}, width {WIDTH}, k {K}; largest"
        " difference from one process: of a weight over the largest weight, of a loss over its own",
        "torch": torch.__version__, "machine": platform.machine(), "rows": rows,
    }  # fmt: skip
    RESULT.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
