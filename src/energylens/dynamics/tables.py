"""Histories as tables, to files that other programs read, and back."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.core.files import write_atomic
from energylens.dynamics.history import History

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("parquet", "csv", "json")
TRAINING = ("loss", "grad_norm", "weight_norm", "update_norm")
_AGAIN = "_again"
_KEYS = ("run", "site", "depth", "step", "ceiling")


def history_tables(histories: Mapping[str, History]) -> "dict[str, pa.Table]":
    """The tables that keep what was measured of some trainings; what was not is nan.

    Returns:
        `measurements`, a row for each run, site and look: `run`, `site`, `depth` (0 to 1), `step`,
        `ceiling`, one column a measure, and `<measure>_again` of the second half of the probe; and
        `training`, a row for each run and look: `run`, `step`, `loss`, `grad_norm`, `weight_norm`
        and `update_norm`.
    """
    return {
        "measurements": _joined([_measurements(run, one) for run, one in histories.items()]),
        "training": _joined([_training(run, one) for run, one in histories.items()]),
    }


def histories_of(measurements: "pa.Table", training: "pa.Table") -> dict[str, History]:
    """The histories that tables were made of, by run.

    Raises:
        ArtifactRefused: If a column is missing, or a run's sites were not all looked at at the same
            steps.
    """
    import pyarrow.compute as pc

    for name, table, wanted in (
        ("measurements", measurements, _KEYS), ("training", training, ("run", "step"))
    ):  # fmt: skip
        if missing := [key for key in wanted if key not in table.column_names]:
            raise ArtifactRefused(f"the table {name} lacks {', '.join(missing)}: write it again")
    measures = [name for name in measurements.column_names if name not in _KEYS]
    found = {}
    for run in dict.fromkeys(measurements["run"].to_pylist()):
        rows = measurements.filter(pc.equal(measurements["run"], run))
        sites = tuple(dict.fromkeys(rows["site"].to_pylist()))
        steps = list(dict.fromkeys(rows["step"].to_pylist()))
        if rows.num_rows != len(sites) * len(steps):
            raise ArtifactRefused(
                f"run {run!r} has {rows.num_rows} measurements of {len(sites)} sites at"
                f" {len(steps)} steps: every site needs one at every step"
            )
        rows = rows.append_column("_at", pc.index_in(rows["site"], rows["site"].unique()))
        rows = rows.sort_by([("_at", "ascending"), ("step", "ascending")])
        told = training.filter(pc.equal(training["run"], run)).sort_by("step")
        values = {name: _column(rows, name).view(len(sites), -1) for name in measures}
        found[run] = History(
            steps=torch.tensor(sorted(steps)),
            sites=sites,
            values={n: v for n, v in values.items() if not n.endswith(_AGAIN)},
            again={n.removesuffix(_AGAIN): v for n, v in values.items() if n.endswith(_AGAIN)},
            ceiling=_column(rows, "ceiling").view(len(sites), -1)[:, 0].long(),
            training={name: _column(told, name) for name in told.column_names
                      if name not in _KEYS},
        )  # fmt: skip
    return found


def export(
    histories: Mapping[str, History] | History, folder: Path | str, kind: str = "parquet"
) -> list[Path]:
    """Write `measurements` and `training` as Parquet, CSV or JSON (a list of rows; nan is null).

    Returns:
        The two files.

    Raises:
        BadInput: If there is no such kind of file.
        NoRoom: If the disk is full.
    """
    if kind not in FORMATS:
        raise BadInput(f"an export to {kind!r} was asked for: there is {', '.join(FORMATS)}")
    runs = {"": histories} if isinstance(histories, History) else histories
    paths = []
    for name, table in history_tables(runs).items():
        path = Path(folder).expanduser() / f"{name}.{kind}"
        write_atomic(path, partial(_write, table=table, kind=kind))
        paths.append(path)
    return paths


def _measurements(run: str, history: History) -> "pa.Table":
    import pyarrow as pa

    sites, steps = len(history.sites), len(history.steps)
    columns = dict(history.values) | {f"{n}{_AGAIN}": v for n, v in history.again.items()}
    return pa.table(
        {
            "run": [run] * (sites * steps),
            "site": [site for site in history.sites for _ in range(steps)],
            "depth": history.depth().repeat_interleave(steps).tolist(),
            "step": history.steps.repeat(sites).tolist(),
            "ceiling": history.ceiling.repeat_interleave(steps).tolist(),
            **{name: values.flatten().double().numpy(force=True)
               for name, values in columns.items()},
        }
    )  # fmt: skip


def _training(run: str, history: History) -> "pa.Table":
    import pyarrow as pa

    samples = len(history.steps)
    unknown = torch.full((samples,), torch.nan)
    series = {name: history.training.get(name, unknown) for name in TRAINING}
    return pa.table(
        {"run": [run] * samples, "step": history.steps.tolist(),
         **{name: values.double().numpy(force=True) for name, values in series.items()}}
    )  # fmt: skip


def _joined(tables: "list[pa.Table]") -> "pa.Table":
    """One below the other; a measure or a second half that one of them lacks is nan there."""
    import pyarrow as pa

    whole = pa.concat_tables(tables, promote_options="default") if tables else pa.table({})
    for place, name in enumerate(whole.column_names):
        if pa.types.is_floating(whole[name].type) and whole[name].null_count:
            whole = whole.set_column(place, name, whole[name].fill_null(float("nan")))
    return whole


def _column(table: "pa.Table", name: str) -> Tensor:
    return torch.tensor(table[name].cast("float64").to_numpy())  # null is nan


def _write(path: Path, table: "pa.Table", kind: str) -> None:
    if kind == "parquet":
        import pyarrow.parquet as pq

        pq.write_table(table, path, compression="zstd")
    elif kind == "csv":
        import pyarrow.csv as pc

        pc.write_csv(table, path)
    else:
        from energylens.results.plain import encode

        path.write_bytes(encode(table.to_pylist()))
