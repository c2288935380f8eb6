"""One step of training: loss and gradients of a batch, by the cheaper of two equal routes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from energylens.core.sparse import row_of
from energylens.features.architecture import (
    ARCHITECTURES,
    Architecture,
    Demand,
    Kept,
    Proposing,
    Terms,
)
from energylens.features.dictionary import COMMON, Dictionary
from energylens.features.entries import Chosen, DenseEntries, SparseEntries, read_entries
from energylens.features.kernels import BLOCK, pre_activations
from energylens.features.mesh import ALONE, Mesh
from energylens.features.proposals import Products, RoughEncoder

PLAIN = Demand(sparsity=0.0, share=1.0, unit=1.0)
FULL = 1 / 24
"""Density from which whole products are cheaper than products of entries (benchmarks)."""


Read: TypeAlias = tuple[Dictionary, Tensor]
"""A dictionary and the rows [sample d_in] it reads, less b_dec where that is subtracted."""


class Step(NamedTuple):
    """Loss of one batch, its gradients by weight, and what the caller may need besides.

    `loss` is what was differentiated and `error` its share of squared errors, both over
    rows · variance; `fired` counts the rows on which each feature was active. These and `l0` are of
    the whole batch of `rows` rows. What this process's own rows say stands in `residual`, `chosen`,
    `values` and in `gradients`, which are to be summed over the processes that see other rows.
    """

    loss: float
    error: float
    gradients: dict[str, Tensor]
    fired: Int64[Tensor, " feature"]
    l0: float
    residual: Float[Tensor, "sample d_out"]
    chosen: Chosen | None
    values: Tensor | None
    rows: int


def step(
    dictionary: Dictionary,
    rows: Float[Tensor, "sample d_in"],
    variance: float,
    *,
    target: Float[Tensor, "sample d_out"] | None = None,
    demand: Demand = PLAIN,
    dense: bool | None = None,
    mesh: Mesh = ALONE,
    products: Products = "fp32",
) -> Step:
    """Mean over rows of the architecture's loss / `variance`, and its gradient by every weight.

    The choice of entries is held fixed: it is piecewise constant. Where every entry is chosen by
    itself and a first block of rows has more than `FULL` of them, whole products are taken.

    Args:
        dictionary: The dictionary, or this process's part of it.
        rows: The batch, or what this process sees of it.
        target: What is to be reconstructed; the rows themselves unless given.
        dense: Take this route, rather than the one that is cheaper.
        mesh: The processes that share the step.
        products: What entries are chosen by, where the architecture leaves it open; the choice is
            the same (`proposals`).
    """
    kind = ARCHITECTURES[dictionary.architecture]
    centered = rows - dictionary.b_dec if dictionary.subtracts_b_dec else rows
    target = rows if target is None else target
    if dense is None:
        beginning = centered[: mesh.dealt(BLOCK)]
        dense = kind.each_alone and density(kind, [(dictionary, beginning)], mesh) > FULL
    batch = int(mesh.rows.all_reduce(torch.tensor(len(rows))))
    weights, scale = _leaves(dictionary), batch * variance
    if dense:
        found = _by_whole_products(kind, weights, rows, target, scale, demand, mesh)
        own_loss, residual, fired, chosen, values = *found, None, None
    else:
        chosen = choose(kind, dictionary, centered, mesh, products)
        entries = read_entries(chosen, centered, weights, mesh.features)
        values = kind.activate(entries, weights)
        terms = kind.terms(entries, values, weights, _goal(rows, target, weights), demand)
        own_loss, residual, values = _differentiated(terms, scale), terms.residual, values.detach()
        fired = torch.bincount(chosen.feature[values != 0], minlength=dictionary.width)
    squares = residual.flatten().dot(residual.flatten()).double()
    loss, error = mesh.rows.all_reduce(torch.stack([own_loss, squares])).tolist()
    fired = mesh.rows.all_reduce(fired)
    return Step(
        loss=loss, error=error / scale, gradients=gradients_of(weights, mesh), fired=fired,
        l0=float(mesh.features.all_reduce(fired.sum())) / max(1, batch),
        residual=residual, chosen=chosen, values=values, rows=batch,
    )  # fmt: skip


@torch.no_grad()
def reconstruct_batch(
    dictionary: Dictionary, rows: Float[Tensor, "sample d_in"]
) -> Float[Tensor, "sample d_out"]:
    """What a step would reconstruct, whose choice may depend on the whole batch."""
    kind = ARCHITECTURES[dictionary.architecture]
    centered = rows - dictionary.b_dec if dictionary.subtracts_b_dec else rows
    chosen, weights = choose(kind, dictionary, centered), dictionary.weights
    entries = SparseEntries(chosen.z, chosen.feature, chosen.start, None)
    made = entries.write(kind.activate(entries, weights), weights["W_dec"]) + dictionary.b_dec
    return made if dictionary.W_skip is None else made + rows @ dictionary.W_skip.T


@torch.no_grad()
def choose(
    kind: Architecture,
    dictionary: Dictionary,
    centered: Float[Tensor, "sample d_in"],
    mesh: Mesh = ALONE,
    products: Products = "fp32",
) -> Chosen:
    """What a batch keeps; its pre-activations exist a block of rows at a time."""
    return choose_together(kind, [(dictionary, centered)], mesh, products)


@torch.no_grad()
def choose_together(
    kind: Architecture, read: Sequence[Read], mesh: Mesh = ALONE, products: Products = "fp32"
) -> Chosen:
    """What a batch keeps of several dictionaries, as the layers of a cross-layer transcoder are.

    Their rows follow one another, and compete where rows do.
    """
    if products == "bf16" and isinstance(kind, Proposing):
        found = _proposed(kind, read)
    else:
        found = _candidates(kind, read, 1)
    wide = 1
    settled = kind.settle(found, read[0][0], mesh)
    while settled.rows is not None and mesh.total(len(settled.rows)):
        wide *= 4
        more = _candidates(kind, _of_rows(read, settled.rows), wide)
        found = _with_rows(found, settled.rows, more)
        settled = kind.settle(found, read[0][0], mesh)
    return settled.chosen


def _candidates(kind: Architecture, read: Sequence[Read], wide: int) -> Chosen:
    parts = [
        kind.candidates(pre, dictionary, wide)
        for dictionary, centered in read
        for pre in pre_activations(centered, dictionary.W_enc, dictionary.b_enc)
    ]
    return _joined(parts)


def _proposed(kind: Proposing, read: Sequence[Read]) -> Chosen:
    return _joined([
        kind.propose(proposals, dictionary)
        for dictionary, centered in read
        for proposals in RoughEncoder.of(dictionary.W_enc, dictionary.b_enc).propose(centered)
    ])  # fmt: skip


def _joined(parts: list[Kept]) -> Chosen:
    count = torch.cat([part.count for part in parts])
    feature = torch.cat([part.feature for part in parts])
    z = torch.cat([part.z for part in parts])
    left = [part.left for part in parts if part.left is not None]
    return Chosen(feature, count.cumsum(0) - count, z, torch.cat(left) if left else None)


def _of_rows(read: Sequence[Read], rows: Tensor) -> list[Read]:
    """Some rows, numbered through all dictionaries."""
    made, first = [], 0
    for dictionary, centered in read:
        own = rows[(rows >= first) & (rows < first + len(centered))] - first
        made.append((dictionary, centered[own]))
        first += len(centered)
    return made


def _with_rows(old: Chosen, rows: Tensor, new: Chosen) -> Chosen:
    """The same with the entries of some rows replaced."""
    row = row_of(old.start, len(old.z))
    again = torch.zeros(len(old.start), dtype=torch.bool, device=row.device)
    again[rows] = True
    stay = ~again[row]
    joined = torch.cat([row[stay], rows[row_of(new.start, len(new.z))]])
    order = joined.argsort(stable=True)
    count = torch.bincount(joined, minlength=len(old.start))
    feature, z = (torch.cat([a[stay], b])[order]
                  for a, b in ((old.feature, new.feature), (old.z, new.z)))  # fmt: skip
    left = old.left if old.left is None else old.left.index_fill(0, rows, -torch.inf)
    return Chosen(feature, count.cumsum(0) - count, z, left)


def density(kind: Architecture, read: Sequence[Read], mesh: Mesh = ALONE) -> float:
    """Share of entries that are candidates."""
    with torch.no_grad():
        found = len(_candidates(kind, read, 1).feature)
    entries = sum(len(centered) * dictionary.width for dictionary, centered in read)
    return mesh.total(found) / max(1, mesh.total(entries))


def _by_whole_products(
    kind: Architecture,
    weights: Mapping[str, Tensor],
    rows: Tensor,
    target: Tensor,
    scale: float,
    demand: Demand,
    mesh: Mesh,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, residual and how often each feature fired, of this process's rows."""
    total, residuals = rows.new_zeros((), dtype=torch.float64), []
    fired = torch.zeros(len(weights["W_enc"]), dtype=torch.int64, device=rows.device)
    for some, goal in zip(rows.split(BLOCK), target.split(BLOCK), strict=True):
        read = some - weights["b_pre"] if "b_pre" in weights else some
        pre = torch.addmm(weights["b_enc"], read, weights["W_enc"].T)
        entries = DenseEntries(pre, mesh.features)
        values = kind.activate(entries, weights)
        terms = kind.terms(entries, values, weights, _goal(some, goal, weights), demand)
        total += _differentiated(terms, scale)
        residuals.append(terms.residual)
        fired += (values.detach() != 0).sum(0)
    return total, torch.cat(residuals), fired


def _differentiated(terms: Terms, scale: float) -> Tensor:
    loss = terms.loss / scale
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach().double()


def _leaves(dictionary: Dictionary) -> dict[str, Tensor]:
    """The weights as leaves of a graph, sharing the dictionary's memory.

    Where b_dec is subtracted from the input as well, that use is the leaf `b_pre`.
    """
    weights = dictionary.weights
    if dictionary.subtracts_b_dec:
        weights["b_pre"] = dictionary.b_dec
    return {name: w.detach().requires_grad_() for name, w in weights.items()}


def _goal(rows: Tensor, target: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """What is left to the decoder and b_dec."""
    return target - rows @ weights["W_skip"].T if "W_skip" in weights else target


def gradients_of(weights: Mapping[str, Tensor], mesh: Mesh) -> dict[str, Tensor]:
    """Of this process's rows. What all shards hold moves as the first of them says: the same sums
    may end in other digits on other machines."""
    found = {name: w.grad if w.grad is not None else torch.zeros_like(w)
             for name, w in weights.items()}  # fmt: skip
    found |= {name: mesh.features.broadcast(g) for name, g in found.items() if name in COMMON}
    if "b_pre" in found:
        found["b_dec"] = found["b_dec"] + mesh.features.all_reduce(found.pop("b_pre"))
    return found
