"""Histories become tables and files, and come back as they were."""

import csv
import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.dynamics.history import History
from energylens.dynamics.tables import TRAINING, export, histories_of, history_tables
from energylens.dynamics.tracker import Tracker
from tests.common.compare import assert_close
from tests.dynamics.networks import mlp, samples


def history(sites=("b", "a"), steps=(0, 5, 20), seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = len(sites), len(steps)

    def drawn(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    values = {"stable_rank": drawn(*shape), "entropy_rank": drawn(*shape)}
    values["stable_rank"][0, 1] = torch.nan
    return History(
        steps=torch.tensor(steps), sites=sites, values=values, again={"stable_rank": drawn(*shape)},
        ceiling=torch.arange(len(sites)) + 7, training={"loss": drawn(len(steps))},
    )  # fmt: skip


def test_tables_of_runs_hold_them_whole():
    runs = {"one": history(), "two": history(("x",), (1, 2), seed=3)}
    table, training = history_tables(runs).values()
    assert table.num_rows == 8 and table.column_names == [
        "run", "site", "depth", "step", "ceiling", "stable_rank", "entropy_rank",
        "stable_rank_again",
    ]  # fmt: skip
    shuffled = table.take([7, 3, 1, 5, 0, 2, 4, 6])
    for given in (table, shuffled):
        back = histories_of(given, training)
        assert set(back) == {"one", "two"}
        for run, expected in runs.items():
            found, order = back[run], [back[run].sites.index(s) for s in expected.sites]
            assert found.steps.tolist() == expected.steps.tolist()
            for name, series in expected.values.items():
                assert_close(found.values[name][order], series, rtol=0, atol=0)
            assert_close(found.again["stable_rank"][order], expected.again["stable_rank"])
            assert found.ceiling[order].tolist() == expected.ceiling.tolist()
            assert_close(found.training["loss"], expected.training["loss"])


def test_runs_with_other_measures_have_nothing_in_a_column():
    runs = {"one": history(), "two": replace(history(), again={})}
    tables = history_tables(runs)
    assert tables["training"].column_names == ["run", "step", *TRAINING]
    assert all(column.null_count == 0 for table in tables.values() for column in table.columns)
    back = histories_of(**tables)
    assert back["two"].again["stable_rank"].isnan().all()
    assert back["two"].training["grad_norm"].isnan().all()


def test_files_of_three_kinds_say_the_same(tmp_path):
    given = history()
    for kind in ("parquet", "csv", "json"):
        paths = export(given, tmp_path, kind)
        assert [p.name for p in paths] == [f"measurements.{kind}", f"training.{kind}"]
    expected = history_tables({"": given})["measurements"].to_pylist()
    read = pq.read_table(tmp_path / "measurements.parquet").to_pylist()
    plain = json.loads((tmp_path / "measurements.json").read_text())
    with (tmp_path / "measurements.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for at, row in enumerate(expected):
        for name, value in row.items():
            if name == "stable_rank" and value != value:
                assert plain[at][name] is None and rows[at][name] == "nan"
            elif isinstance(value, float):
                assert_close([read[at][name], plain[at][name], float(rows[at][name])], [value] * 3)
            else:
                assert read[at][name] == plain[at][name] == value and rows[at][name] == str(value)
    tracker = Tracker(mlp(), samples())
    tracker.look(3)
    assert [path.name for path in tracker.export(tmp_path / "own", "csv")] == [
        "measurements.csv", "training.csv"
    ]  # fmt: skip
    with pytest.raises(BadInput, match="'xlsx' was asked for"):
        export(given, tmp_path, "xlsx")


def test_tables_with_gaps_are_refused():
    table, training = history_tables({"r": history()}).values()
    with pytest.raises(ArtifactRefused, match="'r' has 5 measurements of 2 sites at 3 steps"):
        histories_of(table.slice(1), training)
    with pytest.raises(ArtifactRefused, match="measurements lacks ceiling"):
        histories_of(table.drop_columns(["ceiling"]), training)
    with pytest.raises(ArtifactRefused, match="training lacks step"):
        histories_of(table, training.drop_columns(["step"]))
