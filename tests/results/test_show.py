"""What a result shows of itself: safe whatever the text, legible on any page, beside its null."""

import math
import re
from html.parser import HTMLParser

import pytest

from energylens.report.palette import contrast
from energylens.results.record import Control, Estimate, Summary
from energylens.results.show import ACCENT, Bar, Row, Shown, on_one_scale
from tests.report.records import HOSTILE

FOUND = Estimate(0.84, "correlation", low=0.69, high=0.92, null_mean=0.0, null_sd=0.1, p=0.0001,
                 n=18, n_unit="features", label="Calibration")  # fmt: skip
ALLOWED = {"div", "p", "table", "tbody", "tr", "th", "td", "svg", "rect", "line", "circle"}
ATTACK = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>\x1b[2J\u202e"


class Parts(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.said = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if not self.get_starttag_text().endswith("/>"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("rect", "line", "circle"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.said += data


@pytest.mark.parametrize("text", [*HOSTILE, ATTACK])
def test_hostile_text_stays_text(text):
    bar = Bar(value=1, low=0, high=2, null_low=-1, null_high=1)
    row = Row(label=text, value=text, bar=bar, told=(text,))
    shown = Shown(caption=text, says=text, rows=[row], notes=[text])
    parts = Parts(shown.html())
    assert set(parts.tags) <= ALLOWED and not parts.open
    assert not [a for a in parts.attributes if a.startswith("on") or a in ("src", "href")]
    for told in (parts.said, shown.text()):
        assert not {"\x1b", "\u202e", "\x00"} & set(told)


def test_hostile_records_stay_text():
    control = Control(label=ATTACK, value=1, expected=1, passed=True, sentence=ATTACK)
    summary = Summary(study="s", subject=ATTACK, finding=ATTACK, figures={"a": FOUND},
                      controls={"c": control}, limits=(ATTACK,))  # fmt: skip
    html = summary._repr_html_()
    assert set(Parts(html).tags) <= ALLOWED
    assert "<script" not in html and "&lt;script" in html


def test_an_estimate_is_one_line_with_its_null():
    assert repr(FOUND) == (
        "Calibration  .84 correlation  95 % [.69, .92], null .00 ± .1, p < .001, n = 18 features"
    )


def test_a_number_without_a_null_says_so():
    assert repr(Estimate(3.0, "nats", label="loss")) == "loss  3 nats  no null"
    assert "no null" in Estimate(3.0, "nats")._repr_html_()
    assert "<rect" not in Estimate(3.0, "nats")._repr_html_()
    assert "<rect" in FOUND._repr_html_()


def test_the_undefined_is_told_and_not_drawn():
    nothing = Estimate(math.nan, "nats", label="loss", undefined=7)
    assert repr(nothing) == "loss  undefined  no null, 7 undefined"
    assert "<svg" not in nothing._repr_html_()


def test_a_summary_shows_finding_figures_controls_and_limits():
    control = Control(label="Permuted", value=9, expected="≤ 5", passed=False, sentence="9 found.")
    shown = repr(Summary(
        study="energy-lens", subject="tiny", finding="Two.", grade="control",
        figures={"a": FOUND, "b": FOUND}, cards=("a",), controls={"c": control}, limits=("Few.",),
    ))  # fmt: skip
    for said in ("energy-lens: tiny", "Two.", "null .00 ± .1", "FAILED", "9 found.", "Few.",
                 "1 more", "control only"):  # fmt: skip
        assert said in shown
    assert shown.count("Calibration") == 1


def test_bars_of_one_unit_share_a_scale():
    near, far = on_one_scale([Bar(value=1, low=0, high=2), Bar(value=10, null_low=0, null_high=1)])
    assert (far.value - near.value) / (near.high - near.low) == pytest.approx(9 / 2)
    assert math.isnan(near.null_low)
    alone = on_one_scale([Bar(value=3.0)])[0]
    assert alone.value == 4
    rows = [Row(label="a", value="1", bar=Bar(value=0.0, low=0.0, high=1.0)),
            Row(label="b", value="9", bar=Bar(value=9.0))]  # fmt: skip
    assert 'cx="192.0"' in Shown(rows=rows, one_scale=True).html()
    assert 'cx="8.0"' in Shown(rows=rows[1:]).html()


@pytest.mark.parametrize("paper", ["#ffffff", "#1e1e1e", "#111111"])
def test_the_one_colour_is_seen_on_white_and_on_black(paper):
    assert contrast(ACCENT, paper) >= 3
    inks = set(re.findall(r"(?:color|fill|stroke)[:=]\"?([#\w]+)", FOUND._repr_html_()))
    assert inks == {ACCENT, "currentColor", "inherit"}
