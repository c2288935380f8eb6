"""Case studies say what the tables say, and no more."""

from dataclasses import replace

import numpy as np

from energylens.report.cases import CASES, cases
from energylens.report.feature_table import by_strength, names
from energylens.report.records import Records
from energylens.results.format import interval


def test_the_surest_features_are_told_in_order(records):
    found = cases(records)
    strongest = by_strength(records.table("features"))
    assert [case.name for case in found] == names(strongest)[:CASES]
    efas, low, high = (float(strongest.number(name)[0]) for name in ("efas", "low", "high"))
    assert interval(efas, low, high, signed=True) in found[0].sentences[0]
    assert any("descents end at another token" in line for line in found[0].sentences)


def test_what_is_not_on_record_is_not_told(records):
    bare = {name: table for name, table in records.tables.items()
            if name in ("features", "featured", "contexts")}  # fmt: skip
    silent = bare["featured"].columns | {
        name: np.full(bare["featured"].rows, np.nan)
        for name in ("ablation_measured", "shift_states")
    }
    bare["featured"] = replace(bare["featured"], columns=silent)
    found = cases(replace(records, tables=bare))
    text = " ".join(line for case in found for line in case.sentences)
    assert len(found) == CASES and "EFAS" in text
    for word in ("Ablating", "descents", "tasks", "nan"):
        assert word not in text


def test_no_features_no_cases():
    assert cases(Records(run={}, summary={})) == []
