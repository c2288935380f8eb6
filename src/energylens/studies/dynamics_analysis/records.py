"""Histories as tables, and back: what a study keeps of its trainings."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.dynamics.history import History

TRAINING = ("loss", "grad_norm", "weight_norm", "update_norm")
AGAIN = "_again"
_OWN = ("run", "site", "depth", "step", "ceiling")


def history_tables(histories: Mapping[str, History]) -> dict[str, pa.Table]:
    """The tables `measurements` and `training`; what was not measured is nan."""
    return {
        "measurements": _joined(
            [_measurements(run, history) for run, history in histories.items()]
        ),
        "training": _joined([_training(run, history) for run, history in histories.items()]),
    }


def histories_of(measurements: pa.Table, training: pa.Table) -> dict[str, History]:
    """The histories that were written by `history_tables`, by run.

    Raises:
        BadInput: If a column is missing, a run has no training, or its sites were not all looked
            at the same steps.
    """
    for name, table, wanted in (
        ("measurements", measurements, _OWN), ("training", training, ("run", "step", *TRAINING))
    ):  # fmt: skip
        missing = sorted(set(wanted) - set(table.column_names))
        if missing:
            raise BadInput(f"the table {name} lacks {', '.join(missing)}: write it again")
    runs = pc.unique(measurements["run"]).to_pylist()
    return {
        run: _history(
            run,
            measurements.filter(pc.equal(measurements["run"], run)),
            training.filter(pc.equal(training["run"], run)),
        )
        for run in runs
    }


def _measurements(run: str, history: History) -> pa.Table:
    sites, samples = len(history.sites), len(history.steps)
    columns = {
        "run": pa.array([run] * (sites * samples)),
        "site": pa.array([site for site in history.sites for _ in range(samples)]),
        "depth": _numbers(history.depth().repeat_interleave(samples)),
        "step": _numbers(history.steps.repeat(sites)),
        "ceiling": _numbers(history.ceiling.repeat_interleave(samples)),
    }
    columns |= {name: _numbers(values.flatten()) for name, values in history.values.items()}
    columns |= {f"{name}{AGAIN}": _numbers(v.flatten()) for name, v in history.again.items()}
    return pa.table(columns)


def _training(run: str, history: History) -> pa.Table:
    samples = len(history.steps)
    none = torch.full((samples,), torch.nan, dtype=torch.float64)
    series = {name: _numbers(history.training.get(name, none).double()) for name in TRAINING}
    return pa.table({"run": pa.array([run] * samples), "step": _numbers(history.steps), **series})


def _history(run: str, measured: pa.Table, trained: pa.Table) -> History:
    sites = tuple(pc.unique(measured["site"]).to_pylist())
    steps = _tensor(trained, "step")
    if len(measured) != len(sites) * len(steps) or not torch.equal(
        _tensor(measured, "step"), steps.repeat(len(sites))
    ):
        raise BadInput(
            f"the run {run} has {len(measured)} measurements of {len(sites)} sites, and"
            f" {len(steps)} steps of training: each site needs one at each step, site by site"
        )
    table = {
        name: _tensor(measured, name).reshape(len(sites), len(steps))
        for name in measured.column_names if name not in ("run", "site")
    }  # fmt: skip
    series = {name: values for name, values in table.items() if name not in _OWN}
    return History(
        steps=steps, sites=sites,
        values={name: v for name, v in series.items() if not name.endswith(AGAIN)},
        again={n.removesuffix(AGAIN): v for n, v in series.items() if n.endswith(AGAIN)},
        ceiling=table["ceiling"][:, 0].long(),
        training={name: _tensor(trained, name) for name in TRAINING},
    )  # fmt: skip


def _joined(tables: list[pa.Table]) -> pa.Table:
    """One below the other; a column that one of them lacks is nan there."""
    whole = pa.concat_tables(tables, promote_options="default")
    for place, name in enumerate(whole.column_names):
        if pa.types.is_floating(whole[name].type) and whole[name].null_count:
            whole = whole.set_column(place, name, whole[name].fill_null(float("nan")))
    return whole


def _numbers(values: Tensor) -> pa.Array:
    return pa.array(values.numpy(force=True))


def _tensor(table: pa.Table, column: str) -> Tensor:
    return torch.tensor(table[column].to_numpy())
