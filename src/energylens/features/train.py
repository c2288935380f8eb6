"""Train dictionaries on rows in memory, at little more than the price of the encoder product."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.checkpoint import Checkpoint
from energylens.core.errors import BadInput, InsufficientData
from energylens.core.ports import Progress, silence
from energylens.features.checkpoint import SharedCheckpoint
from energylens.features.course import Course, Seen, TrainRecord, look_at, refuse_non_finite
from energylens.features.dictionary import Dictionary
from energylens.features.mesh import ALONE, Mesh
from energylens.features.order import Order
from energylens.features.training import TrainOptions


def train(
    rows: Float[Tensor, "sample d_in"],
    options: TrainOptions,
    generator: torch.Generator,
    *,
    target: Float[Tensor, "target d_out"] | None = None,
    progress: Progress = silence,
    label: str = "dictionary",
    checkpoint: Checkpoint | None = None,
    mesh: Mesh = ALONE,
) -> tuple[Dictionary, TrainRecord]:
    """Train a dictionary that makes rows, or their targets, of about k features each.

    Rows are centred and scaled to E‖x‖² = d while training, which is folded into the biases at
    the end: the dictionary reads and writes rows as they came, and its decoder rows have norm 1
    where the architecture keeps them there.

    Args:
        rows: Activations of one site, with the tokens that nobody wants left out.
        options: How to train.
        generator: Of the first features and of the order of rows; may live on the CPU.
        target: What is to be made of each row, such as what an MLP writes where the rows are what
            it reads: the dictionary is then a transcoder (Dunefsky et al. 2024, arXiv 2406.11944),
            with `options.skip` one that has a linear part beside (Paulo et al. 2025, 2501.18823).
        progress: Told the rows done.
        label: What the progress calls this dictionary.
        checkpoint: Where training is saved as it goes on, and from where it goes on if it was
            stopped: to the bit as if it had not been. What was begun by some processes may go on
            with more or fewer.
        mesh: The processes that train the dictionary together. Each gives the same arguments and
            gets the whole dictionary.

    Returns:
        The dictionary, and what happened at each step.

    Raises:
        InsufficientData: If there are fewer rows than active features, or all are equal.
        BadInput: If a row or target is not finite, targets are of other rows, or the checkpoint is
            of another training.
        EnergylensError: If the loss stops being finite; names the step.
    """
    check(rows, target, options)
    seen = look_at(rows, target, massive=options.massive)
    course = Course.begin(seen, options, steps_of(seen, options), generator, mesh)
    record = follow(
        course, seen, generator, left_out=len(rows) - len(seen.rows), progress=progress,
        label=label, checkpoint=checkpoint,
    )  # fmt: skip
    return course.finish(), record


def steps_of(seen: Seen, options: TrainOptions) -> int:
    """How many updates so many epochs are."""
    rows = len(seen.rows)
    return max(1, round(options.epochs * rows / min(options.batch, rows)))


def follow(
    course: Course,
    seen: Seen,
    generator: torch.Generator,
    *,
    left_out: int = 0,
    progress: Progress = silence,
    label: str = "dictionary",
    checkpoint: Checkpoint | None = None,
) -> TrainRecord:
    """Make all the steps of a course on rows in memory, from where its checkpoint left off.

    Args:
        left_out: Massive rows that `seen` is without.

    Raises:
        BadInput: If the checkpoint is of another training.
        EnergylensError: If the loss stops being finite; names the step.
    """
    kept, goal, training = seen.rows, seen.target, course.training
    size = min(training.options.batch, len(kept))
    order = Order(len(kept), size, generator)
    checkpoint = SharedCheckpoint.of(checkpoint, training.mesh)
    _resume(course, order, checkpoint)
    done = training.done
    with progress.task(label, training.steps * size, "rows") as advance:
        advance(done * size)
        for made in range(done + 1, training.steps + 1):
            numbers = next(order).to(kept.device)
            batch = kept.index_select(0, numbers)
            course.learn(batch, None if goal is None else goal.index_select(0, numbers))
            advance(size)
            if checkpoint is not None and checkpoint.due(made):
                tensors, record = course.state()
                tensors |= {f"order.{name}": value for name, value in order.state().items()}
                checkpoint.save(tensors, record)
    return course.record(rows=len(kept), massive_rows=left_out)


def train_many(
    sites: Mapping[str, Float[Tensor, "sample d_in"]],
    options: TrainOptions,
    generator: torch.Generator,
    *,
    progress: Progress = silence,
) -> dict[str, tuple[Dictionary, TrainRecord]]:
    """Train one dictionary a site, in the order given; a site's name is its label."""
    return {
        site: train(rows, options, generator, progress=progress, label=site)
        for site, rows in sites.items()
    }


def _resume(course: Course, order: Order, checkpoint: Checkpoint | None) -> None:
    """Go on from what was done before, if anything was."""
    saved = checkpoint.load() if checkpoint is not None else None
    if saved is None:
        return
    tensors, record = saved
    course.restore(tensors, record)
    order.restore({
        name.removeprefix("order."): value
        for name, value in tensors.items() if name.startswith("order.")
    })  # fmt: skip


def check(rows: Tensor, target: Tensor | None, options: TrainOptions) -> None:
    """Say what is wrong with rows, targets or options, if anything is.

    Raises:
        InsufficientData: If there are fewer rows than active features.
        BadInput: If a row or target is not finite, targets are of other rows, or a skip was asked
            for without any.
    """
    if options.skip and target is None:
        raise BadInput(
            "a skip was asked for without a target: a row would be its own reconstruction"
        )
    if target is not None and len(target) != len(rows):
        raise BadInput(f"{len(rows)} rows and {len(target)} targets were given: each row needs one")
    if len(rows) < max(2, options.k):
        raise InsufficientData(
            f"{options.k} active features a row were asked for, found {len(rows)} rows in all: "
            "give more text or a smaller k"
        )
    refuse_non_finite(rows, target)
