"""What deserves a second look is found where it is planted, and said to be nothing elsewhere."""

from dataclasses import replace

import numpy as np
import pytest

from energylens.report.oddities import looked
from energylens.report.records import Records, Table

ROWS = 60


def features(**columns) -> Table:
    rng = np.random.default_rng(0)
    cells = {
        "site": ["blocks.0.resid_post"] * (ROWS // 2) + ["blocks.1.resid_post"] * (ROWS // 2),
        "status": ["scored"] * ROWS, "efas": rng.uniform(-0.9, 0.9, ROWS),
        "density": rng.uniform(0, 0.1, ROWS), "replicated": np.full(ROWS, np.nan),
        "n_active": np.full(ROWS, 7.0),
    }  # fmt: skip
    return Table(name="features", columns=cells | columns, rows=ROWS)


def met(table: Table):
    records = Records(run={"seeds": [0]}, summary={}, tables={"features": table})
    return {check.name: check for check in looked(records)}


TIES, FEW, DEAD = "ties", "features with too few active tokens or documents", "dead features"
BOUND, CONSTANT = "correlations beyond 0.999 in size", "columns with one value throughout"
UNDEFINED, HALVES = "columns without a defined value", "halves of the documents that disagree"


def test_ordinary_features_have_nothing_odd():
    found = met(features(replicated=np.tile([0.0, 1.0, 1.0], ROWS // 3)))
    assert not [name for name, check in found.items() if check.odd]
    assert found[TIES].found == "none of 60 features have the EFAS of another"
    assert found[HALVES].found == "20 of 60 discoveries not found in each half alone"
    assert found["seeds that disagree"].verdict == "not looked at"
    assert found[TIES].verdict == "nothing odd"


@pytest.mark.parametrize(
    ("name", "columns", "words"),
    [
        (TIES, {"efas": np.r_[[0.25, 0.25, 0.25], np.linspace(-0.5, 0.2, ROWS - 3)]}, "3 of 60"),
        (BOUND, {"efas": np.r_[[-1.0], np.linspace(-0.5, 0.2, ROWS - 1)]}, "efas: 1 of 60"),
        (CONSTANT, {"density": np.full(ROWS, 0.5)}, "features.density = 0.5"),
        (UNDEFINED, {"density": np.full(ROWS, np.nan)}, "features.density"),
        (DEAD, {"status": ["dead"] * 20 + ["scored"] * 40}, "20 of 60; more than 50 % at blocks.0"),
        (FEW, {"status": ["too few active"] * 30 + ["scored"] * 30}, "30 of 60; more than 80 %"),
        (HALVES, {"replicated": np.r_[np.zeros(5), np.full(ROWS - 5, np.nan)]}, "5 of 5"),
    ],
)  # fmt: skip
def test_what_is_planted_is_met_and_named(name, columns, words):
    check = met(features(**columns))[name]
    assert check.odd and words in check.found


def test_counts_and_plans_may_have_one_value():
    assert "n_active" not in met(features())[CONSTANT].found


def test_many_columns_are_counted_rather_than_all_named():
    many = {f"x{i}": np.ones(ROWS) for i in range(9)}
    found = met(features(**many))[CONSTANT].found
    assert found.count("features.x") == 6 and found.endswith("and 3 more")


def test_a_run_without_tables_has_no_checks_but_the_seeds(records):
    bare = replace(records, tables={})
    assert [check.name for check in looked(bare)] == ["seeds that disagree"]


def test_the_page_says_every_check(html, records):
    for check in looked(records):
        assert f'<th scope="row">{check.name}</th>' in html
