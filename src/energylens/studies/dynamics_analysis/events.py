"""The events of many trainings as rows of one table."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import torch
from torch import Tensor

from energylens.dynamics.history import History
from energylens.dynamics.jumps import KINDS, JumpOptions, Jumps, find_jumps

Row = dict[str, Any]
AnyRow = TypeVar("AnyRow", bound=Mapping[str, Any])
DETECTOR = "energylens"
OPEN = 0.5  # of the training: an event that may lie anywhere in so much of it has no date
JUMPS = pa.schema([
    *((name, pa.string()) for name in ("run", "site")), ("depth", pa.float64()),
    ("measure", pa.string()), *((name, pa.int64()) for name in ("step", "low", "high")),
    *((name, pa.float64()) for name in ("amplitude", "size", "speed")),
    ("direction", pa.string()), ("phase", pa.float64()), ("kind", pa.string()),
    ("p", pa.float64()), ("q", pa.float64()), ("type", pa.int64()), ("detector", pa.string()),
])  # fmt: skip


def jump_rows(
    histories: Mapping[str, History],
    num_steps: Mapping[str, int],
    measures: Sequence[str],
    generator: torch.Generator,
    options: JumpOptions,
) -> list[Row]:
    """Every event of every site and measure.

    Trainings that were looked at the same steps are searched together, one family for q.
    """
    rows: list[Row] = []
    for runs in _alike(histories):
        keys = [
            (run, measure, place) for run in runs for measure in measures
            for place in range(len(histories[run].sites))
        ]  # fmt: skip
        values = _stacked({run: histories[run].values for run in runs}, measures)
        again = _stacked({run: histories[run].again for run in runs}, measures)
        steps = histories[runs[0]].steps
        found = find_jumps(values, steps, generator, noise=_noise(values, again), options=options)
        rows += _rows(found, keys, histories, num_steps, values)
    return rows


def dated(rows: Iterable[AnyRow]) -> list[AnyRow]:
    """The events of which it is known when they were.

    A slow change, or the last of a series that is still on its way, is there beyond doubt and has
    an interval that says nothing of when: its step is only the likeliest of many.
    """
    return [row for row in rows if math.isfinite(row["phase"])]


def _alike(histories: Mapping[str, History]) -> list[list[str]]:
    """Runs by the steps at which they were looked at."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for run, history in histories.items():
        groups.setdefault(tuple(history.steps.tolist()), []).append(run)
    return list(groups.values())


def _stacked(tables: Mapping[str, Mapping[str, Tensor]], measures: Sequence[str]) -> Tensor:
    """Series of all runs, measures and sites, in this order; empty if a run lacks one."""
    parts = [table.get(measure) for table in tables.values() for measure in measures]
    there = [part.double() for part in parts if part is not None]
    return torch.cat(there) if len(there) == len(parts) else torch.empty(0, 0)


def _noise(values: Tensor, again: Tensor) -> Tensor | None:
    """Standard deviation of the measurement, from how two halves of the probe move apart.

    The difference of two halves has twice the variance of one, and its change between neighbours
    twice that; that the halves differ in level is no noise. By the median, which jumps of one half
    alone hardly move.
    """
    if again.numel() == 0:
        return None
    apart = (values - again).diff(dim=1)
    return 1.4826 * apart.abs().nanmedian(1).values / 2


def _rows(
    found: Jumps,
    keys: Sequence[tuple[str, str, int]],
    histories: Mapping[str, History],
    num_steps: Mapping[str, int],
    values: Tensor,
) -> list[Row]:
    depths = {run: history.depth().tolist() for run, history in histories.items()}
    span = values.amax(1) - values.amin(1)
    rows = []
    for i, series in enumerate(found.series.tolist()):
        run, measure, place = keys[series]
        step, amplitude = int(found.step[i]), float(found.amplitude[i])
        low, high = int(found.low[i]), int(found.high[i])
        level = KINDS[int(found.kind[i])] == "level"
        looked = histories[run].steps
        known = high - low < OPEN * float(looked[-1] - looked[0])
        took = max(int(found.width[i]), int(looked.diff().amin()))
        rows.append({
            "run": run, "site": histories[run].sites[place], "depth": depths[run][place],
            "measure": measure, "step": step, "low": low, "high": high, "amplitude": amplitude,
            "size": abs(amplitude) / float(span[series]) if level else torch.nan,
            "speed": abs(amplitude) / took if level else abs(amplitude),
            "direction": "up" if amplitude > 0 else "down",
            "phase": step / num_steps[run] if known else math.nan,
            "kind": KINDS[int(found.kind[i])], "p": float(found.p[i]), "q": float(found.q[i]),
            "detector": DETECTOR,
        })  # fmt: skip
    return rows
