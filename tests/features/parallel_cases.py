"""Small trainings that some processes make together; the tests make them again with one.

`python -m tests.features.parallel_cases OUT` by every process writes what each of them has.
"""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import save_file

from energylens.core.checkpoint import Checkpoint, FolderCheckpoint
from energylens.core.errors import EnergylensError
from energylens.core.ports import Collective
from energylens.features import step
from energylens.features.architecture import ARCHITECTURES
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.cross_layer_training import train_cross_layer
from energylens.features.dictionary import Dictionary
from energylens.features.mesh import ALONE, Mesh
from energylens.features.planted import planted_layers
from energylens.features.train import TrainRecord, train
from energylens.features.training import TrainOptions
from energylens.run.edges.collective.torch_distributed import processes
from tests.features.planted import planted_rows

NAMES = tuple(sorted(ARCHITECTURES))
KINDS = {
    "topk": ("skip", "few", "single", "layers"),
    "batchtopk": ("layers",),
    "groupmax": ("layers",),
    "matryoshka_batchtopk": ("skip", "few"),
    "gated": ("few",),
    "jumprelu": ("entries", "single", "layers"),
    "standard": ("layers",),
}
"""What is trained of an architecture besides the plain case."""
BEGUN = 4
"""Steps after which a training is stopped that others take up."""


class Stopped(EnergylensError):
    """A training that was stopped by its checkpoint."""


class Stopping(FolderCheckpoint):
    """Saves once and stops."""

    def save(self, tensors, record):
        super().save(tensors, record)
        raise Stopped("stopped after a checkpoint")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training: of 50 rows a batch, so that four processes have unequal shares, or of three;
    of a dictionary, or of a cross-layer transcoder of three layers."""

    architecture: str
    world: int = 1
    shards: int = 1
    kind: str = "plain"

    @property
    def name(self) -> str:
        return f"{self.architecture}-{self.world}-{self.shards}-{self.kind}"

    @property
    def options(self) -> TrainOptions:
        options = TrainOptions(
            architecture=self.architecture, width=64, k=4 if self.architecture == "groupmax" else 2,
            batch=50, epochs=2, aux_k=12, dead_after_tokens=120, skip=self.kind == "skip",
            warmup=0.0, lr=0.05,
        )  # fmt: skip
        return replace(options, k=1, batch=3, epochs=1) if self.kind == "few" else options

    def train(
        self, mesh: Mesh = ALONE, *, checkpoint: Checkpoint | None = None
    ) -> tuple[Dictionary | CrossLayerTranscoder, TrainRecord]:
        generator = torch.Generator().manual_seed(5)
        if self.kind == "layers":
            planted = planted_layers(3, features=24, d_in=12, d_out=10, rows=250, active=2,
                                     generator=generator)  # fmt: skip
            inputs, targets = (
                {layer: rows.double() for layer, rows in some.items()}
                for some in (planted.inputs, planted.targets)
            )
            inputs[1][0] *= 4
            return train_cross_layer(
                inputs, targets, self.options, generator, mesh=mesh, checkpoint=checkpoint
            )
        rows = planted_rows(generator, n=12 if self.kind == "few" else 250, d=16)[0]
        rows[0] *= 4  # one row that batchtopk gives more than its share of candidates
        rows = rows if self.kind == "single" else rows.double()
        target = rows.flip(1).sin() if self.kind == "skip" else None
        with patch.object(step, "FULL", 2.0 if self.kind == "entries" else step.FULL):
            return train(
                rows, self.options, generator, target=target, mesh=mesh, checkpoint=checkpoint
            )

    def begin(self, mesh: Mesh, folder: Path) -> None:
        """Leave a checkpoint after some steps."""
        try:
            self.train(mesh, checkpoint=Stopping(folder, every=BEGUN))
        except EnergylensError as error:
            if str(error) != "stopped after a checkpoint":
                raise
        else:
            raise AssertionError("it did not stop")


def cases(world: int) -> list[Case]:
    """All architectures in all ways in which so many processes can share a training."""
    ways = [shards for shards in (1, 2, 4) if world % shards == 0]
    return [
        Case(architecture=name, world=world, shards=shards, kind=kind)
        for name in NAMES for shards in ways for kind in ("plain", *KINDS.get(name, ()))
    ]  # fmt: skip


def kept(world: int) -> list[Case]:
    """Cases that are stopped and taken up by others."""
    chosen = {
        ("topk", "plain"),
        ("batchtopk", "plain"),
        ("gated", "plain"),
        ("batchtopk", "layers"),
    }
    return [case for case in cases(world) if (case.architecture, case.kind) in chosen]


def main(out: Path, collective: Collective) -> None:
    torch.set_num_threads(1)
    for case in cases(collective.world):
        write(out, case.name, collective, *case.train(Mesh.of(collective, shards=case.shards)))
    for case in kept(collective.world):
        mesh, begun = Mesh.of(collective, shards=case.shards), out / f"begun-{case.name}"
        case.begin(mesh, begun)
        for how, folder in (
            ("resumed", begun),
            ("taken-up", out / f"one-{case.architecture}-{case.kind}"),
        ):
            checkpoint = FolderCheckpoint(folder)
            write(out, f"{how}-{case.name}", collective, *case.train(mesh, checkpoint=checkpoint))


def write(
    out: Path,
    name: str,
    collective: Collective,
    dictionary: Dictionary | CrossLayerTranscoder,
    record: TrainRecord,
) -> None:
    save_file(dictionary.weights, out / f"{name}.{collective.rank}.safetensors")
    said = {
        "k": dictionary.k, "architecture": dictionary.architecture, "loss": record.loss,
        "fvu": record.fvu, "l0": record.l0, "dead_share": record.dead_share,
    }  # fmt: skip
    (out / f"{name}.{collective.rank}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    with processes(patience=60) as ours:
        main(Path(sys.argv[1]), ours)
