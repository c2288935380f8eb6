"""Training of cross-layer transcoders: the step, and the loop that all dictionaries share.

Every layer's entries are chosen, read and written as those of a transcoder are, and what the layers
write is added up before it is compared. A batch's pre-activations never exist whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.checkpoint import Checkpoint
from energylens.core.errors import BadInput
from energylens.core.ports import Progress, silence
from energylens.features.architecture import ARCHITECTURES, Architecture, Demand
from energylens.features.chance import best_factor
from energylens.features.course import Course, Seen, TrainRecord, look_at, near
from energylens.features.cross_layer import CrossLayerTranscoder, add_up
from energylens.features.crosscoder import side_by_side
from energylens.features.entries import (
    Chosen,
    DenseEntries,
    Entries,
    SparseEntries,
    read_entries,
    squared_error,
)
from energylens.features.kernels import BLOCK
from energylens.features.mesh import ALONE, Mesh
from energylens.features.order import Order
from energylens.features.revival import revive
from energylens.features.step import FULL, PLAIN, Read, Step, choose_together, density
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
    course = job.begin(seen, steps_of(seen, options), generator)
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
        made = course.training.dictionary.finish().unfold(course.reads.frame, course.writes.frame)
        return replace(made, metadata=dict(metadata or {}))


@dataclass(eq=False, kw_only=True)
class CrossLayerTraining(Training):
    """A cross-layer transcoder in training, in one process; rows and targets have the layers side
    by side."""

    dictionary: CrossLayerTranscoder  # type: ignore[assignment]

    def _take_own(self) -> None:
        if self.mesh.rows.world * self.mesh.features.world > 1:
            raise BadInput(
                "a cross-layer transcoder was asked of several processes: it is trained in one"
            )

    def _is_dealt(self, name: str) -> bool:
        return False

    def _step(self, rows: Tensor, target: Tensor | None) -> Step:
        assert target is not None
        demand = self._demand(float(self.dictionary.d_out) ** 0.5)
        return cross_layer_step(self.dictionary, rows, target, demand=demand)

    def _watch(self, made: Step) -> None:
        for part in self.dictionary.parts:
            ARCHITECTURES[self.options.architecture].watch(part, made.values, self.mesh)

    def _revive(self, rows: Tensor, made: Step, dead: Tensor) -> float:
        """Each layer's dead latents make what is left over of the layers they write to."""
        model, total = self.dictionary, 0.0
        if not self.options.aux_k or not bool(dead.any()):
            return total
        dead_of = dead.split(model.widths)
        for place, (part, centered) in enumerate(_read(model, rows)):
            gradients = {n: made.gradients[f"{n}.{place}"] for n in ("W_enc", "b_enc", "W_dec")}
            gradients["W_dec"] = gradients["W_dec"].flatten(1)  # a view: added to in place
            own = made._replace(
                gradients=gradients, residual=made.residual[:, place * model.d_out :]
            )
            total += float(revive(
                part, centered, own, dead_of[place], aux_k=self.options.aux_k,
                weight=self.options.aux_weight / len(model.layers),
            ))  # fmt: skip
        return total


def cross_layer_step(
    model: CrossLayerTranscoder,
    rows: Float[Tensor, "sample layers_d_in"],
    target: Float[Tensor, "sample layers_d_out"],
    *,
    demand: Demand = PLAIN,
    dense: bool | None = None,
) -> Step:
    """Mean over rows of the loss / (L · d_out), and its gradient by every weight.

    The choice of entries is held fixed. In the result, `fired` goes through the features of all
    layers, `l0` is a mean over layers, and `error` one over rows, layers and dimensions.

    Args:
        rows: Inputs, the layers side by side.
        target: Outputs, the layers side by side.
        dense: Take whole products, or not, rather than what is cheaper.
    """
    kind, read = ARCHITECTURES[model.architecture], _read(model, rows)
    if dense is None:
        dense = kind.each_alone and density(kind, [(part, x[:BLOCK]) for part, x in read]) > FULL
    leaves = {name: w.detach().requires_grad_() for name, w in model.weights.items()}
    weights = [_of_layer(leaves, place) for place in range(len(model.layers))]
    batches = _whole(read, target, weights) if dense else _chosen(kind, read, target, weights)
    total, error, residuals = 0.0, 0.0, []
    fired, kept = torch.zeros(model.width, dtype=torch.int64, device=rows.device), []
    share = 1 / (len(rows) * model.b_dec.numel())
    for entries, goal in batches:
        values = [kind.activate(e, w) for e, w in zip(entries, weights, strict=True)]
        made = add_up(
            *(e.write(v, w["W_dec"]) for e, v, w in zip(entries, values, weights, strict=True))
        )
        loss, residual = squared_error(goal, made, leaves["b_dec"].flatten())
        error += share * float(loss.detach())
        if kind.each_alone:
            costs = (kind.penalty(e, v, w, demand)
                     for e, v, w in zip(entries, values, weights, strict=True))  # fmt: skip
            loss = loss + demand.sparsity * sum(costs, loss.new_zeros(()))
        (share * loss).backward()  # type: ignore[no-untyped-call]
        total += share * float(loss.detach())
        residuals.append(residual)
        kept = [v.detach() for v in values]
        fired += _fired(entries, kept, model.widths)
    return Step(
        loss=total, error=error, fired=fired, residual=torch.cat(residuals), chosen=None,
        gradients={n: torch.zeros_like(w) if w.grad is None else w.grad for n, w in leaves.items()},
        l0=float(fired.sum()) / max(1, len(rows) * len(model.layers)),
        values=None if dense else torch.cat(kept), rows=len(rows),
    )  # fmt: skip


Batches: TypeAlias = Iterator[tuple[list[Entries], Tensor]]
"""Entries of each layer, and what they are to make, of all rows or of a block at a time."""


def _chosen(
    kind: Architecture, read: Sequence[Read], target: Tensor, weights: Sequence[dict[str, Tensor]]
) -> Batches:
    """The entries that a batch keeps."""
    chosen, rows = choose_together(kind, read), len(target)
    ends = [*chosen.start[::rows].tolist(), len(chosen.z)]
    made: list[Entries] = []
    for place, ((_, x), w) in enumerate(zip(read, weights, strict=True)):
        own = slice(ends[place], ends[place + 1])
        start = chosen.start[place * rows : (place + 1) * rows] - ends[place]
        made.append(read_entries(Chosen(chosen.feature[own], start, chosen.z[own]), x, w))
    yield made, target


def _whole(read: Sequence[Read], target: Tensor, weights: Sequence[dict[str, Tensor]]) -> Batches:
    """All entries, a block of rows at a time."""
    for first in range(0, len(target), BLOCK):
        some = slice(first, first + BLOCK)
        yield (
            [
                DenseEntries(torch.addmm(w["b_enc"], x[some], w["W_enc"].T))
                for (_, x), w in zip(read, weights, strict=True)
            ],
            target[some],
        )


def _fired(entries: Sequence[Entries], values: Sequence[Tensor], widths: Sequence[int]) -> Tensor:
    return torch.cat([
        torch.bincount(e.feature[v != 0], minlength=width)
        if isinstance(e, SparseEntries) else (v != 0).sum(0)
        for e, v, width in zip(entries, values, widths, strict=True)
    ])  # fmt: skip


def _read(model: CrossLayerTranscoder, rows: Tensor) -> list[Read]:
    """Each layer's features with what they read of rows that have the layers side by side."""
    parts = (part.contiguous() for part in rows.split(model.d_in, dim=1))
    return list(zip(model.parts, parts, strict=True))


def _of_layer(leaves: Mapping[str, Tensor], place: int) -> dict[str, Tensor]:
    """One layer's weights under the names that a transcoder has for them."""
    made = {n.removesuffix(f".{place}"): w for n, w in leaves.items() if n.endswith(f".{place}")}
    return made | {"W_dec": made["W_dec"].flatten(1)}


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
    made = add_up(*(part.reconstruct(x) for part, x in _read(model, first)))
    slope = best_factor(made, aim.enter(target[: options.batch]))
    return replace(model, W_enc=tuple(w * slope for w in model.W_enc))


def _check(inputs: Mapping[int, Tensor], targets: Mapping[int, Tensor]) -> None:
    if not inputs or set(inputs) != set(targets):
        raise BadInput(
            f"inputs of layers {sorted(inputs)} and targets of layers {sorted(targets)} were given:"
            " each layer needs both"
        )
