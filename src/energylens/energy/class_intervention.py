"""Do, then measure, in a classifier: change states at a site and read what it says of the image.

The states of an image are moved at some of its positions, h ← h + change · direction, whatever the
dictionary fails to reconstruct carried along unchanged, and the network is run on from there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.activations.images import ImageBatch, as_positions, in_shape_of
from energylens.activations.subject import Subject
from energylens.core.ports import Progress, silence
from energylens.energy.intervention import Step

Move = Callable[[Float[Tensor, "batch pos d"]], Float[Tensor, "batch pos d"]]


@dataclass(frozen=True, kw_only=True)
class ClassEffects:
    """What each step did; `window` of a step is its image.

    Attributes:
        log_probability: Change of log p(class), nats.
        energy: Change of −log p(label), nats.
        divergence: KL from the unchanged to the changed distribution over classes, nats.
    """

    log_probability: Float[Tensor, "step class"]
    energy: Float[Tensor, " step"]
    divergence: Float[Tensor, " step"]


@torch.no_grad()
def log_probabilities(
    subject: Subject, batch: ImageBatch, site: str, move: Move | None = None
) -> Float[Tensor, "batch class"]:
    """log p(class) of each image, with the states at a site moved, in float64."""

    def edit(value: Tensor) -> Tensor:
        assert move is not None
        return in_shape_of(move(as_positions(value, site)).to(value.dtype), value)

    with subject.edit({site: edit} if move is not None else {}):
        return subject.forward(batch).double().log_softmax(-1)


@torch.no_grad()
def measure_class_effects(
    subject: Subject,
    site: str,
    images: ImageBatch,
    steps: Sequence[Step],
    *,
    rows: int = 256,
    progress: Progress = silence,
    label: str = "interventions",
) -> ClassEffects:
    """Run the network on from every step and compare with the same image unchanged.

    Args:
        images: The images that steps point into.
        steps: Changes of single images.
        rows: Images in one forward pass.
    """
    classes = log_probabilities(subject, images.take(torch.zeros(1, dtype=torch.long)), site)
    change, energy, divergence = [classes[:0]], [classes[:0, 0]], [classes[:0, 0]]
    with progress.task(label, len(steps), "interventions") as advance:
        for first in range(0, len(steps), rows):
            some = steps[first : first + rows]
            which = torch.tensor([step.window for step in some], device=images.labels.device)
            batch = images.take(which)
            before = log_probabilities(subject, batch, site, lambda states: states)
            after = log_probabilities(subject, batch, site, _moved(some))
            moved = after - before
            change.append(moved)
            energy.append(-moved.gather(1, batch.labels[:, None])[:, 0])
            divergence.append(-(before.exp() * moved).sum(1))
            advance(len(some))
    return ClassEffects(
        log_probability=torch.cat(change), energy=torch.cat(energy),
        divergence=torch.cat(divergence),
    )  # fmt: skip


def _moved(steps: Sequence[Step]) -> Move:
    def move(states: Tensor) -> Tensor:
        changed = states.clone()
        for row, step in enumerate(steps):
            moved = step.change[:, None] * step.direction
            changed[row].index_add_(0, step.positions, moved.to(changed.dtype))
        return changed

    return move


def without_features(
    encode: Callable[[Tensor, Tensor], Float[Tensor, "sample chosen"]],
    directions: Float[Tensor, "feature d"],
    features: Int[Tensor, " chosen"],
) -> Move:
    """Set features to zero wherever they are active.

    Args:
        encode: From states [sample d] and features to their activations.
    """

    def move(states: Tensor) -> Tensor:
        flat = states.flatten(0, 1)
        return (flat - encode(flat, features) @ directions[features]).view_as(states)

    return move
