"""Many trainings on the page: the dashboard, the families, a page and a file for each training."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure as Canvas

from energylens.report.figure_files import write_figures
from energylens.report.figures import figures
from energylens.report.page import build
from energylens.report.records import read
from energylens.report.runs_explorer import COLUMNS, runs_explorer
from tests.common.compare import assert_close
from tests.report.test_explorer import unpacked
from tests.report.training_records import QUIET, RUNS, SAMPLES, hypotheses, write_training_run
from tests.report.visit import visiting


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = write_training_run(tmp_path_factory.mktemp("trainings") / "run")
    pq.write_table(hypotheses(), made / "tables/hypotheses.parquet")
    build(made)
    return made


def by_name(folder):
    return {figure.name: figure for figure in figures(read(folder))}


def test_the_dashboard_has_ten_panels_and_counts_what_the_tables_hold(folder):
    dashboard = by_name(folder)["training_dashboard"]
    assert len(dashboard.panels) == 10
    columns = {column.name: column.cells for column in dashboard.columns}
    layers = [depth for _, _, depth in RUNS]
    assert list(columns["series"]) == [2 * depth for depth in layers]
    wanted = [0 if at == QUIET else 2 * depth for at, depth in enumerate(layers)]
    assert list(columns["events"]) == wanted
    thirds = np.sum([columns[name] for name in ("early", "middle", "late")], axis=0)
    assert list(thirds) == wanted
    assert f"{sum(wanted)} events in {2 * sum(layers)} series;" in dashboard.answer


def test_a_family_without_events_is_named(folder):
    families = by_name(folder)["training_families"]
    assert len(families.panels) == 4
    assert "None in 1 family: CNN." in families.answer


def test_statements_are_counted_by_verdict(folder):
    told = by_name(folder)["training_hypotheses"].answer
    assert told == "Of 2 statements: 1 not beyond the null, 1 supported."


def test_what_is_claimed_of_several_measures_is_drawn_with_its_measure(tmp_path):
    made = write_training_run(tmp_path / "run")
    rows = hypotheses(("supported",) * 3).to_pylist()
    rows[1] |= {"hypothesis": rows[0]["hypothesis"], "measure": "participation_ratio"}
    pq.write_table(pa.Table.from_pylist(rows), made / "tables/hypotheses.parquet")
    (panel,) = by_name(made)["training_hypotheses"].panels
    axes = Canvas().subplots()
    panel.draw(axes)
    claim = rows[0]["hypothesis"]
    assert lanes(axes) == [
        "order", f"{claim}, stable rank", f"{claim}, participation ratio", rows[2]["hypothesis"],
    ]  # fmt: skip


def lanes(axes):
    """What stands beside the axis, from above."""
    labels = zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    return [
        label.get_text().replace("\n", " ") for _, label in sorted(labels, key=lambda at: at[0])
    ]


def test_statements_of_one_question_stand_under_it(tmp_path):
    made = write_training_run(tmp_path / "run")
    rows = hypotheses(("supported",) * 4).to_pylist()
    for row, question in zip(rows, ("when", "why", "when", "why"), strict=True):
        row["question"] = question
    pq.write_table(pa.Table.from_pylist(rows), made / "tables/hypotheses.parquet")
    (panel,) = by_name(made)["training_hypotheses"].panels
    axes = Canvas().subplots()
    marks = panel.draw(axes)
    names = [row["hypothesis"] for row in rows]
    assert lanes(axes) == ["when", names[0], names[2], "why", names[1], names[3]]
    assert marks.rows.tolist() == [0, 2, 1, 3]
    assert marks.y.tolist() == [1, 2, 4, 5]


def test_without_events_the_page_says_so(tmp_path):
    quiet = write_training_run(tmp_path / "quiet", events=False)
    found = by_name(quiet)
    assert "No change of any series is beyond its null." in found["training_dashboard"].answer
    assert "training_families" not in found
    build(quiet)


def test_the_browser_holds_every_training_with_its_map(folder):
    data = {one.name: unpacked(one) for one in runs_explorer(read(folder)).data}
    assert data["index"]["events"][QUIET] == 0
    one = data["run-1"]
    assert [m["key"] for m in one["measures"]] == ["stable_rank", "participation_ratio"]
    own = [
        row["participation_ratio"]
        for row in pq.read_table(folder / "tables/measurements.parquet").to_pylist()
        if row["run"] == RUNS[1][0] and row["site"] == "layers.2"
    ]
    got = one["measures"][1]["values"][2]
    assert len(got) == min(COLUMNS, SAMPLES)
    assert_close(np.array(got), np.array(own), rtol=2e-4)
    assert one["measures"][0]["values"][2][11] is None, "what was not measured is not drawn"


def test_each_training_has_a_file_of_its_own(folder):
    write_figures(folder)
    names = {path.name for path in (folder / "figures").glob("run-*.png")}
    assert "run-1-mlp_deep_10_digits.png" in names
    assert len(names) == len(RUNS)


@pytest.mark.browser
def test_a_training_is_opened_by_its_address(folder, chromium):
    with visiting(chromium, folder / "report.html")(f"#training={RUNS[1][0]}/1") as page:
        page.wait_for_selector("#page h3")
        assert page.inner_text("#page h3") == RUNS[1][0]
        assert page.locator("#page svg.map").count() == 2
        assert page.locator("#page .event").count() == 2 * RUNS[1][2]
        assert page.locator("#rows tr").count() == len(RUNS)


def test_types_are_told_in_words_that_fit_their_panel(tmp_path):
    made = write_training_run(tmp_path / "run")
    told = "late (74 % of training), middling (0.16), of middling speed (0.0034 a step), near the"
    pq.write_table(
        pa.table({"type": [0, 1], "description": [f"{told} output (depth 0.76)", "early, small"]}),
        made / "tables/jump_types.parquet",
    )
    dashboard = by_name(made)["training_dashboard"]
    (panel,) = (panel for panel in dashboard.panels if panel.label == "Of what type?")
    axes = Canvas().subplots()
    panel.draw(axes)
    lines = [label.get_text().split("\n") for label in axes.get_yticklabels()]
    assert " ".join(lines[0]) == "late, middling, of middling speed, near the output"
    assert max(len(line) for some in lines for line in some) <= 22
    assert any("jump_types.parquet" in note for note in dashboard.notes)


@pytest.mark.browser
def test_an_event_that_could_lie_anywhere_is_not_dated(tmp_path, chromium):
    made = write_training_run(tmp_path / "run")
    there = pq.read_table(made / "tables/jumps.parquet")
    rows = there.to_pylist()
    mine = [row for row in rows if row["run"] == RUNS[1][0]]
    mine[0] |= {"low": 20, "high": 470, "phase": math.nan}
    pq.write_table(pa.Table.from_pylist(rows, schema=there.schema), made / "tables/jumps.parquet")
    build(made)
    dashboard, families = (by_name(made)[f"training_{name}"] for name in ("dashboard", "families"))
    for figure in (dashboard, families):
        assert "1 event without a date left out of when" in figure.notes
    assert "of those with a date in the first third" in dashboard.answer
    at = {column.name: column.cells for column in dashboard.columns}
    parts = [sum(at[part][row] for part in ("early", "middle", "late")) for row in range(len(RUNS))]
    assert [events - dated for events, dated in zip(at["events"], parts, strict=True)] == [
        int(row == 1) for row in range(len(RUNS))
    ]
    with visiting(chromium, made / "report.html")(f"#training={RUNS[1][0]}/1") as page:
        page.wait_for_selector("#page h3")
        assert page.locator("#page .event.open").count() == 1
        assert "hollow: 1 that could lie" in page.inner_text("#page")
        page.hover("#page .event.open path")
        assert "some step (20 to 470)" in page.inner_text("#tip")
