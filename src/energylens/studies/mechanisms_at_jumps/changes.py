"""What changed in each window: every measure and site, from the checkpoints that were kept."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from energylens.dynamics.mechanisms import (
    SELECTIVITY,
    Places,
    Snapshot,
    blind_value,
    pair_measures,
    snapshot,
    state_measures,
)
from energylens.dynamics.planner import EVENT, CheckpointPlan, load_checkpoint
from energylens.dynamics.similarity import debiased_cka, procrustes_similarity, similarity_test
from energylens.dynamics.weight_change import relative_weight_change, weight_cosine
from energylens.sources.examples import Examples
from energylens.stats.nulls import unit_permutation
from energylens.stats.permutation import permutation_test
from energylens.studies.mechanisms_at_jumps.moments import Moment

Row = dict[str, Any]
QUIET = "quiet"
NULL_DRAWS = 20  # of which the mean and the spread are told, and no p


def window_rows(run: str, plan: CheckpointPlan, moments: Sequence[Moment]) -> list[Row]:
    """Every window of a plan, events and the quiet ones beside them."""
    rows = []
    for number, window in enumerate(plan.windows):
        moment = moments[window.event]
        own = window.kind == EVENT
        rows.append({
            "run": run, "window": number, "kind": moment.kind if own else QUIET,
            "event": window.event, "event_kind": moment.kind, "pre": window.pre,
            "peak": window.peak, "post": window.post, "site": moment.site if own else "",
            "measure": moment.measure if own else "",
            "strength": moment.strength if own else math.nan,
        })  # fmt: skip
    return rows


def change_rows(
    windows: Sequence[Row], module: nn.Module, places: Places, probe: Examples, folder: Path
) -> Iterator[Row]:
    """The network before and after each window, by measure and site.

    A measure of one moment has its values before and after; one of two moments is a change itself.
    """
    for window in windows:
        before, after = (
            _at(module, places, probe, load_checkpoint(folder, window[end]))
            for end in ("pre", "post")
        )
        named = {name: window[name] for name in ("run", "window", "kind", "event", "event_kind")}
        was, now = (state_measures(one, probe.labels) for one in (before, after))
        for (measure, site), value in now.items():
            yield {**named, "measure": measure, "site": site, "before": was[measure, site],
                   "after": value, "change": value - was[measure, site]}  # fmt: skip
        for (measure, site), value in pair_measures(before, after).items():
            yield {**named, "measure": measure, "site": site, "before": math.nan,
                   "after": math.nan, "change": value}  # fmt: skip


def end_rows(
    run: str, module: nn.Module, places: Places, probe: Examples, trained: Mapping[str, Tensor],
    *, generator: torch.Generator,
) -> Iterator[Row]:  # fmt: skip
    """The untrained network beside the trained one, and each measure beside its null.

    Args:
        module: Untrained; it holds the trained weights afterwards.
    """
    start = snapshot(module, probe.inputs, places)
    end = _at(module, places, probe, trained)
    was, labels = state_measures(start, probe.labels), probe.labels
    for (measure, site), value in state_measures(end, labels).items():
        null, sd = blind_value(measure, site, end, labels), math.nan
        if null is None and measure in SELECTIVITY:
            null, sd = _permuted(SELECTIVITY[measure], end.pooled[site], labels, generator)
        yield {"run": run, "measure": measure, "site": site, "start": was[measure, site],
               "end": value, "null": math.nan if null is None else null, "null_sd": sd}  # fmt: skip
    for site, rows in end.representations.items():
        for similarity in (debiased_cka, procrustes_similarity):
            test = similarity_test(
                similarity, start.representations[site], rows, draws=NULL_DRAWS, generator=generator
            )
            yield {"run": run, "measure": similarity.__name__, "site": site, "start": math.nan,
                   "end": float(test.observed), "null": float(test.null_mean),
                   "null_sd": float(test.null_sd)}  # fmt: skip
    for site, weights in end.weights.items():
        for measured, null in ((weight_cosine, 0.0), (relative_weight_change, math.nan)):
            yield {"run": run, "measure": measured.__name__, "site": site, "start": math.nan,
                   "end": float(measured(start.weights[site], weights)), "null": null,
                   "null_sd": weights.numel() ** -0.5 if null == 0 else math.nan}  # fmt: skip


def _at(
    module: nn.Module, places: Places, probe: Examples, state: Mapping[str, Tensor]
) -> Snapshot:
    module.load_state_dict(dict(state))
    return snapshot(module, probe.inputs, places)


def _permuted(
    of: Callable[..., Tensor], rows: Tensor, labels: Tensor, generator: torch.Generator
) -> tuple[float, float]:
    """The mean over neurons with the labels dealt out among samples."""
    test = permutation_test(
        of(rows, labels).nanmean(), lambda g: of(rows, unit_permutation(labels, g)).nanmean(),
        draws=NULL_DRAWS, generator=generator,
    )  # fmt: skip
    return float(test.null_mean), float(test.null_sd)
