"""Train many dictionaries on one stream of rows, which need never be in memory together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.core.ports import Progress, silence
from energylens.features.checkpoint import Checkpoint, SharedCheckpoint
from energylens.features.course import Course, look_at, refuse_non_finite
from energylens.features.mesh import ALONE, Mesh
from energylens.features.training import Trace, TrainOptions


@dataclass(frozen=True, kw_only=True)
class Job:
    """One dictionary to train."""

    site: str
    """Whose rows it reads."""
    options: TrainOptions
    """How; `batch` and `epochs` are the stream's to say."""
    seed: int
    """Of the first features."""
    target: str | None = None
    """Site whose rows it makes of them: a transcoder. Unless given, the rows themselves."""


@runtime_checkable
class Batches(Protocol):
    """A stream of batches that can go on where it was, as `activations.buffer.ShuffleBuffer`."""

    batch: int

    def __iter__(self) -> Iterator[dict[str, Tensor]]: ...

    def __next__(self) -> dict[str, Tensor]: ...

    def ahead(self) -> Mapping[str, Tensor]:
        """Rows that will be served next, as many as are in memory; none of them is used up."""
        ...

    def state(self) -> dict[str, Tensor]: ...

    def restore(self, state: Mapping[str, Tensor]) -> None: ...


Watch = Callable[[str, int, Trace], None]
"""Told after each step: which dictionary, which step, and what it was like."""


def train_stream(
    batches: Batches,
    jobs: Mapping[str, Job],
    steps: int,
    *,
    progress: Progress = silence,
    label: str = "dictionaries",
    checkpoint: Checkpoint | None = None,
    watch: Watch = lambda label, step, trace: None,
    mesh: Mesh = ALONE,
) -> dict[str, Course]:
    """Train dictionaries side by side, all on the same batches: the model runs once for all.

    The rows that are in memory at the beginning give each dictionary its coordinates, its first
    features, and the bound beyond which a row is a massive activation.

    Args:
        batches: Rows by site; row i of every site is the same token.
        jobs: The dictionaries, by labels that are words without a slash.
        steps: Batches to learn from; fewer if the stream ends.
        checkpoint: Where all of it is saved together as it goes on, and from where it goes on if
            it was stopped: to the bit as if it had not been.
        watch: Told of every step.
        mesh: The processes that train them together. Each is given the same arguments, and batches
            that serve all rows; each gets the whole dictionaries.

    Returns:
        By label, the course of each: `finish()` is its dictionary, `record()` what happened.

    Raises:
        BadInput: If a row is not finite (names batch and site; the checkpoint stays as it was
            saved last), no such site streams, or the checkpoint is of other jobs.
        InsufficientData: If the rows of a site are all equal, or none of a batch is ordinary.
        EnergylensError: If a loss stops being finite; names the step.
    """
    checkpoint = SharedCheckpoint.of(checkpoint, mesh)
    saved = checkpoint.load() if checkpoint is not None else None
    courses = (
        _begun(batches, jobs, steps, mesh) if saved is None
        else _resumed(batches, jobs, steps, saved, mesh)
    )  # fmt: skip
    done = next(iter(courses.values())).training.done
    with progress.task(label, steps * batches.batch, "rows") as advance:
        advance(done * batches.batch)
        for number in range(done + 1, steps + 1):
            batch = next(batches, None)
            if batch is None:
                break
            for site, rows in batch.items():
                refuse_non_finite(rows, None, f"batch {number} of {site}: ")
            for name, job in jobs.items():
                target = None if job.target is None else batch[job.target]
                watch(name, number, courses[name].learn(batch[job.site], target, place=name))
            advance(batches.batch, note_of([course.traces[-1] for course in courses.values()]))
            if checkpoint is not None and checkpoint.due(number):
                checkpoint.save(*_state(batches, courses))
    return courses


def note_of(traces: Sequence[Trace]) -> str:
    """How all dictionaries stand after a step, on average."""
    loss, fvu, dead, l0 = (sum(column) / len(traces) for column in zip(*traces, strict=True))
    return f"loss {loss:.3f}, FVU {fvu:.3f}, L0 {l0:.1f}, dead {dead:.1%}"


def _begun(batches: Batches, jobs: Mapping[str, Job], steps: int, mesh: Mesh) -> dict[str, Course]:
    ahead = batches.ahead()
    _check(jobs, ahead)
    for site, rows in ahead.items():
        refuse_non_finite(rows, None, f"the first rows of {site}: ")
    courses = {}
    for name, job in jobs.items():
        target = None if job.target is None else ahead[job.target]
        seen = look_at(ahead[job.site], target, massive=job.options.massive)
        generator = torch.Generator().manual_seed(job.seed)
        courses[name] = Course.begin(seen, job.options, steps, generator, mesh)
    return courses


def _check(jobs: Mapping[str, Job], ahead: Mapping[str, Tensor]) -> None:
    if not jobs:
        raise BadInput("no dictionary was asked for: name at least one")
    for name, job in jobs.items():
        for site in (job.site, job.target):
            if site is not None and site not in ahead:
                raise BadInput(f"{name} reads {site} and the stream has {', '.join(ahead)}")
        if "/" in name:
            raise BadInput(f"a dictionary was called {name!r}: leave the slash out")
        if job.options.skip and job.target is None:
            raise BadInput(
                f"{name}: a skip was asked for without a target: a row would be its own"
                " reconstruction"
            )


def _state(
    batches: Batches, courses: Mapping[str, Course]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {f"batches/{name}": value for name, value in batches.state().items()}
    record: dict[str, Any] = {}
    for label, course in courses.items():
        its, record[label] = course.state()
        tensors |= {f"{label}/{name}": value for name, value in its.items()}
    return tensors, record


def _resumed(
    batches: Batches,
    jobs: Mapping[str, Job],
    steps: int,
    saved: tuple[Mapping[str, Tensor], Mapping[str, Any]],
    mesh: Mesh,
) -> dict[str, Course]:
    tensors, record = saved
    if set(record) != set(jobs):
        raise BadInput(
            f"the checkpoint is of {', '.join(record)} and {', '.join(jobs)} were asked for: resume"
            " with the options it was begun with, or remove it"
        )
    split: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        owner, _, name = key.partition("/")
        split.setdefault(owner, {})[name] = value
    batches.restore(split["batches"])
    like = batches.ahead()
    return {
        name: Course.resumed(split[name], record[name], job.options, steps, like[job.site], mesh)
        for name, job in jobs.items()
    }
