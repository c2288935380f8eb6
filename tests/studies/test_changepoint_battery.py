"""The battery as a study: killed, resumed, its tables as described, its figures drawn."""

import pyarrow.parquet as pq
import pytest

from energylens.dynamics import battery
from energylens.report.page import build
from energylens.run.execute import execute
from energylens.studies.changepoint_battery import ChangepointBattery
from energylens.studies.changepoint_battery.tables import roc_rows, verdict_rows
from tests.common.run_directory import columns_there, described_tables

DETECTORS = ("energylens", "global_z", "ndtracker", "pelt")
KINDS = {"step", "noise", "ar1_60"}
TABLES = ("battery", "battery_verdicts", "battery_roc", "battery_examples")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run that was killed on the way and taken up again."""

    class Killed(BaseException):
        pass

    def kill(line: str) -> None:
        if line.startswith("null"):
            raise Killed

    monkeypatch = pytest.MonkeyPatch()
    for name in ("planted", "nulls"):
        whole = getattr(battery, name)
        monkeypatch.setattr(
            f"energylens.studies.changepoint_battery.work.{name}",
            lambda samples, whole=whole: {
                k: draw for k, draw in whole(samples).items() if k in KINDS
            },
        )
    options = ChangepointBattery(samples=120, quick=True, draws=99, workers=1)
    out = tmp_path_factory.mktemp("battery") / "out"
    with pytest.raises(Killed):
        execute("changepoint-battery", options, out, say=kill)
    said: list[str] = []
    summary = execute("changepoint-battery", options, out, say=said.append).summary
    page = build(out).read_text(encoding="utf-8")
    monkeypatch.undo()
    return out, summary, page, said


def test_a_killed_run_goes_on_where_it_was(finished):
    said = finished[3]
    assert not any(line.startswith("planted") for line in said)
    assert sum(line.startswith("null") for line in said) == 2


def test_figures_have_the_names_that_are_promised(finished):
    figures = finished[1].figures
    for name in DETECTORS:
        quiet = {f"false_alarms_per_1000.{name}.{case}" for case in ("noise", "ar1_60")}
        assert {f"recall.{name}.step", f"valid.{name}"} | quiet <= set(figures)
    assert figures["valid.energylens"].value == 1
    assert [figures[f"valid.{name}"].value for name in DETECTORS[1:]] == [0, 0, 0]
    assert figures["recall.energylens.step"].value >= 0.9
    assert figures["recall.energylens.step"].null_mean < 0.5
    assert figures["false_alarms_per_1000.energylens.ar1_60"].value <= 2


def test_tables_are_as_described(finished):
    described, there = described_tables(), columns_there(finished[0])
    assert set(there) == set(TABLES)
    for name in TABLES:
        assert there[name] == described[name]
    rows = pq.read_table(finished[0] / "tables/battery.parquet").to_pylist()
    assert len(rows) == len(DETECTORS) * len(KINDS)
    assert all(row["found"] <= row["n_jumps"] for row in rows)


def test_the_page_shows_verdict_curve_and_examples(finished):
    page = finished[2]
    for name in ("battery", "battery_roc"):
        assert f'id="{name}' in page or f"{name}-0" in page
    assert "method-battery" in page


def test_a_detector_is_valid_by_its_worst_kind_alone():
    rows = [
        {"detector": "a", "kind": kind, "case": case, "recall": recall, "per_1000": rate}
        for kind, case, recall, rate in (
            ("planted", "one", 1.0, 0.0), ("planted", "two", 0.7, 9.0),
            ("null", "quiet", float("nan"), 0.0), ("null", "loud", float("nan"), 1.9))
    ]  # fmt: skip
    (verdict,) = verdict_rows(rows)
    assert not verdict["valid"] and verdict["least_recall_case"] == "two"
    rows[1]["recall"] = 0.75
    assert next(verdict_rows(rows))["valid"]
    rows[3]["per_1000"] = 2.1
    assert not next(verdict_rows(rows))["valid"]


def test_a_curve_has_means_and_worst_cases():
    looks = [
        {"detector": "a", "threshold": 2.0, "unit": "z", "kind": kind, "case": case,
         "n_jumps": jumps, "found": found, "false_alarms": false, "n_samples": 1000}
        for kind, case, jumps, found, false in (
            ("planted", "one", 10, 10, 0), ("planted", "two", 10, 5, 0),
            ("null", "quiet", 0, 0, 1), ("null", "loud", 0, 0, 5))
    ]  # fmt: skip
    (row,) = roc_rows(looks)
    assert (row["recall"], row["recall_least"]) == (0.75, 0.5)
    assert (row["per_1000"], row["per_1000_most"]) == (3.0, 5.0)
