"""A drawing for the page: themed, without styles, without ids that clash, and much smaller."""

import re
import struct
from xml.etree import ElementTree

import numpy as np
import pytest

from energylens.report.figure import Column, Figure, Marks, Panel, draw, write_files
from energylens.report.palette import LIGHT
from energylens.results.text import visible
from tests.common.compare import assert_close
from tests.report.records import HOSTILE

COUNT = 500


def scatter(axes) -> Marks:
    x = np.linspace(0, 1, COUNT)
    axes.axhspan(0, 0.2, color=LIGHT["null"], linewidth=0)
    axes.plot(x, x, "o", ms=3, mec="none", color=LIGHT["dot"], alpha=0.5, gid="dots-some")
    axes.plot([0.5], [0.5], "s", color=LIGHT["repulsor"])
    for row, token in enumerate(HOSTILE):
        axes.text(0.1, row / 20, visible(token, most=60)).set_in_layout(False)
    return Marks(x=x, y=x, rows=np.arange(COUNT))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("figures")


@pytest.fixture(scope="module")
def drawing(folder):
    figure = Figure(
        name="try", question="?", short="Try", answer=".", notes=[], method=("m", "m"),
        panels=[Panel(draw=scatter, label='a "label" <b>', height=400)],
        columns=[Column(name="x", label="x", cells=[1.0])], tells=("x",),
    )  # fmt: skip
    write_files(figure, folder)
    return draw(figure)[0]


def test_colours_become_variables_and_styles_go(drawing):
    assert "style=" not in drawing.svg and "<style" not in drawing.svg
    assert not re.findall(r"#(?!try-)[0-9a-f]{6}", drawing.svg)
    assert {"var(--null)", "var(--dot)", "var(--repulsor)"} <= set(
        re.findall(r"var\(--\w+\)", drawing.svg)
    )


def test_every_reference_has_its_target_and_carries_the_drawing_s_name(drawing):
    root = ElementTree.fromstring(drawing.svg)
    ids = {e.attrib["id"] for e in root.iter() if "id" in e.attrib}
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', drawing.svg))
    assert used and used <= ids
    assert all(name.startswith("try-0-") for name in ids)


def test_a_cloud_of_markers_keeps_every_dot(drawing):
    dots = re.findall(r"M([\d.]+) ([\d.]+)h0", drawing.svg)
    assert len(dots) == COUNT
    across, down, rows = drawing.marks
    assert_close(sorted(float(x) for x, _ in dots), across, atol=0.11)
    assert_close(sorted((float(y) for _, y in dots), reverse=True), down, atol=0.11)
    assert rows == list(range(COUNT))


def test_hostile_text_stays_text(drawing):
    root = ElementTree.fromstring(drawing.svg)
    assert root.attrib["aria-label"] == 'a "label" <b>'
    tags = {element.tag for element in root.iter()}
    assert tags <= {"svg", "g", "defs", "path", "use", "text", "clipPath", "rect"}
    texts = [element.text for element in root.iter("text")]
    assert HOSTILE[0] in texts and HOSTILE[13] in texts  # "$" starts no formula


def test_files_lie_beside_the_page(drawing, folder):
    assert (folder / "try.svg").read_text().lstrip().startswith("<?xml")
    assert not list(folder.glob(".*")), "a temporary file was left"


def test_the_png_has_300_dots_per_inch(drawing, folder):
    content = (folder / "try.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    found = content.index(b"pHYs") + 4
    across, up, unit = struct.unpack(">IIB", content[found : found + 9])
    assert unit == 1, "per metre"
    assert_close([across * 0.0254, up * 0.0254], [300, 300], atol=0.02)


def test_the_svg_runs_nothing_and_asks_for_nothing(drawing, folder):
    root = ElementTree.fromstring((folder / "try.svg").read_text())
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        "svg", "g", "defs", "path", "use", "text", "clipPath", "rect", "style", "metadata",
        "RDF", "Work", "type", "format", "creator", "Agent", "title",
    }  # fmt: skip
    for element in root.iter():
        for name, value in element.attrib.items():
            own = name.rpartition("}")[2]
            assert not own.startswith("on")
            if own == "href":
                assert value.startswith("#")
            assert "url(http" not in value and "javascript:" not in value
    styles = "".join(style.text or "" for style in root.iter("{http://www.w3.org/2000/svg}style"))
    assert "@import" not in styles and "url(" not in styles
