"""Training of crosscoders, on rows in memory or on a stream."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.checkpoint import Checkpoint
from energylens.core.errors import BadInput
from energylens.core.ports import Progress, silence
from energylens.features.course import Course, Seen, TrainRecord, look_at
from energylens.features.crosscoder import SITES, Crosscoder, Site, side_by_side
from energylens.features.mesh import ALONE, Mesh
from energylens.features.stream import Job
from energylens.features.train import check, follow, steps_of
from energylens.features.training import TrainOptions


@dataclass(frozen=True, kw_only=True)
class CrosscoderJob(Job):
    """A crosscoder of the sites that it reads, in their order."""

    def check(self) -> None:
        if not self.reads or self.writes or self.options.skip:
            raise BadInput(
                "a crosscoder makes the sites that it reads, one or more, without a skip: found"
                f" {len(self.reads)} to read and {len(self.writes)} others to write"
            )

    def look(self, rows: Mapping[str, Float[Tensor, "sample _"]]) -> Seen:
        together = side_by_side({site: rows[site] for site in self.reads})
        widths = [rows[site].shape[1] for site in self.reads]
        return look_at(together, None, massive=self.options.massive, sites=widths)

    def begin(
        self, seen: Seen, steps: int, generator: torch.Generator, mesh: Mesh = ALONE
    ) -> Course:
        widths = [len(ball.center) for ball in seen.reads.ordinary.balls]
        return Course.begin(seen, self.options, steps, generator, mesh, sites=widths)

    def resumed(
        self,
        tensors: Mapping[str, Tensor],
        record: Mapping[str, Any],
        steps: int,
        like: Mapping[str, Tensor],
        mesh: Mesh = ALONE,
    ) -> Course:
        widths = [like[site].shape[1] for site in self.reads]
        return Course.resumed(
            tensors, record, self.options, steps, like[self.reads[0]], mesh, sites=widths
        )

    def finish(self, course: Course, metadata: Mapping[str, Any] | None = None) -> Crosscoder:
        widths, scale = course.training.sites, course.reads.frame.scale
        each = (sum(widths) / len(widths)) ** 0.5  # what the spread of a site was scaled to
        sites = tuple(
            Site(name=name, width=width, spread=each / float(part[0]))
            for name, width, part in zip(self.reads, widths, scale.split(widths), strict=True)
        )
        said = {**(metadata or {}), SITES: [asdict(site) for site in sites]}
        return Crosscoder(dictionary=replace(course.finish(), metadata=said), sites=sites)


def train_crosscoder(
    sites: Mapping[str, Float[Tensor, "sample _"]],
    options: TrainOptions,
    generator: torch.Generator,
    *,
    metadata: Mapping[str, Any] | None = None,
    progress: Progress = silence,
    label: str = "crosscoder",
    checkpoint: Checkpoint | None = None,
    mesh: Mesh = ALONE,
) -> tuple[Crosscoder, TrainRecord]:
    """Train one code that makes the rows of several sites.

    Each site is centred and scaled by itself while training, so that all count alike whatever their
    units and widths; that is folded into the weights at the end. Selection (TopK and its kin) is by
    the pre-activation, with decoder rows of norm 1 over all sites together; `standard` instead
    weighs an activation by the sum of its decoder norms over sites, the penalty of the paper, which
    prefers features of one site alone. A gate, a threshold or a constrained penalty counts a
    feature once, wherever it writes. All ten architectures train so.

    Args:
        sites: Rows by the name of their site; row i of each is of the same token. Widths may
            differ.
        options: How to train; `skip` is for transcoders.
        generator: Of the first features and of the order of rows; may live on the CPU.
        metadata: Of the dictionary, JSON values only.
        progress: Told the rows done.
        label: What the progress calls it.
        checkpoint: Where training is saved as it goes on, and from where it goes on.
        mesh: The processes that train it together; see `train`.

    Returns:
        The crosscoder, and what happened at each step.

    Raises:
        InsufficientData: If there are fewer rows than active features, or all of a site are equal.
        BadInput: If sites have other numbers or types of rows, one is not finite, or the checkpoint
            is of another training.
        EnergylensError: If the loss stops being finite; names the step.
    """
    job = CrosscoderJob(reads=tuple(sites), options=options)
    job.check()
    check(side_by_side(sites), None, options)
    seen = job.look(sites)
    course = job.begin(seen, steps_of(seen, options), generator, mesh)
    left_out = len(next(iter(sites.values()))) - len(seen.rows)
    record = follow(
        course, seen, generator, left_out=left_out, progress=progress, label=label,
        checkpoint=checkpoint,
    )  # fmt: skip
    return job.finish(course, metadata), record
