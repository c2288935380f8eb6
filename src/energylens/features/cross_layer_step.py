"""One step of training of a cross-layer transcoder: loss and gradients of a batch.

Every layer's entries are chosen, read and written as those of a transcoder are, and what the layers
write is added up before it is compared. A batch's pre-activations never exist whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.features.architecture import ARCHITECTURES, Architecture, Demand
from energylens.features.cross_layer import CrossLayerTranscoder, add_up
from energylens.features.entries import (
    Chosen,
    DenseEntries,
    Entries,
    SparseEntries,
    read_entries,
    squared_error,
    summed,
)
from energylens.features.kernels import BLOCK
from energylens.features.mesh import ALONE, Mesh
from energylens.features.step import (
    FULL,
    PLAIN,
    Read,
    Step,
    choose_together,
    density,
    gradients_of,
)


def cross_layer_step(
    model: CrossLayerTranscoder,
    rows: Float[Tensor, "sample layers_d_in"],
    target: Float[Tensor, "sample layers_d_out"],
    *,
    demand: Demand = PLAIN,
    dense: bool | None = None,
    mesh: Mesh = ALONE,
) -> Step:
    """Mean over rows of the loss / (L · d_out), and its gradient by every weight.

    The choice of entries is held fixed. In the result, `fired` goes through the features of all
    layers, `l0` is a mean over layers, and `error` one over rows, layers and dimensions.

    Args:
        model: The transcoder, or this process's part of it.
        rows: Inputs, the layers side by side; the batch, or what this process sees of it.
        target: Outputs, the layers side by side.
        dense: Take whole products, or not, rather than what is cheaper.
        mesh: The processes that share the step.
    """
    kind, read = ARCHITECTURES[model.architecture], read_of(model, rows)
    if dense is None:
        beginning = [(part, x[: mesh.dealt(BLOCK)]) for part, x in read]
        dense = kind.each_alone and density(kind, beginning, mesh) > FULL
    batch = int(mesh.rows.all_reduce(torch.tensor(len(rows))))
    leaves = {name: w.detach().requires_grad_() for name, w in model.weights.items()}
    weights = [_of_layer(leaves, place) for place in range(len(model.layers))]
    batches = _whole(read, target, weights) if dense else _chosen(kind, read, target, weights, mesh)
    own, residuals = rows.new_zeros(2, dtype=torch.float64), []
    fired, kept = torch.zeros(model.width, dtype=torch.int64, device=rows.device), []
    share = 1 / (batch * model.b_dec.numel())
    for entries, goal in batches:
        values = [kind.activate(e, w) for e, w in zip(entries, weights, strict=True)]
        written = add_up(
            *(e.write(v, w["W_dec"]) for e, v, w in zip(entries, values, weights, strict=True))
        )
        made = summed(written, mesh.features)  # once for all layers: what parts write goes alone
        loss, residual = squared_error(goal, made, leaves["b_dec"].flatten())
        error = loss.detach()
        if kind.each_alone:
            costs = (kind.penalty(e, v, w, demand)
                     for e, v, w in zip(entries, values, weights, strict=True))  # fmt: skip
            cost = summed(sum(costs, loss.new_zeros(())), mesh.features)
            loss = loss + demand.sparsity * cost
        (share * loss).backward()  # type: ignore[no-untyped-call]
        own += share * torch.stack([loss.detach(), error])
        residuals.append(residual)
        kept = [v.detach() for v in values]
        fired += _fired(entries, kept, model.widths)
    loss_of_all, error_of_all = mesh.rows.all_reduce(own).tolist()
    fired = mesh.rows.all_reduce(fired)
    return Step(
        loss=loss_of_all, error=error_of_all, fired=fired, residual=torch.cat(residuals),
        chosen=None, gradients=gradients_of(leaves, mesh),
        l0=float(mesh.features.all_reduce(fired.sum())) / max(1, batch * len(model.layers)),
        values=None if dense else torch.cat(kept), rows=batch,
    )  # fmt: skip


Batches: TypeAlias = Iterator[tuple[list[Entries], Tensor]]
"""Entries of each layer, and what they are to make, of all rows or of a block at a time."""


def _chosen(
    kind: Architecture,
    read: Sequence[Read],
    target: Tensor,
    weights: Sequence[dict[str, Tensor]],
    mesh: Mesh,
) -> Batches:
    """The entries that a batch keeps."""
    chosen, rows = choose_together(kind, read, mesh), len(target)
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


def read_of(model: CrossLayerTranscoder, rows: Tensor) -> list[Read]:
    """Each layer's features with what they read of rows that have the layers side by side."""
    parts = (part.contiguous() for part in rows.split(model.d_in, dim=1))
    return list(zip(model.parts, parts, strict=True))


def _of_layer(leaves: Mapping[str, Tensor], place: int) -> dict[str, Tensor]:
    """One layer's weights under the names that a transcoder has for them."""
    made = {n.removesuffix(f".{place}"): w for n, w in leaves.items() if n.endswith(f".{place}")}
    return made | {"W_dec": made["W_dec"].flatten(1)}
