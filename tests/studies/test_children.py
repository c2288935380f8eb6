"""Runs inside a run: killed and resumed, nothing is done twice, the disk holds one at a time."""

from dataclasses import dataclass

import pytest

from energylens.core.ports import silence
from energylens.run.edges.store.folder import Folder
from energylens.studies.children import joined, run_child
from tests.run.toy import Toy


@dataclass
class Killed(BaseException):
    """As a kill: no handler may tidy up after it."""


def child(store, name, said, *, seed=0, harvest=lambda store: None):
    return run_child("toy", Toy(parts=3, seed=seed), name, tables=("table.0",), store=store,
                     progress=silence, say=said.append, harvest=harvest)  # fmt: skip


def test_a_killed_child_goes_on_where_it_was(tmp_path):
    def kill(line: str) -> None:
        if line == "computing part.2":
            raise Killed

    with pytest.raises(Killed):
        run_child("toy", Toy(parts=3), "one", tables=(), store=Folder(tmp_path), progress=silence,
                  say=kill)  # fmt: skip
    said: list[str] = []
    child(Folder(tmp_path), "one", said)
    assert said == ["run one", "computing part.2"]


def test_a_finished_child_is_not_done_again_and_reads_the_same(tmp_path):
    said: list[str] = []
    first = child(Folder(tmp_path), "one", said)
    said.clear()
    again = child(Folder(tmp_path), "one", said)
    assert said == [] and again.summary == first.summary
    assert again.tables["table.0"].equals(first.tables["table.0"])


def test_the_parts_of_a_finished_child_are_gone(tmp_path):
    store = Folder(tmp_path)
    child(store, "one", [])
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {
        "outcome.one.json",
        "outcome.one.table.0.parquet",
    }  # the mark and the record have one name in two folders
    assert not store.done("one.part.0")


def test_a_child_is_harvested_once_before_its_parts_go(tmp_path):
    seen = []
    for _ in range(2):
        child(Folder(tmp_path), "one", [],
              harvest=lambda store: seen.append(store.record("mean.0")["mean"]))  # fmt: skip
    assert len(seen) == 1


def test_killed_between_harvest_and_clearing_leaves_nothing_behind(tmp_path, monkeypatch):
    from energylens.core.ports import Nested

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Nested, "clear", lambda self: (_ for _ in ()).throw(Killed()))
        child(Folder(tmp_path), "one", [])
    store = Folder(tmp_path)
    child(store, "one", [])
    assert not store.done("one.part.0")


def test_joined_tables_say_which_run_a_row_is_of(tmp_path):
    store = Folder(tmp_path)
    found = joined([child(store, "one", []), child(store, "two", [], seed=5)], "table.0")
    assert found.column_names[0] == "run" and len(found) == 2_000
    assert set(found.column("run").to_pylist()) == {"one", "two"}
