"""The browser of a whole dictionary: found as one types, a few rows in the page, nothing lost."""

import numpy as np
import pytest

from energylens.core.errors import ArtifactRefused
from energylens.report import dictionary_explorer as module
from energylens.report.dictionary_explorer import dictionary_explorer
from energylens.report.page import build
from energylens.report.records import Records, read
from tests.report.browse_records import (
    CONTEXTS,
    FEATURES,
    MARKED,
    PEAK,
    SILENT,
    SITE,
    write_browse_run,
)
from tests.report.test_explorer import unpacked
from tests.report.visit import visiting


@pytest.fixture(scope="module")
def browse_run(tmp_path_factory):
    folder = write_browse_run(tmp_path_factory.mktemp("browse") / "a run")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def browsed(browse_run):
    return read(browse_run)


def packed(records: Records):
    return {one.name: unpacked(one) for one in dictionary_explorer(records).data}


@pytest.mark.browser
def test_typing_on_and_back_finds_what_a_fresh_search_finds(visit):
    with visit() as page:
        ready(page)
        found = {}
        for text in ("t", "th", "the", "the f", "the fi", "the f", "the", "th", "t", "", "the"):
            page.fill("#search", text)
            count = page.inner_text("#found").split(" ")[0]
            assert found.setdefault(text, count) == count, text
        assert len(set(found.values())) > 3


def test_nothing_is_lost_in_packing(browsed, browse_run):
    import pyarrow.parquet as pq

    data = packed(browsed)
    index, words = data["index"], data["index"]["words"]
    columns = index["columns"]
    assert len(columns["density"]) == FEATURES
    for row in (1, MARKED, FEATURES - 1):
        block = data[f"features-{row // index['block']}"]
        at = row % index["block"]
        own = pq.read_table(browse_run / "tables/browse_contexts.parquet",
                            filters=[("feature", "=", row)]).to_pylist()  # fmt: skip
        assert len(own) == len(block["contexts"][at]) == CONTEXTS
        for there, (group, place, first, peak, steps) in zip(
            own, block["contexts"][at], strict=True
        ):
            assert (there["group"], there["first"], there["peak"]) == (group, first, peak)
            document, _, tokens = data[f"windows-{place // index['windows']}"][
                place % index["windows"]
            ]
            assert index["documents"][document].startswith(("document", "</script>"))
            assert len(tokens) == 40
            real = np.array(there["activation"])
            assert (
                np.abs(np.array(steps) / index["steps"] * 4.0 - real).max() <= 4.0 / 255 / 2 + 1e-9
            )
            assert ((np.array(steps) > 0) == (real > 0)).all(), "what is active is never blank"
    assert words[columns["peak"][MARKED]] == " zeugma"
    assert not any(data["features-0"]["contexts"][0]), "a silent feature has none"


def test_contexts_that_do_not_fit_are_left_out_and_said(browsed, monkeypatch):
    size = sum(len(one.text) for one in dictionary_explorer(browsed).data)
    monkeypatch.setattr(module, "MOST_PACKED_BYTES", size - 1)
    fewer = dictionary_explorer(browsed)
    assert sum(len(one.text) for one in fewer.data) < size
    assert "Only the first 3 contexts of each fitted" in fewer.note


def test_blocks_come_in_order_and_hold_what_is_theirs(browsed):
    found = list(browsed.stored["browse_contexts"].blocks("feature", 700, "rank"))
    assert [number for number, _ in found] == [0, 1, 2, 3, 4]
    for number, block in found:
        assert set((block.column("feature").to_numpy() // 700).tolist()) == {number}
    assert sum(block.num_rows for _, block in found) == (FEATURES - len(SILENT)) * CONTEXTS
    with pytest.raises(ArtifactRefused, match="has no column 'nothing'"):
        list(browsed.stored["browse_contexts"].blocks("feature", 700, "nothing"))


def test_long_tables_are_not_held(browsed):
    assert {"browse_features", "browse_contexts"} <= set(browsed.stored)
    assert set(browsed.tables) == {"browse_dictionary", "browse_labels"}


# ---- in a browser


@pytest.fixture
def visit(chromium, browse_run):
    return visiting(chromium, browse_run / "report.html")


def ready(page):
    page.evaluate("document.getElementById('features').scrollIntoView()")
    page.wait_for_selector("#browser[data-ready]")
    page.wait_for_selector("#browser[data-searchable]")
    page.wait_for_selector("#page h3", state="attached")
    return page


def names(page) -> list[str]:
    return page.locator("#rows a").all_inner_texts()


def opened(page, name: str) -> None:
    page.wait_for_function(
        "(name) => document.querySelector('#page h3').textContent === name", arg=name
    )


@pytest.mark.browser
def test_a_search_finds_by_token_by_label_and_by_number(visit):
    with visit() as page:
        ready(page)
        assert page.inner_text("#found").startswith("3,000 of 3,000 features, clearest first")
        page.keyboard.press("/")
        page.keyboard.type("zeugma")
        assert names(page)[0] == f"L7·{MARKED}", "what peaks on it comes first"
        assert page.inner_text("#found").endswith("best match first")
        page.keyboard.press("Enter")
        opened(page, f"L7·{MARKED}")
        assert page.inner_text(".tok.top >> nth=0") == " zeugma"
        page.fill("#search", str(MARKED))
        assert names(page)[0] == f"L7·{MARKED}"
        page.fill("#search", "speech")
        assert page.locator("#rows td.label").first.inner_text() == "speech"
        page.fill("#search", "no such token")
        assert names(page) == [] and page.inner_text("#found").startswith("0 of")


@pytest.mark.browser
def test_the_list_is_narrowed_by_density_and_label_and_sorted(visit):
    with visit() as page:
        ready(page)
        page.select_option("#density", "never active")
        assert page.inner_text("#found").startswith(f"{len(SILENT)} of")
        page.select_option("#density", "1 to 10 %")
        page.select_option("#label", "word")
        found = page.evaluate(f"{ROWS}.map((r) => [r.feature.density, r.feature.label])")
        assert found and all(0.01 <= d < 0.1 and label == "word" for d, label in found)
        page.select_option("#label", "")
        page.select_option("#density", "")
        for way, sign in (("descending", -1), ("ascending", 1)):
            page.click("#sorts th[data-name=density] button")
            assert page.get_attribute("#sorts th[data-name=density]", "aria-sort") == way
            seen = page.evaluate(f"{ROWS}.map((r) => r.feature.density)")
            assert [sign * value for value in seen] == sorted(sign * value for value in seen)


@pytest.mark.browser
def test_thousands_of_features_are_a_few_rows_of_the_page(visit):
    with visit() as page:
        ready(page)
        for share in (0, 0.3, 0.77, 1):
            page.evaluate(
                "(share) => { const l = $('list'); l.scrollTop = share * l.scrollHeight; }", share
            )
            page.wait_for_timeout(50)
            rows = page.locator("#rows tr").count()
            assert 10 < rows < 80
            top = page.evaluate("Number(document.querySelector('#rows tr').dataset.at)")
            assert abs(top - share * FEATURES) < 60
            assert page.evaluate(SEEN_ROWS) > 10, "the rows that are drawn are those that are seen"
        assert page.evaluate("document.querySelectorAll('*').length") < 4000


ROWS = "[...document.querySelectorAll('#rows tr')]"
SEEN_ROWS = f"""(() => {{
  const box = $('list').getBoundingClientRect();
  return {ROWS}.map((row) => row.getBoundingClientRect())
    .filter(({{ top, bottom }}) => bottom > box.top && top < box.bottom).length;
}})()"""


@pytest.mark.browser
def test_the_address_and_the_keyboard_open_features(visit):
    with visit(f"#feature={SITE}/{MARKED}") as page:
        ready(page)
        opened(page, f"L7·{MARKED}")
        assert page.locator("#rows tr.chosen a").inner_text() == f"L7·{MARKED}"
        order = names(page)
        at = order.index(f"L7·{MARKED}")
        page.keyboard.press("j")
        opened(page, order[at + 1])
        page.focus("#rows a[tabindex='0']")
        page.keyboard.press("ArrowUp")
        opened(page, order[at])
        assert page.evaluate("document.activeElement.textContent") == order[at]
        for _ in range(60):
            page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.closest('tr')?.classList.contains('chosen')")
        assert page.locator("#rows a[tabindex='0']").count() == 1


@pytest.mark.browser
def test_a_page_shows_contexts_partners_and_logits(visit):
    with visit(f"#feature={SITE}/{MARKED}") as page:
        ready(page)
        opened(page, f"L7·{MARKED}")
        text = page.inner_text("#page")
        for part in (
            "In context",
            "Where it is most active",
            "Halfway down",
            "Neighbours",
            "Active on the same tokens",
            "Logits it raises most",
            "How active it is",
        ):
            assert part in text, part
        shades = page.evaluate(
            "[...document.querySelectorAll('#page .context')[0].querySelectorAll('.tok')]"
            ".map((token) => Number(token.style.getPropertyValue('--active')))"
        )
        assert shades[PEAK] == 1 == max(shades)
        page.hover(".tok.top >> nth=0")
        assert page.inner_text("#tip") == "activation about 4"
        page.click(".partners a >> nth=0")
        page.wait_for_function("(name) => document.querySelector('#page h3').textContent !== name",
                               arg=f"L7·{MARKED}")  # fmt: skip


@pytest.mark.browser
def test_what_is_written_to_several_places_is_told_of_each(tmp_path, chromium):
    folder = write_browse_run(tmp_path / "run", target=f"{SITE}+blocks.9.mlp_out")
    build(folder)
    with visiting(chromium, folder / "report.html")(f"#feature={SITE}/{MARKED}") as page:
        ready(page)
        opened(page, f"L7·{MARKED}")
        text = page.inner_text("#page")
        assert "7: .75, 9 mlp_out: .25" in text
        assert "random directions of this length raise no logit by more than 1" in text


@pytest.mark.browser
def test_a_silent_feature_says_so(visit):
    with visit(f"#feature={SITE}/0") as page:
        ready(page)
        opened(page, "L7·0")
        assert "Never active on this text." in page.inner_text("#page")
        assert "Logits it raises most" in page.inner_text("#page")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_the_window(visit, scheme, width):
    with visit(color_scheme=scheme, viewport={"width": width, "height": 850}) as page:
        ready(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.click("#rows tr >> nth=3")
        page.locator("#page").wait_for(state="visible")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if width == 400:
            assert page.locator("#list").is_hidden()
            page.click(".back")
            assert page.locator("#rows tr.chosen").is_visible()


@pytest.mark.browser
def test_without_scripts_some_features_remain(visit):
    with visit(java_script_enabled=False) as page:
        assert page.locator(".still tbody tr").count() == 30
        assert page.locator("#browser").is_hidden()
