"""The page as a file: complete, inert, self-contained, repeatable, and built without torch."""

import re
import subprocess
import sys
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from energylens.core.errors import EnergylensError
from energylens.report.figure import Column
from energylens.report.figure_files import figures_beside
from energylens.report.page import build, cells, indexed, strip
from energylens.report.records import read
from tests.report.records import HOSTILE, write_json, write_run

TAGS = """html head meta title style body header p h1 h2 h3 dl div dt dd main section ul ol li b nav
a span svg rect line circle path g defs use text clippath figure figcaption button details summary
table thead tbody tr th td script label input select option article kbd pre code sub"""
OWN_TAGS = set(TAGS.split())


class Outline(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.ids, self.text = set(), set(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value for name, value in attrs if name == "id"]

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def outline(html):
    parsed = Outline()
    parsed.feed(html)
    return parsed


def test_every_section_stands_in_order(html):
    found = re.findall(r'<(?:section|figure)[^>]* id="(\w+)"', html)
    assert found == [
        "volcano", "layers", "calibration", "contest", "behaviour", "depth", "basins",
        "text_classes", "controls", "dictionaries", "cases", "features", "checks", "limits",
        "method", "reproduce",
    ]  # fmt: skip


def test_the_finding_is_the_heading_and_the_grade_is_the_rule(html, records):
    assert f"<h1>{records.summary['finding']}</h1>" in html
    assert '<body class="grade-control">' in html
    assert "Control or synthetic: not a finding." in html


def test_hostile_text_makes_no_element_and_no_attribute(outline):
    assert outline.tags <= OWN_TAGS, outline.tags - OWN_TAGS
    assert not [name for name in outline.attributes if name.startswith("on") or name == "style"]
    assert HOSTILE[0] in "".join(outline.text), "the text is shown literally"


def test_no_unseen_character_is_in_the_file(html):
    assert not set(html) & set("\x00\x1b\u202e\u202c\u2028\u2029\ufeff")


def test_ids_are_unique(outline):
    assert len(outline.ids) == len(set(outline.ids))


def test_anchors_lead_somewhere(html, outline):
    assert {a for a in re.findall(r'<a href="#([^"]+)"', html)} <= set(outline.ids)


def test_nothing_is_loaded_from_outside(html):
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:|//)""", html)
    assert "@import" not in html and "url(http" not in html


def test_the_policy_names_the_one_script_and_the_one_style(html):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = b64encode(sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy


def test_our_scripts_never_parse_text_as_markup(html):
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    for banned in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert banned not in script


def test_the_whole_page_is_small(run_dir):
    assert (run_dir / "report.html").stat().st_size < 1_000_000


def test_figures_lie_beside_it(run_dir, html):
    linked = set(re.findall(r'href="(figures/[\w.]+)"', html))
    assert len(linked) == 2 * 10
    assert all((run_dir / name).is_file() for name in linked)


def test_the_same_records_give_the_same_page(tmp_path):
    folder = write_run(tmp_path / "run")
    for table in (
        "effects",
        "depth",
        "basins",
        "text_classes",
        "controls",
        "dictionaries",
        "layers",
    ):
        (folder / "tables" / f"{table}.parquet").unlink()
    first = build(folder).read_bytes()
    (folder / "report.html").write_text("an older page")
    assert build(folder).read_bytes() == first
    assert not [path for path in folder.rglob(".*")], "a temporary file was left"


def test_a_run_without_tables_still_has_its_head(tmp_path):
    write_json(
        tmp_path / "run.json", {"command": "energylens run x", "key": "k", "status": "failed"}
    )
    write_json(tmp_path / "summary.json", {
        "study": "x", "subject": "y", "finding": "Nothing.", "detail": "", "grade": "unheard of",
        "figures": {}, "controls": {}, "cards": [], "limits": [], "suspicious": ["a tie"],
    })  # fmt: skip
    page = build(tmp_path).read_text()
    assert "<h1>Nothing.</h1>" in page and "<figure" not in page and 'id="features"' not in page
    assert "No control was run: nothing above is a finding." in page
    assert "<li>a tie</li>" in page and "grade-control" in page
    assert "<dt>status</dt> <dd>failed</dd>" in page


def test_an_empty_list_of_suspicions_is_said(html):
    assert (
        "Nothing: none of the study&#39;s own checks" in html
        or "Nothing: none of the study's" in html
    )


def test_the_strip_leaves_out_what_is_not_known(records):
    assert dict(strip(records))["run"] == "2 threads, 5 min 12 s"
    assert "documents" in dict(strip(records))


def test_the_strip_tells_the_kinds_of_text_where_there_are_several(records):
    def documents(**text):
        inputs = {"text": {"name": "t", "documents": 1200, **text}}
        return dict(strip(replace(records, run={**records.run, "inputs": inputs})))["documents"]

    assert documents(kinds={"code": 1000, "text": 200}) == "1,200 (1,000 code, 200 text)"
    assert documents(kinds={"code": 1200}) == documents() == "1,200"


def test_undefined_cells_are_dashes():
    columns = [Column(name="a", label="a", cells=[0.5, float("nan")], signed=True),
               Column(name="b", label="b", cells=["x", "y"])]  # fmt: skip
    assert cells(columns, 9) == [["+.5", "x"], ["–", "y"]]


def test_indices_are_lowered_and_words_are_not():
    assert str(indexed("a_f < W_enc, n_tokens")) == (
        "a<sub>f</sub> &lt; W<sub>enc</sub>, n<sub>tokens</sub>"
    )
    assert str(indexed("EFAS_f")) == "EFAS<sub>f</sub>"
    assert str(indexed("φ e_{t−1} + x_t")) == "φ e<sub>t−1</sub> + x<sub>t</sub>"
    assert str(indexed("snake_case")) == "snake_case"


def test_it_builds_without_torch(run_dir):
    code = (
        "import sys; sys.modules['torch'] = None; from pathlib import Path;"
        "from energylens.report.page import _render; from energylens.report.records import read;"
        f"_render(read(Path({str(run_dir)!r})), [])"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_table_is_named_with_its_columns(html, run_dir):
    for table in read(run_dir).tables.values():
        assert f"tables/{table.name}.parquet" in html


def test_files_that_cannot_be_written_are_told_of(tmp_path, monkeypatch):
    with (
        pytest.raises(EnergylensError, match="figures could not be written: .*no run"),
        figures_beside(tmp_path),
    ):
        pass
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(KeyError), figures_beside(tmp_path):
        raise KeyError
