"""Text from outside is shown literally, with nothing unseen left in it."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from energylens.results.text import visible
from tests.report.records import HOSTILE


@given(st.text(max_size=300))
def test_nothing_unseen_is_left(text):
    shown = visible(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=100))
def test_plain_text_stays_as_it_is(text):
    assert visible(text) == text


def test_escapes_name_the_character():
    assert visible("a\u202eb") == "a\\u202eb"
    assert visible("\x1b[31m") == "\\x1b[31m"
    assert visible("\U000e0001") == "\\U000e0001"
    assert visible("\ud800") == "\\ud800"
    assert visible("one\ntwo\t") == "one↵two⇥"


def test_a_long_text_is_cut_and_its_length_told():
    assert visible("x" * 5000, most=10) == "x" * 10 + "… (5,000 characters)"


def test_every_hostile_token_survives_readably():
    assert all(visible(token) for token in HOSTILE)
