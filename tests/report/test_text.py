"""Counts in words."""

from energylens.results.format import several


def test_counts_take_their_noun():
    assert [several(n, "site") for n in (0, 1, 2000)] == ["no sites", "1 site", "2,000 sites"]
