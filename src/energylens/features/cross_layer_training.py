"""Training of cross-layer transcoders: their own step in the loop that all dictionaries share."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.checkpoint import Checkpoint
from energylens.core.errors import BadInput
from energylens.core.ports import Progress, silence
from energylens.features.architecture import ARCHITECTURES, Architecture
from energylens.features.chance import best_factor
from energylens.features.course import Course, Seen, TrainRecord, look_at, near
from energylens.features.cross_layer import CrossLayerTranscoder, add_up
from energylens.features.cross_layer_step import cross_layer_step, read_of
from energylens.features.crosscoder import side_by_side
from energylens.features.mesh import ALONE, Mesh
from energylens.features.order import Order
from energylens.features.revival import revive
from energylens.features.shards import part_of, whole_of
from energylens.features.step import Step
from energylens.features.stream import Job
from energylens.features.train import check, follow, steps_of
from energylens.features.training import Training, TrainOptions


def train_cross_layer(
    inputs: Mapping[int, Float[Tensor, "sample d_in"]],
    targets: Mapping[int, Float[Tensor, "target d_out"]],
    options: TrainOptions,
    generator: torch.Generator,
    *,
    metadata: Mapping[str, Any] | None = None,
    progress: Progress = silence,
    label: str = "cross-layer transcoder",
    checkpoint: Checkpoint | None = None,
    mesh: Mesh = ALONE,
) -> tuple[CrossLayerTranscoder, TrainRecord]:
    """Train features of every layer that make what this and later layers write.

    The loss is the sum over layers of the squared error, each layer's inputs and outputs centred
    and scaled by themselves, which is folded into the weights at the end. `options.width` and
    `options.k` are of one layer: TopK keeps k of each row and layer, BatchTopK as many over all
    rows and layers together, and a penalty is steered to that mean.

    Args:
        inputs: What each layer reads (`resid_mid`, say), by the layer's number.
        targets: What each layer's MLP writes (`mlp_out`); the same rows of the same layers.
        options: How to train; without a skip.
        generator: Of the first features and of the order of rows; may live on the CPU.
        metadata: Of the transcoder, JSON values only.
        progress: Told the rows done.
        label: What the progress calls it.
        checkpoint: Where training is saved as it goes on, and from where it goes on.
        mesh: The processes that train it together; see `train`. Of features, each holds an equal
            share of every layer's.

    Returns:
        The transcoder, and what happened at each step; `l0` is a mean over layers.

    Raises:
        InsufficientData: If there are fewer rows than active features, or all of a layer are equal.
        BadInput: If layers, widths or rows do not fit each other, one is not finite, the
            architecture has a loss of its own (Gated, Matryoshka), or the checkpoint is of another
            training.
        EnergylensError: If the loss stops being finite; names the step.
    """
    _check(inputs, targets)
    layers = tuple(sorted(inputs))
    reads, writes = (
        {f"{what} of layer {n}": rows[n] for n in layers}
        for what, rows in (("input", inputs), ("target", targets))
    )
    job = CrossLayerJob(
        reads=tuple(reads), writes=tuple(writes), layers=layers, options=options
    )  # fmt: skip
    job.check()
    check(side_by_side(reads), side_by_side(writes), options)
    seen = job.look(reads | writes)
    course = job.begin(seen, steps_of(seen, options), generator, mesh)
    left_out = len(inputs[layers[0]]) - len(seen.rows)
    record = follow(
        course, seen, generator, left_out=left_out, progress=progress, label=label,
        checkpoint=checkpoint,
    )  # fmt: skip
    return job.finish(course, metadata), record


@dataclass(frozen=True, kw_only=True)
class CrossLayerJob(Job):
    """A cross-layer transcoder.

    Attributes:
        reads: What each layer reads, in the order of `layers`.
        writes: What is to be made of each.
        layers: Their numbers in the model, ascending.
    """

    layers: tuple[int, ...]

    def check(self) -> None:
        if len({len(self.layers), len(self.reads), len(self.writes)}) > 1 or not self.layers:
            raise BadInput(
                f"{len(self.layers)} layers with {len(self.reads)} inputs and {len(self.writes)}"
                " targets were given: each layer needs both"
            )
        if self.options.skip:
            raise BadInput("a skip was asked for: a cross-layer transcoder has none")
        if self.options.resample:
            raise BadInput(
                "resampling was asked of a cross-layer transcoder: leave its dead to the auxiliary"
                " loss"
            )
        if type(ARCHITECTURES[self.options.architecture]).terms is not Architecture.terms:
            raise BadInput(
                f"{self.options.architecture} has a loss of its own, which is written for one"
                " decoder: train a cross-layer transcoder as topk, batchtopk or jumprelu"
            )

    def look(self, rows: Mapping[str, Float[Tensor, "sample _"]]) -> Seen:
        for what, sites in (("inputs", self.reads), ("targets", self.writes)):
            widths = sorted({rows[site].shape[1] for site in sites})
            if len(widths) > 1:
                raise BadInput(f"{what} of all layers have one width, found {widths}")
        read, write = (
            side_by_side({site: rows[site] for site in sites})
            for sites in (self.reads, self.writes)
        )
        d_in, d_out = (wide.shape[1] // len(self.layers) for wide in (read, write))
        return look_at(
            read, write, massive=self.options.massive, sites=[d_in] * len(self.layers),
            target_sites=[d_out] * len(self.layers),
        )  # fmt: skip

    def begin(
        self, seen: Seen, steps: int, generator: torch.Generator, mesh: Mesh = ALONE
    ) -> Course:
        training = CrossLayerTraining(
            dictionary=_initial(seen, self.layers, self.options, generator), options=self.options,
            steps=steps, mesh=mesh,
        )  # fmt: skip
        return Course(training=training, reads=seen.reads, writes=seen.writes)

    def resumed(
        self,
        tensors: Mapping[str, Tensor],
        record: Mapping[str, Any],
        steps: int,
        like: Mapping[str, Tensor],
        mesh: Mesh = ALONE,
    ) -> Course:
        def again(weights: dict[str, Tensor]) -> CrossLayerTraining:
            return CrossLayerTraining(
                dictionary=CrossLayerTranscoder.of_weights(
                    weights, architecture=self.options.architecture, k=self.options.k,
                    layers=self.layers,
                ),
                options=self.options, steps=steps, mesh=mesh,
            )  # fmt: skip

        return Course.of_state(tensors, record, like[self.reads[0]], again)

    def finish(
        self, course: Course, metadata: Mapping[str, Any] | None = None
    ) -> CrossLayerTranscoder:
        assert isinstance(course.training, CrossLayerTraining) and course.writes is not None
        made = course.training.whole().finish().unfold(course.reads.frame, course.writes.frame)
        return replace(made, metadata=dict(metadata or {}))


@dataclass(eq=False, kw_only=True)
class CrossLayerTraining(Training):
    """A cross-layer transcoder in training; rows and targets have the layers side by side."""

    dictionary: CrossLayerTranscoder  # type: ignore[assignment]

    def whole(self) -> CrossLayerTranscoder:  # type: ignore[override]
        return whole_of(self.dictionary, self.mesh.features, k=self.options.k)

    def _take_own(self) -> None:
        self.dictionary = part_of(self.dictionary, self.mesh)

    def _joined(self, name: str, own: Tensor) -> Tensor:
        if name != "since_fired":
            return super()._joined(name, own)
        by_process = own.unflatten(0, (len(self.dictionary.layers), -1))
        return self.mesh.features.all_gather(by_process).movedim(0, 1).flatten()

    def _share(self, name: str, whole: Tensor) -> Tensor:
        if name != "since_fired":
            return super()._share(name, whole)
        features = self.mesh.features
        parts = whole.unflatten(0, (len(self.dictionary.layers), features.world, -1))
        return parts[:, features.rank].flatten()

    def _step(self, rows: Tensor, target: Tensor | None) -> Step:
        assert target is not None
        demand = self._demand(float(self.dictionary.d_out) ** 0.5)
        return cross_layer_step(self.dictionary, rows, target, demand=demand, mesh=self.mesh)

    def _watch(self, made: Step) -> None:
        for part in self.dictionary.parts:
            ARCHITECTURES[self.options.architecture].watch(part, made.values, self.mesh)

    def _revive(self, rows: Tensor, made: Step, dead: Tensor) -> float:
        """Each layer's dead latents make what is left over of the layers they write to."""
        model, total = self.dictionary, 0.0
        asleep = int(self.mesh.features.all_reduce(dead.sum()))
        if not self.options.aux_k or not asleep:
            return total
        dead_of = dead.split(model.widths)
        for place, (part, centered) in enumerate(read_of(model, rows)):
            gradients = {n: made.gradients[f"{n}.{place}"] for n in ("W_enc", "b_enc", "W_dec")}
            gradients["W_dec"] = gradients["W_dec"].flatten(1)  # a view: added to in place
            own = made._replace(
                gradients=gradients, residual=made.residual[:, place * model.d_out :]
            )
            total += float(revive(
                part, centered, own, dead_of[place], aux_k=self.options.aux_k,
                weight=self.options.aux_weight / len(model.layers), mesh=self.mesh,
            ))  # fmt: skip
        return total


def _initial(
    seen: Seen,
    layers: tuple[int, ...],
    options: TrainOptions,
    generator: torch.Generator,
) -> CrossLayerTranscoder:
    """Features that read near single rows, and write near what is to be made of these.

    Each layer begins at other rows. One factor on all encoders makes the first reconstruction fit.
    """
    rows, target, depth = seen.rows, seen.target, len(layers)
    assert target is not None and seen.writes is not None
    frame, aim = seen.reads.frame, seen.writes.frame
    d_in, d_out = rows.shape[1] // depth, target.shape[1] // depth
    W_enc, W_dec = [], []
    order = Order(len(rows), options.width, generator)
    for place in range(depth):
        picked = next(order).to(rows.device)
        own = slice(place * d_in, (place + 1) * d_in)
        W_enc.append(near(frame.enter(rows[picked])[:, own], generator))
        write = near(aim.enter(target[picked])[:, place * d_out :], generator)
        W_dec.append(write.unflatten(1, (depth - place, d_out)))
    kind = ARCHITECTURES[options.architecture]
    model = CrossLayerTranscoder(
        architecture=options.architecture, k=options.k, layers=layers,
        W_enc=tuple(W_enc), W_dec=tuple(W_dec),
        b_enc=tuple(rows.new_zeros(options.width) for _ in layers),
        b_dec=rows.new_zeros(depth, d_out),
        own=tuple(kind.own(options.width, rows) for _ in layers),
    )  # fmt: skip
    first = frame.enter(rows[: options.batch])
    made = add_up(*(part.reconstruct(x) for part, x in read_of(model, first)))
    slope = best_factor(made, aim.enter(target[: options.batch]))
    return replace(model, W_enc=tuple(w * slope for w in model.W_enc))


def _check(inputs: Mapping[int, Tensor], targets: Mapping[int, Tensor]) -> None:
    if not inputs or set(inputs) != set(targets):
        raise BadInput(
            f"inputs of layers {sorted(inputs)} and targets of layers {sorted(targets)} were given:"
            " each layer needs both"
        )
