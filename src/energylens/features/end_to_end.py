"""Dictionaries trained end to end: for what the model makes of the reconstruction.

Braun et al. 2024 (arXiv 2405.12241) put the reconstruction in place of the state and minimise the
divergence of the model's output. The gradient of any such loss L by a weight is Σ (∂L/∂x̂)·(∂x̂/∂w);
so is that of Σ‖t − x̂‖² / 2 with t = x̂ − ∂L/∂x̂ held fixed, and a step towards that target is the
step that every architecture has.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from energylens.activations.batch import Batch
from energylens.activations.subject import Subject
from energylens.activations.suffix import starting_from
from energylens.core.checkpoint import Checkpoint
from energylens.core.errors import BadInput
from energylens.core.ports import Progress, silence
from energylens.core.sites import canonical
from energylens.features.architecture import ARCHITECTURES, Architecture
from energylens.features.course import Course, look_at, refuse_non_finite
from energylens.features.step import reconstruct_batch
from energylens.features.stream import Watch, note_of
from energylens.features.training import Trace, TrainOptions

FIRST_ROWS = 8_192

Objective: TypeAlias = Callable[[Tensor, Tensor, Batch], Tensor]
"""Loss at every place [batch pos], from the logits as changed, the logits as they were, the batch;
0 where it is not defined."""


def divergence(
    changed: Float[Tensor, "batch pos vocab"], clean: Float[Tensor, "batch pos vocab"], batch: Batch
) -> Float[Tensor, "batch pos"]:
    """KL(clean ‖ changed) of the next token, in nats at every place; 0 where none follows."""
    before, after = clean.float().log_softmax(-1), changed.float().log_softmax(-1)
    return (before.exp() * (before - after)).sum(-1) * batch.has_next


@dataclass(frozen=True, kw_only=True, eq=False)
class Seat:
    """Where a reconstruction is put, and what is to become of it.

    Attributes:
        site: Where the dictionary reads and writes.
        objective: What is to be small.
        without: Tokens whose places keep their own state, such as special ones.
    """

    subject: Subject
    site: str
    objective: Objective = divergence
    without: Bool[Tensor, " vocab"] | None = None

    def places(self, batch: Batch) -> Bool[Tensor, "batch pos"]:
        """Places that carry the reconstruction, massive ones among them."""
        return batch.scored if self.without is None else batch.scored & ~self.without[batch.ids]


def train_end_to_end(
    seat: Seat,
    passes: Callable[[], Iterator[Batch]],
    options: TrainOptions,
    steps: int,
    generator: torch.Generator,
    *,
    progress: Progress = silence,
    label: str = "dictionary",
    checkpoint: Checkpoint | None = None,
    watch: Watch = lambda label, step, trace: None,
) -> Course:
    """Train a dictionary of a site for the model's output with its reconstruction put in.

    Scored places carry the reconstruction; the first place of a window, massive activations and
    tokens of `seat.without` keep their own state. Each pass is a step. The trace's loss is the
    objective, in nats a place; its fvu that of the batch, which nothing asks for.

    Args:
        passes: Begins the stream of batches anew, always the same; begun again when it ends.
        options: `batch` and `epochs` are the stream's to say.
        steps: How many passes to learn from.
        generator: Of the first features.

    Raises:
        BadInput: If the architecture's loss is more than an error and a penalty (gated,
            matryoshka), a state is not finite, or the checkpoint is of another training.
        SiteNotAvailable: If the model has no such site.
    """
    refuse_own_loss(options.architecture, ARCHITECTURES[options.architecture])
    saved = checkpoint.load() if checkpoint is not None else None
    if saved is None:
        course, pull = _begun(seat, passes, options, steps, generator), 0.0
    else:
        tensors, record = saved
        like = next(seat.subject.module.parameters())[:0]
        course = Course.resumed(tensors, record, options, steps, like)
        pull = record["pull"]
    done = course.training.done
    size = len(next(passes()).ids)
    with progress.task(label, steps * size, "windows") as advance:
        advance(done * size)
        for batch in islice(_endless(passes), done, steps):
            trace, pull = _learn(course, seat, batch, pull)
            watch(label, course.training.done, trace)
            advance(len(batch.ids), note_of([trace]))
            if checkpoint is not None and checkpoint.due(course.training.done):
                tensors, record = course.state()
                checkpoint.save(tensors, record | {"pull": pull})
    return course


def refuse_own_loss(name: str, kind: Architecture) -> None:
    """Refuse an architecture whose loss is more than an error and a penalty.

    Raises:
        BadInput: If it is such a one.
    """
    if type(kind).terms is not Architecture.terms:
        raise BadInput(
            f"{name} has a loss of its own and cannot be trained end to end: choose topk,"
            " batchtopk, groupmax, jumprelu or standard"
        )


def _endless(passes: Callable[[], Iterator[Batch]]) -> Iterator[Batch]:
    while True:
        yield from passes()


def _begun(
    seat: Seat,
    passes: Callable[[], Iterator[Batch]],
    options: TrainOptions,
    steps: int,
    generator: torch.Generator,
) -> Course:
    first, count = [], 0
    for batch in passes():
        with torch.no_grad(), seat.subject.capture(seat.site, stop=True) as seen:
            seat.subject.run(batch)
        first.append(seen[canonical(seat.site)][seat.places(batch)])
        count += len(first[-1])
        if count >= FIRST_ROWS:
            break
    rows = torch.cat(first)
    refuse_non_finite(rows, None, f"the first rows of {seat.site}: ")
    return Course.begin(look_at(rows, None, massive=options.massive), options, steps, generator)


def _learn(course: Course, seat: Seat, batch: Batch, pull: float) -> tuple[Trace, float]:
    """A step; and how far the target lies along the gradient, which the first step decides."""
    training, frame = course.training, course.reads.frame
    with torch.no_grad(), seat.subject.capture(seat.site) as seen:
        clean = seat.subject.forward(batch)
    states, asked = seen[canonical(seat.site)], seat.places(batch)
    where = f"batch {training.done + 1} of {seat.site}: "
    refuse_non_finite(states[asked], None, where)
    places = asked & course.reads.ordinary.holds(states.flatten(0, 1)).view(batch.ids.shape)
    rows = frame.enter(states[places])
    made = reconstruct_batch(training.dictionary, rows)
    put = states.clone()
    put[places] = made / frame.scale + frame.center
    loss, slope = slope_of(seat, batch, put, clean)
    slope = slope[places] / frame.scale
    left_over = rows - made
    if not pull:  # about as far as the rows themselves are, so that no weight of the options shifts
        pull = float(left_over.norm() / slope.norm().clamp_min(torch.finfo(slope.dtype).tiny))
    trace = training.advance(rows, made - pull * slope, left_over=left_over)
    fvu = float(left_over.square().sum()) / (len(rows) * training.dictionary.d_out)
    trace = trace._replace(loss=loss, fvu=fvu)
    course.traces.append(trace)
    course.tokens += len(rows)
    course.massive_rows += int((asked & ~places).sum())
    return trace, pull


def slope_of(
    seat: Seat,
    batch: Batch,
    put: Float[Tensor, "batch pos d"],
    clean: Float[Tensor, "batch pos vocab"],
) -> tuple[float, Float[Tensor, "batch pos d"]]:
    """Mean objective with these states put in, over places that have a next token; and its gradient
    by them."""
    with torch.enable_grad():
        leaf = put.detach().requires_grad_()
        with _with_states(seat.subject, seat.site, leaf):
            changed = seat.subject.forward(batch)
        loss = seat.objective(changed, clean, batch).sum() / batch.has_next.sum()
        (slope,) = torch.autograd.grad(loss, leaf)
    return float(loss.detach()), slope


def _with_states(subject: Subject, site: str, put: Tensor) -> AbstractContextManager[Any]:
    """The model with these states at a site; what lies below is left out where that can be."""
    if "suffix" not in subject.lacks and canonical(site).endswith(("resid_post", "resid_pre")):
        return starting_from(subject, site, put)
    return subject.edit({site: partial(_instead, put)})


def _instead(put: Tensor, value: Tensor) -> Tensor:
    return put
