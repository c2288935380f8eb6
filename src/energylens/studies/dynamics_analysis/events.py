"""The events of many trainings as rows of one table."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from energylens.dynamics.critical_periods import velocity
from energylens.dynamics.history import History
from energylens.dynamics.jumps import Jumps, find_jumps

Row = dict[str, Any]
DETECTOR = "energylens"
AROUND = 2  # samples either way in which an event's speed is read


def jump_rows(
    histories: Mapping[str, History],
    num_steps: Mapping[str, int],
    measures: Sequence[str],
    generator: torch.Generator,
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
        found = find_jumps(values, steps, generator, noise=_noise(values, again))
        rows += _rows(found, keys, histories, num_steps, velocity(values, steps).abs(), steps)
    return rows


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
    speed: Tensor,
    steps: Tensor,
) -> list[Row]:
    depths = {run: history.depth().tolist() for run, history in histories.items()}
    rows = []
    for i, series in enumerate(found.series.tolist()):
        run, measure, place = keys[series]
        step, amplitude = int(found.step[i]), float(found.amplitude[i])
        at = int(torch.searchsorted(steps, step))
        near = speed[series, max(0, at - AROUND) : at + AROUND]
        rows.append({
            "run": run, "site": histories[run].sites[place], "depth": depths[run][place],
            "measure": measure, "step": step, "low": int(found.low[i]),
            "high": int(found.high[i]), "amplitude": amplitude,
            "speed": float(near.nan_to_num(0).amax()), "direction": "up" if amplitude > 0 else "down",
            "phase": step / num_steps[run], "kind": str(found.kind[i]), "p": float(found.p[i]),
            "q": float(found.q[i]), "detector": DETECTOR,
        })  # fmt: skip
    return rows
