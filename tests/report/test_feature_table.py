"""The table of features: the surest first, with names, verdicts and peaks in words."""

import numpy as np

from energylens.report.feature_table import by_strength, columns, peak_tokens, verdicts


def test_the_surest_come_first_and_the_undefined_last(records):
    ordered = by_strength(records.table("features"))
    p, t = ordered.number("p_max_t"), np.abs(ordered.number("t"))
    known = int(np.isfinite(p).sum())
    assert np.isfinite(p[:known]).all() and not np.isfinite(p[known:]).any()
    assert (np.diff(p[:known]) >= 0).all()
    ties = np.flatnonzero(np.diff(p[:known]) == 0)
    assert len(ties) and (t[ties] >= t[ties + 1]).all()


def test_nothing_is_dropped(records):
    features = records.table("features")
    table = columns(by_strength(features))
    assert {len(column.cells) for column in table} == {features.rows}
    names = next(column.cells for column in table if column.name == "name")
    assert len(set(names)) == features.rows


def test_an_undefined_verdict_has_its_reason(records):
    found = set(verdicts(records.table("features")))
    assert {"undefined: dead", "undefined: too few active", "attractor"} <= found


def test_the_peak_token_is_the_most_frequent_one_of_the_top_contexts(records):
    assert set(peak_tokens(records.table("contexts")).values()) == {"year"}
    assert peak_tokens(None) == {}
