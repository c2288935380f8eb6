"""The two trainings of a network: one that is watched, and one that keeps what was planned."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from energylens.core.checkpoint import FolderCheckpoint
from energylens.core.errors import EnergylensError
from energylens.core.ports import Progress
from energylens.dynamics.history import History
from energylens.dynamics.mechanisms import Places
from energylens.dynamics.planner import CheckpointKeeper, CheckpointPlan
from energylens.dynamics.tracker import Tracker
from energylens.dynamics.training import TrainingPlan, train_classifier
from energylens.sources.examples import Examples, Split
from energylens.sources.small_transformer import SmallTransformer
from energylens.sources.suite_networks import Architecture, network, tracked_sites
from energylens.studies.mechanisms_at_jumps import MechanismsAtJumps

COMPARED = 128
# May change the network after an update: what it does is planted.
Disturb = Callable[[nn.Module, int], object]


@dataclass(frozen=True, kw_only=True)
class Material:
    """What all trainings of a run share.

    Attributes:
        probe: Held-out examples, drawn at random, that networks are looked at on.
    """

    parts: Split
    probe: Examples
    options: MechanismsAtJumps

    @property
    def compared(self) -> Examples:
        """The part of the probe that checkpoints are compared on."""
        return self.probe.take(torch.arange(min(COMPARED, len(self.probe))))


def fresh(wanted: Architecture, material: Material) -> tuple[nn.Module, torch.Generator]:
    """The untrained network, and what it draws from while it trains."""
    generator = torch.Generator().manual_seed(material.options.seed + 1)
    train = material.parts.train
    module = network(wanted, train.shape, len(train.classes), generator, words=train.words)
    return module, generator


def places_of(module: nn.Module) -> Places:
    """Where the networks of the suite are looked at: the head is left out, since its units are
    classes."""
    sites = tuple(site for site in tracked_sites(module) if site != "head")
    if isinstance(module, SmallTransformer):
        blocks = range(len(module.blocks))
        return Places(
            representations=sites, rectified=tuple(f"blocks.{i}.linear2:in" for i in blocks),
            attention=tuple(f"blocks.{i}.attention.pattern:in" for i in blocks),
        )  # fmt: skip
    rectifiers = tuple(n for n, part in module.named_modules() if isinstance(part, nn.ReLU))
    return Places(representations=sites, rectified=rectifiers, units=dict.fromkeys(rectifiers, 1))


def train_watched(
    wanted: Architecture, material: Material, folder: Path, progress: Progress
) -> tuple[nn.Module, History]:
    """Train, and look every few steps."""
    module, generator = fresh(wanted, material)
    tracker = Tracker(
        module, material.probe.inputs, places_of(module).representations,
        every=material.options.interval, folder=folder / "looks",
    )  # fmt: skip
    losses: list[Tensor] = []

    def after_step(step: int, loss: Tensor) -> None:
        losses.append(loss)
        tracker.after_step(step, loss=torch.stack(losses).mean())
        if tracker.is_due(step):
            losses.clear()

    with tracker:
        _train(module, generator, material, after_step, folder / "first", progress,
               f"{wanted.name}, watched")  # fmt: skip
        return module, tracker.history()


def train_kept(
    wanted: Architecture,
    material: Material,
    plan: CheckpointPlan,
    folder: Path,
    progress: Progress,
    *,
    expected: str = "",
    disturb: Disturb = lambda module, step: None,
) -> nn.Module:
    """Train again from the same seeds, and keep the network at the steps of a plan.

    Args:
        expected: Hash of the weights that must come out; empty where something is planted.
        disturb: Called after each update, before the network is kept.

    Raises:
        EnergylensError: If other weights come out, for then other networks were kept.
    """
    module, generator = fresh(wanted, material)
    keeper = CheckpointKeeper(module, plan, folder / "kept")
    keeper.after_step(0)

    def after_step(step: int, loss: Tensor) -> None:
        disturb(module, step)
        keeper.after_step(step)

    _train(module, generator, material, after_step, folder / "second", progress,
           f"{wanted.name}, kept")  # fmt: skip
    if expected and weights_sha256(module) != expected:
        raise EnergylensError(
            f"the second training of {wanted.name} ended in other weights than the first, so what"
            " was kept is of another training: run it anew, in one sitting on one machine"
        )
    return module


def _train(
    module: nn.Module,
    generator: torch.Generator,
    material: Material,
    after_step: Callable[[int, Tensor], object],
    folder: Path,
    progress: Progress,
    label: str,
) -> None:
    options, train = material.options, material.parts.train
    train_classifier(
        module, train.inputs, train.labels,
        TrainingPlan(steps=options.steps, batch=options.batch, lr=options.lr,
                     pause=options.interval),
        torch.Generator().manual_seed(options.seed + 2), after_step,
        checkpoint=FolderCheckpoint(folder, seconds=options.checkpoint_seconds),
        generators={"weights": generator}, progress=progress, label=label,
    )  # fmt: skip


def weights_sha256(module: nn.Module) -> str:
    """Of all weights and buffers, in hex: equal only if every bit is."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
