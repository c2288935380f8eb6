"""The page in a real browser: quiet, inert, searchable, reachable by keyboard, whole when bare."""

from pathlib import Path

import pytest

from tests.report.records import HOSTILE
from tests.report.visit import visiting

pytestmark = pytest.mark.browser
KEY = "blocks.15.resid_post/190"


@pytest.fixture
def visit(chromium, run_dir):
    """Open the page; on leaving, it must have been quiet and must have asked for nothing."""
    return visiting(chromium, run_dir / "report.html")


def ready(page):
    page.evaluate("document.getElementById('features').scrollIntoView()")
    page.wait_for_selector("#browser[data-ready]")
    return page


def chosen(page) -> str:
    return page.inner_text("#page h3")


def names(page) -> list[str]:
    return page.locator("#rows a").all_inner_texts()


def test_hostile_tokens_are_shown_and_do_nothing(visit):
    with visit() as page:
        ready(page)
        for _ in range(17):
            page.keyboard.press("j")
        assert page.locator("script:not([type])").count() == 1
        page.fill("#search", "</script><script>")
        assert names(page), "a hostile token is found as text"
        page.fill("#search", "\\u202egnp.exe")
        assert names(page), "an override is found by its escape"
        page.hover(".tok.top >> nth=0")
        assert page.inner_text("#tip").startswith("activation")


def test_search_finds_by_token_by_id_and_by_key(visit):
    with visit() as page:
        ready(page)
        everything = page.inner_text("#found")
        assert everything.startswith("1,200 of 1,200")
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "search"
        page.keyboard.type("fiscal")
        assert page.inner_text("#found").startswith("18 of")
        for text, count in (("L15·190", 1), ("15/190", 1), (KEY, 1), ("no such token", 0)):
            page.fill("#search", text)
            assert len(names(page)) == count, text
        page.fill("#search", "L15·190")
        page.keyboard.press("Enter")
        assert chosen(page) == "L15·190"
        assert page.evaluate("location.hash") == f"#feature={KEY}"


def test_filters_narrow_the_list(visit):
    with visit() as page:
        ready(page)
        page.select_option("#site", "blocks.25.resid_post")
        page.select_option("#verdict", "repulsor")
        assert names(page) and all(name.startswith("L25·") for name in names(page))
        assert page.locator("#rows .mark.repulsor").count() == len(names(page))


def test_the_address_chooses_a_feature_and_keeps_the_choice(visit):
    with visit(f"#feature={KEY}") as page:
        page.wait_for_selector("#browser[data-ready]")
        assert chosen(page) == "L15·190"
        assert page.locator("#rows tr.chosen a").inner_text() == "L15·190"
        page.click("#rows tr >> nth=0")
        first = chosen(page)
        assert first != "L15·190"
        page.go_back()
        page.wait_for_function("() => document.querySelector('#page h3').textContent === 'L15·190'")


@pytest.mark.parametrize("place", ["#feature=nothing/7", "#feature=%", "#feature=__proto__/1"])
def test_an_address_of_nothing_is_no_error(visit, place):
    with visit(place) as page:
        ready(page)
        assert chosen(page) == names(page)[0]


def test_j_and_k_walk_the_list(visit):
    with visit() as page:
        ready(page)
        order = names(page)
        assert chosen(page) == order[0]
        page.keyboard.press("j")
        page.keyboard.press("j")
        assert chosen(page) == order[2]
        page.keyboard.press("k")
        assert chosen(page) == order[1]
        for _ in range(5):
            page.keyboard.press("k")
        assert chosen(page) == order[0]


def test_columns_sort_both_ways_with_the_undefined_last(visit, records):
    with visit() as page:
        ready(page)
        efas = "#sorts th[data-name=efas]"
        for way, sign in (("descending", -1), ("ascending", 1)):
            page.click(f"{efas} button")
            assert page.get_attribute(efas, "aria-sort") == way
            whole = records.table("features").rows
            values = walked_through(page, whole)
            known = [sign * value for value in values if value is not None]
            assert len(values) == whole
            assert known == sorted(known)
            assert None not in values[: len(known)]


# A list hears of its scroll when the next frame is drawn.
SCROLLED = """(top) => new Promise((done) => {
  $('list').scrollTop = top;
  requestAnimationFrame(() => requestAnimationFrame(done));
})"""


def walked_through(page, whole: int) -> list[float | None]:
    """The EFAS of every row, by scrolling through the list; few rows are in the page at a time."""
    found: dict[int, float | None] = {}
    at = 0
    while len(found) < whole and at < 200:
        page.evaluate(SCROLLED, at * page.evaluate("$('list').clientHeight"))
        rows = page.evaluate(ROWS)
        assert len(rows) < 100
        found |= dict(rows)
        at += 1
    return [found[row] for row in range(whole)]


ROWS = (
    "[...document.querySelectorAll('#rows tr')].map((row) => [+row.dataset.at, row.feature.efas])"
)


def test_only_the_rows_that_are_seen_are_in_the_page(visit):
    with visit() as page:
        ready(page)
        size = page.evaluate("$('list').scrollHeight")
        page.evaluate(SCROLLED, 1e6)
        assert page.locator("#rows tr").count() < 100
        assert abs(page.evaluate("$('list').scrollHeight") - size) < 40
        assert page.evaluate("$('list').scrollTop + $('list').clientHeight") >= size - 1
        last = page.locator("#rows tr").last
        assert last.get_attribute("data-at") == "1199"
        name = last.locator("a").inner_text()
        last.click()
        page.wait_for_function(
            "name => document.querySelector('#page h3').innerText === name", arg=name
        )


def test_a_list_that_scrolls_under_a_press_loses_no_click(visit):
    with visit() as page:
        ready(page)
        height = page.evaluate("$('list').scrollTop = 0, $('rows').children[0].offsetHeight")
        page.evaluate(SCROLLED, 20 * height - 1)
        row = page.locator("#rows tr[data-at='22']")
        name = row.locator("a").inner_text()
        first = "Number($('rows').firstElementChild.dataset.at)"
        before = page.evaluate(first)
        row.hover()
        page.mouse.down()
        page.evaluate(SCROLLED, 20 * height + 1)
        assert page.evaluate(first) == before + 1, "other rows are drawn than when it was pressed"
        page.mouse.up()
        assert chosen(page) == name


def test_a_feature_without_a_page_says_so(visit):
    with visit("#feature=blocks.5.resid_post/0") as page:
        page.wait_for_selector("#browser[data-ready]")
        assert "No contexts were kept" in page.inner_text("#page")
        assert "Undefined: too few active." in page.inner_text("#page") or (
            "Undefined: dead." in page.inner_text("#page")
        )


def test_the_tint_of_a_token_is_its_activation(visit):
    with visit(f"#feature={KEY}") as page:
        page.wait_for_selector("#browser[data-ready]")
        shades = page.evaluate(
            "[...document.querySelectorAll('#page .context')[0].querySelectorAll('.tok')]"
            ".map((token) => Number(token.style.getPropertyValue('--active')))"
        )
        assert max(shades) == 1 and shades.index(1) == 20  # the planted peak is in the middle
        assert min(shades) == 0


def test_the_peak_stands_in_the_middle_of_its_line(visit):
    with visit(f"#feature={KEY}") as page:
        page.wait_for_selector("#browser[data-ready]")
        off = page.evaluate(
            "[...document.querySelectorAll('#page .line')].map((line) => {"
            "const box = line.getBoundingClientRect();"
            "const peak = line.querySelector('.peak').getBoundingClientRect();"
            "return Math.abs(box.left + box.right - peak.left - peak.right) / 2; })"
        )
        assert len(off) == 20 and max(off) < 1


def test_a_point_of_the_volcano_opens_its_feature(visit):
    with visit() as page:
        svg = page.locator("#volcano .drawing.live")
        svg.focus()
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#tip").startswith("L")
        page.keyboard.press("Enter")
        page.wait_for_selector("#browser[data-ready]")
        assert chosen(page) == names(page)[0], "the surest feature is the first mark"


def test_pointing_at_a_drawn_point_names_it(visit):
    with visit() as page:
        page.locator("#calibration").scroll_into_view_if_needed()
        page.wait_for_selector("#calibration .drawing.live")
        box = page.locator("#calibration use[fill='var(--accent)'] >> nth=0").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert "intervention" in page.inner_text("#tip")
        page.mouse.move(0, 0)
        assert page.locator("#tip").is_hidden()


def test_copying_gives_the_whole_table_as_csv(visit, records):
    with visit() as page:
        page.evaluate(
            "navigator.clipboard.writeText = async (text) => { window.copied = text; }; null"
        )
        page.click("[data-copy=volcano]")
        page.wait_for_function("() => window.copied !== undefined")
        lines = page.evaluate("window.copied").splitlines()
        assert lines[0].startswith("name,site,layer,feature,efas,low,high,t,p,q,p_max_t")
        assert len(lines) == 1 + records.table("features").rows
        assert page.inner_text("[data-copy=volcano]") == "Copied"


def test_csv_cells_are_quoted_and_run_nothing(visit):
    with visit() as page:
        table = {"columns": [{"name": "a,b"}, {"name": "c"}],
                 "cells": [['say "x"', "=1+1"], [None, -2.5]]}  # fmt: skip
        assert page.evaluate("(table) => csv(table)", table) == (
            '"a,b",c\n"say ""x""",\n' + "'=1+1,-2.5\n"
        )


def test_the_table_view_opens(visit):
    with visit() as page:
        details = page.locator("#depth details")
        assert not details.locator("table").is_visible()
        details.locator("summary").press("Enter")
        assert details.locator("tbody tr").count() == 15


def test_numbers_of_the_script_are_those_of_the_prose(visit):
    from energylens.results.format import interval, number, p_value

    values = [0.2184, -31.07, 3790, 0.05, 0.3, 12.5, 0.00012, 1.23e-7, 0, 1.0]
    with visit() as page:
        said = page.evaluate("(values) => values.map((v) => number(v))", values)
        assert said == [number(value) for value in values]
        chances = page.evaluate("[0.00004, 0.0312, 0.3, 1].map(relation)")
        assert chances == [p_value(p) for p in (0.00004, 0.0312, 0.3, 1.0)]
        for triple in ((0.2184, 0.1712, 0.2633), (31.07, 27.2, 35.1), (-0.013, -0.04, 0.014)):
            ours = page.evaluate("([v, l, h]) => interval(v, l, h, false)", list(triple))
            assert ours == interval(*triple)


def test_everything_is_reachable_by_keyboard_alone(visit):
    with visit() as page:
        ready(page)
        unreachable = page.evaluate(
            "[...document.querySelectorAll('a, button, input, select, summary')]"
            ".filter((e) => e.tabIndex < 0 && !e.closest('#rows')).length"
        )
        assert unreachable == 0
        # Of the list the Tab key meets the chosen one; arrows walk on.
        assert page.locator("#rows a[tabindex='0']").count() == 1
        order = names(page)
        page.focus("#rows a[tabindex='0']")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowUp")
        assert chosen(page) == order[1]
        assert page.evaluate("document.activeElement.textContent") == order[1]
        page.focus("#sorts th[data-name=density] button")
        page.keyboard.press("Enter")
        assert page.get_attribute("#sorts th[data-name=density]", "aria-sort") == "descending"


def test_without_scripts_the_paper_remains(visit, tmp_path):
    with visit(java_script_enabled=False) as page:
        assert page.locator("h1").is_visible()
        assert page.locator(".card").count() == 5
        assert page.locator("figure .drawing").count() == 26
        assert page.locator(".still tbody tr").count() == 30
        assert page.locator("#browser").is_hidden()
        assert page.locator("[data-copy]:visible").count() == 0
        page.screenshot(path=tmp_path / "without-scripts.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_the_window_in_both_schemes(visit, scheme, width, tmp_path):
    screen = {"width": width, "height": 900}
    with visit(color_scheme=scheme, viewport=screen) as page:
        ready(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=tmp_path / f"{scheme}-{width}.png", full_page=True)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(252, 252, 251)", "dark": "rgb(22, 24, 27)"}[scheme]


def test_a_phone_shows_the_list_then_the_page(visit, tmp_path):
    with visit(viewport={"width": 400, "height": 800}) as page:
        ready(page)
        assert page.locator("#list").is_visible() and page.locator("#page").is_hidden()
        page.click("#rows tr >> nth=2")
        page.locator("#page").wait_for(state="visible")
        assert page.locator("#list").is_hidden()
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        page.screenshot(path=tmp_path / "phone.png")
        page.click(".back")
        assert page.locator("#list").is_visible()


def test_it_prints(visit, tmp_path):
    with visit() as page:
        ready(page)
        page.emulate_media(media="print")
        assert page.locator(".still").is_visible() and page.locator("#browser").is_hidden()
        content = page.pdf(path=Path(tmp_path / "page.pdf"), prefer_css_page_size=True)
        assert content.startswith(b"%PDF")


def test_it_opens_fast(visit):
    with visit() as page:
        shown = page.evaluate(
            "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
        )
        assert shown < 1500


def test_the_hostile_list_is_long_enough():
    assert len(set(HOSTILE)) >= 16
