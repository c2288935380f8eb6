"""Cards: a value, its interval and its null on one scale; none without its null."""

import pytest

from energylens.report.cards import cards

FIGURE = {
    "value": 0.84, "unit": "correlation", "low": 0.69, "high": 0.92, "null_mean": 0.0,
    "null_sd": 0.1, "p": 0.0001, "n": 18, "n_unit": "features", "label": "Calibration", "note": "",
}  # fmt: skip


def one(**changes):
    return cards({"figures": {"a": FIGURE | changes}, "cards": ["a"]})


def test_places_are_in_proportion():
    (card,) = one()
    bar = card.bar
    assert bar.null_low < bar.null_high < bar.low < bar.value < bar.high
    scale = (bar.high - bar.low) / (0.92 - 0.69)
    assert (bar.null_high - bar.null_low) / scale == pytest.approx(2 * 1.96 * 0.1)
    assert (bar.value - bar.low) / scale == pytest.approx(0.15)


def test_the_bar_is_also_told_in_words():
    (card,) = one()
    assert card.value == ".84"
    assert card.told == ("95 % [.69, .92]", "null .00 ± .1", "p < .001", "n = 18 features")


def test_a_count_is_told_of_how_many():
    (card,) = one(value=19, low=12, high=27, unit="features", n=3790)
    assert (card.value, card.unit) == ("19", "of 3,790 features")


@pytest.mark.parametrize("missing", ["value", "null_mean"])
def test_no_card_without_value_or_null(missing):
    assert one(**{missing: None}) == []


def test_a_null_without_spread_is_still_seen():
    (card,) = one(null_sd=None)
    assert card.bar.null_high - card.bar.null_low == pytest.approx(2)


def test_unknown_names_are_no_cards():
    assert cards({"figures": {}, "cards": ["a"]}) == cards({}) == []
