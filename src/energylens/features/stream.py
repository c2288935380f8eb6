"""Train many dictionaries on one stream of rows, which need never be in memory together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.checkpoint import Checkpoint
from energylens.core.errors import BadInput
from energylens.core.ports import Progress, silence
from energylens.features.checkpoint import SharedCheckpoint
from energylens.features.course import Course, Seen, look_at, refuse_non_finite
from energylens.features.crosscoder import side_by_side
from energylens.features.formats.recognise import Loaded
from energylens.features.mesh import ALONE, Mesh
from energylens.features.training import Trace, TrainOptions


@dataclass(frozen=True, kw_only=True)
class Job:
    """A dictionary to train: of one place, unless a subclass says otherwise.

    Attributes:
        reads: Sites whose rows it reads.
        options: How; `batch` and `epochs` are the stream's to say.
        seed: Of the first features.
        writes: Sites whose rows it makes of them, of a transcoder; else it makes those it reads.
    """

    reads: tuple[str, ...]
    options: TrainOptions
    seed: int = 0
    writes: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[str, ...]:
        """All sites that it needs."""
        return tuple(dict.fromkeys((*self.reads, *self.writes)))

    def check(self) -> None:
        """Say what cannot be trained so, if anything cannot.

        Raises:
            BadInput: If it is a skip without a target, or there is not one site to read and at most
                one to write.
        """
        if self.options.skip and not self.writes:
            raise BadInput(
                "a skip was asked for without a target: a row would be its own reconstruction"
            )
        if len(self.reads) != 1 or len(self.writes) > 1:
            raise BadInput(
                f"a dictionary of {len(self.reads)} sites to {len(self.writes)} was asked for: it"
                " reads one and writes that or one other; a crosscoder has several"
            )

    def look(self, rows: Mapping[str, Float[Tensor, "sample _"]]) -> Seen:
        """How rows of its sites are seen, by their first."""
        target = rows[self.writes[0]] if self.writes else None
        return look_at(rows[self.reads[0]], target, massive=self.options.massive)

    def begin(
        self, seen: Seen, steps: int, generator: torch.Generator, mesh: Mesh = ALONE
    ) -> Course:
        """What has made no step yet."""
        return Course.begin(seen, self.options, steps, generator, mesh)

    def resumed(
        self,
        tensors: Mapping[str, Tensor],
        record: Mapping[str, Any],
        steps: int,
        like: Mapping[str, Tensor],
        mesh: Mesh = ALONE,
    ) -> Course:
        """What goes on from a checkpoint.

        Args:
            like: Rows by site, of which widths, type and device are taken.
        """
        return Course.resumed(tensors, record, self.options, steps, like[self.reads[0]], mesh)

    def learn(self, course: Course, batch: Mapping[str, Tensor], name: str) -> Trace:
        """A step; `name` is what messages call this dictionary."""
        rows, target = (
            side_by_side({site: batch[site] for site in sites}) if len(sites) > 1
            else batch[sites[0]] if sites else None
            for sites in (self.reads, self.writes)
        )  # fmt: skip
        assert rows is not None
        return course.learn(rows, target, place=name)

    def finish(self, course: Course, metadata: Mapping[str, Any] | None = None) -> Loaded:
        """What was trained, for rows as they come."""
        return replace(course.finish(), metadata=dict(metadata or {}))


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
        By label, the course of each: `record()` is what happened, `finish()` the dictionary, and of
        what has several sites `job.finish(course)`.

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
                watch(name, number, job.learn(courses[name], batch, name))
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
        # What is looked at is copied: of several sites fewer rows, so that it takes the same room.
        count = max(batches.batch, len(ahead[job.reads[0]]) // len(job.reads))
        seen = job.look({site: ahead[site][:count] for site in job.places})
        generator = torch.Generator().manual_seed(job.seed)
        courses[name] = job.begin(seen, steps, generator, mesh)
    return courses


def _check(jobs: Mapping[str, Job], ahead: Mapping[str, Tensor]) -> None:
    if not jobs:
        raise BadInput("no dictionary was asked for: name at least one")
    for name, job in jobs.items():
        for site in job.places:
            if site not in ahead:
                raise BadInput(f"{name} reads {site} and the stream has {', '.join(ahead)}")
        if "/" in name:
            raise BadInput(f"a dictionary was called {name!r}: leave the slash out")
        job.check()


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
        name: job.resumed(split[name], record[name], steps, like, mesh)
        for name, job in jobs.items()
    }
