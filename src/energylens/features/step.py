"""One step of training: loss and gradients of a batch, by the cheaper of two equal routes."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from energylens.core.sparse import row_of
from energylens.features.architecture import ARCHITECTURES, Architecture, Demand, Kept
from energylens.features.dictionary import Dictionary
from energylens.features.entries import Chosen, DenseEntries, SparseEntries, read_entries
from energylens.features.kernels import BLOCK

PLAIN = Demand(sparsity=0.0, share=1.0, unit=1.0)
FULL = 1 / 24
"""Density from which whole products are cheaper than products of entries (benchmarks)."""


class Step(NamedTuple):
    """Loss of one batch, its gradients by weight, and what the caller may need besides.

    `loss` is what was differentiated and `error` its share of squared errors, both over
    rows · variance; `fired` counts the rows on which each feature was active.
    """

    loss: float
    error: float
    gradients: dict[str, Tensor]
    fired: Int64[Tensor, " feature"]
    l0: float
    residual: Float[Tensor, "sample d_out"]
    chosen: Chosen | None
    values: Tensor | None


def step(
    dictionary: Dictionary,
    rows: Float[Tensor, "sample d_in"],
    variance: float,
    *,
    target: Float[Tensor, "sample d_out"] | None = None,
    demand: Demand = PLAIN,
    dense: bool | None = None,
) -> Step:
    """Mean over rows of the architecture's loss / `variance`, and its gradient by every weight.

    The choice of entries is held fixed: it is piecewise constant. Where every entry is chosen by
    itself and a first block of rows has more than `FULL` of them, whole products are taken.

    Args:
        target: What is to be reconstructed; the rows themselves unless given.
        dense: Take this route, rather than the one that is cheaper.
    """
    kind = ARCHITECTURES[dictionary.architecture]
    centered = rows - dictionary.b_dec if dictionary.subtracts_b_dec else rows
    target = rows if target is None else target
    if dense is None:
        dense = kind.each_alone and _density(kind, dictionary, centered[:BLOCK]) > FULL
    if dense:
        return _by_whole_products(kind, dictionary, rows, target, variance, demand)
    chosen = choose(kind, dictionary, centered)
    weights = _leaves(dictionary)
    entries = read_entries(chosen, centered, weights)
    values = kind.activate(entries, weights)
    terms = kind.terms(entries, values, weights, _goal(rows, target, weights), demand)
    loss = terms.loss / (len(rows) * variance)
    loss.backward()  # type: ignore[no-untyped-call]
    active = values.detach() != 0
    return Step(
        loss=float(loss.detach()), error=_error(terms.residual, variance),
        gradients=_gradients(weights),
        fired=torch.bincount(chosen.feature[active], minlength=dictionary.width),
        l0=float(active.sum()) / max(1, len(rows)), residual=terms.residual,
        chosen=chosen, values=values.detach(),
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
    kind: Architecture, dictionary: Dictionary, centered: Float[Tensor, "sample d_in"]
) -> Chosen:
    """What a batch keeps; its pre-activations exist a block of rows at a time."""
    found, wide = _candidates(kind, dictionary, centered, 1), 1
    settled = kind.settle(found, dictionary)
    while len(settled.rows):
        wide *= 4
        more = _candidates(kind, dictionary, centered[settled.rows], wide)
        found = _with_rows(found, settled.rows, more)
        settled = kind.settle(found, dictionary)
    return settled.chosen


def _candidates(kind: Architecture, dictionary: Dictionary, centered: Tensor, wide: int) -> Chosen:
    parts = [
        kind.candidates(torch.addmm(dictionary.b_enc, block, dictionary.W_enc.T), dictionary, wide)
        for block in centered.split(BLOCK)
    ]
    count, feature, z = (torch.cat(part) for part in zip(*parts, strict=True))
    return Chosen(feature, count.cumsum(0) - count, z)


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
    return Chosen(feature, count.cumsum(0) - count, z)


def _density(kind: Architecture, dictionary: Dictionary, centered: Tensor) -> float:
    with torch.no_grad():
        pre = torch.addmm(dictionary.b_enc, centered, dictionary.W_enc.T)
        kept: Kept = kind.candidates(pre, dictionary, 1)
    return len(kept.feature) / max(1, pre.numel())


def _by_whole_products(
    kind: Architecture,
    dictionary: Dictionary,
    rows: Tensor,
    target: Tensor,
    variance: float,
    demand: Demand,
) -> Step:
    weights, total, residuals = _leaves(dictionary), 0.0, []
    fired = torch.zeros(dictionary.width, dtype=torch.int64, device=rows.device)
    for some, goal in zip(rows.split(BLOCK), target.split(BLOCK), strict=True):
        read = some - weights["b_pre"] if "b_pre" in weights else some
        entries = DenseEntries(torch.addmm(weights["b_enc"], read, weights["W_enc"].T))
        values = kind.activate(entries, weights)
        terms = kind.terms(entries, values, weights, _goal(some, goal, weights), demand)
        loss = terms.loss / (len(rows) * variance)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
        residuals.append(terms.residual)
        fired += (values.detach() != 0).sum(0)
    residual = torch.cat(residuals)
    return Step(
        loss=total, error=_error(residual, variance), gradients=_gradients(weights), fired=fired,
        l0=float(fired.sum()) / max(1, len(rows)), residual=residual, chosen=None, values=None,
    )  # fmt: skip


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


def _gradients(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {name: w.grad if w.grad is not None else torch.zeros_like(w)
             for name, w in weights.items()}  # fmt: skip
    if "b_pre" in found:
        found["b_dec"] = found["b_dec"] + found.pop("b_pre")
    return found


def _error(residual: Tensor, variance: float) -> float:
    flat = residual.flatten()
    return float(flat.dot(flat)) / (len(residual) * variance)
