"""The page photographed, section by section, in every way that it is looked at.

`make photographs` keeps the pictures. Of another run's page they are taken with
`ENERGYLENS_PHOTOGRAPHED=RUN_DIR`; what is asserted holds of every page.
"""

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.report import seen

pytestmark = pytest.mark.browser
READABLE = 4.5  # contrast of text, by WCAG
LETTERS = 9.5  # pixels: what the letters of a drawing must measure on a desk and on a phone
STOPS, MOST_STOPS = 25, 400  # presses of the Tab key between two looks, and at most


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way of looking at the page."""

    width: int = 1280
    height: int = 900
    options: dict[str, Any] = field(default_factory=dict)
    media: str = "screen"

    @property
    def scripted(self) -> bool:
        return bool(self.options.get("java_script_enabled", True))


WAYS: dict[str, Way] = {
    "light": Way(options={"color_scheme": "light"}),
    "dark": Way(options={"color_scheme": "dark"}),
    "narrow": Way(width=400, height=800),
    "bare": Way(options={"java_script_enabled": False}),
    "print": Way(width=680, height=980, media="print"),  # the width of A4 within its margins
}


@dataclass(frozen=True, kw_only=True)
class Sight:
    """The page open in one way, and its photographs by section."""

    page: Any
    whole: Image.Image
    parts: dict[str, Image.Image]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("ENERGYLENS_PHOTOGRAPHS")
    path = Path(kept) if kept else tmp_path_factory.mktemp("photographs")
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="module")
def address(request: pytest.FixtureRequest) -> str:
    given = os.environ.get("ENERGYLENS_PHOTOGRAPHED")
    run_dir = Path(given).resolve() if given else request.getfixturevalue("run_dir")
    return (run_dir / "report.html").as_uri()


@pytest.fixture(scope="module")
def look(chromium: Any, address: str, folder: Path) -> Iterator[Any]:
    """Open the page in a way and photograph it, once for all tests."""
    sights: dict[str, Sight] = {}

    def looked(name: str) -> Sight:
        if name not in sights:
            sights[name] = photograph(opened(chromium, address, WAYS[name]), folder, name)
        return sights[name]

    yield looked
    for sight in sights.values():
        sight.page.context.close()


def opened(chromium: Any, address: str, way: Way) -> Any:
    context = chromium.new_context(
        viewport={"width": way.width, "height": way.height}, reduced_motion="reduce", **way.options
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.goto(address)
    if way.scripted and page.locator("#browser").count():
        page.evaluate("document.getElementById('features').scrollIntoView()")
        page.wait_for_selector("#browser[data-ready]")
    page.emulate_media(media=way.media)
    page.evaluate("scrollTo(0, 0)")
    return page


def photograph(page: Any, folder: Path, name: str) -> Sight:
    whole = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    parts = {}
    for part in page.evaluate(seen.PARTS):
        if part["height"] < 1:
            continue
        left, top = max(0, part["left"] - 12), max(0, part["top"] - 12)
        right, bottom = part["left"] + part["width"] + 12, part["top"] + part["height"] + 12
        parts[part["name"]] = picture = whole.crop(
            (round(left), round(top), min(round(right), whole.width), round(bottom))
        )
        picture.save(folder / f"{name}.{part['name']}.png", compress_level=1)
    return Sight(page=page, whole=whole, parts=parts)


def ink(picture: Image.Image) -> float:
    """Share of pixels that differ from the commonest colour."""
    pixels = np.asarray(picture)[::2, ::2].reshape(-1, 3).astype(int)
    colours, counts = np.unique(pixels @ [65536, 256, 1], return_counts=True)
    paper = colours[counts.argmax()]
    near = np.abs(pixels - [paper >> 16, paper >> 8 & 255, paper & 255]).max(1) <= 8
    return float(1 - near.mean())


@pytest.mark.parametrize("name", WAYS)
def test_every_section_is_there_and_none_is_blank(look, name):
    sight = look(name)
    known = sight.page.locator("main figure, main section[id]").count()
    assert len(sight.parts) >= known + 1
    blank = [part for part, picture in sight.parts.items() if ink(picture) < 0.004]
    assert not blank


@pytest.mark.parametrize("name", WAYS)
def test_every_text_can_be_read(look, name):
    found = look(name).page.evaluate(seen.FAINT, READABLE)
    assert found["count"] > 100
    assert found["faint"] == []


@pytest.mark.parametrize("name", ["narrow", "light", "bare", "print"])
def test_nothing_is_wider_than_the_window(look, name):
    assert look(name).page.evaluate(seen.TOO_WIDE) == []


@pytest.mark.parametrize("name", ["light", "narrow"])
def test_the_letters_of_drawings_are_large_enough_and_apart(look, name):
    page = look(name).page
    size, text = page.evaluate(seen.SMALLEST)
    assert size >= LETTERS, f"{text} is {size:.1f} pixels high"
    assert page.evaluate(seen.COLLIDING) == []


@pytest.mark.parametrize("name", ["light", "bare", "print"])
def test_every_drawing_is_told_to_those_who_cannot_see_it(look, name):
    untold = look(name).page.evaluate(
        "[...document.querySelectorAll('svg')].filter((e) => e.checkVisibility())"
        ".filter((e) => e.getAttribute('aria-hidden') !== 'true')"
        ".filter((e) => e.getAttribute('role') !== 'img' || !e.getAttribute('aria-label')?.trim())"
        ".map((e) => e.outerHTML.slice(0, 80))"
    )
    assert untold == []


def test_dark_is_dark_and_every_section_has_both_colours(look):
    light, dark = look("light"), look("dark")
    assert light.parts.keys() == dark.parts.keys()
    for name, picture in light.parts.items():
        bright, dim = (np.asarray(p.convert("L"), dtype=float) for p in (picture, dark.parts[name]))
        assert np.median(bright) > 230 > 60 > np.median(dim), name
        assert dim.max() > 120, f"{name} has no light ink on dark paper"


def test_without_scripts_all_that_does_not_move_remains(look):
    bare, light = look("bare").page, look("light").page
    for places in (".head h1", ".card", "figure .answer", "figure .drawing", "#checks table"):
        assert bare.locator(f"{places}:visible").count() == light.locator(places).count(), places
    assert bare.locator("#features .still table").count() == bare.locator("#features").count()
    details = bare.locator("figure details >> nth=0")
    details.locator("summary").click()
    assert details.locator("tbody tr >> nth=0").is_visible(), "tables open without scripts"
    details.locator("summary").click()


def test_paper_has_whole_figures_and_no_buttons(look, folder):
    page = look("print").page
    content = page.pdf(path=folder / "print.pdf", prefer_css_page_size=True)
    pages = len(re.findall(rb"/Type\s*/Page\b", content))
    assert 3 <= pages <= 60
    cut = page.evaluate(
        "[...document.querySelectorAll('figure, .card, tr')].filter((e) => e.checkVisibility())"
        ".filter((e) => getComputedStyle(e).breakInside !== 'avoid').length"
    )
    assert cut == 0
    # What is taller than a sheet is cut after all: A4 less its margins, in pixels.
    tall = page.evaluate(
        "[...document.querySelectorAll('figure')].filter((e) => e.getBoundingClientRect().height"
        " > (297 - 36) * 96 / 25.4).map((e) => e.id)"
    )
    assert tall == []
    assert page.locator("button:visible, nav:visible, input:visible").count() == 0


def test_the_keyboard_meets_everything_and_is_seen_where_it_is(look, folder):
    page = look("light").page
    page.evaluate(seen.WATCH_FOCUS)
    for _ in range(MOST_STOPS // STOPS):
        for _ in range(STOPS):
            page.keyboard.press("Tab")
        met = page.evaluate(seen.MET)
        if met["round"]:
            break
    assert met["count"] > 30, "the keyboard met next to nothing"
    assert met["unseen"] == []
    assert page.evaluate(seen.UNMET) == []
    drawing = page.locator("figure .drawing.live >> nth=0")
    drawing.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#tip").is_visible()
    page.screenshot(path=folder / "keyboard.png")
