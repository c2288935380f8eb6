"""The browser's data: nothing lost in packing, and never more than the page has room for."""

import base64
import gzip
import json

import pytest

from energylens.report import explorer as module
from energylens.report.explorer import alignment_explorer, pack, plain
from energylens.report.records import Records


def unpacked(packed):
    if packed.kind == "application/json":
        return packed.value
    return json.loads(gzip.decompress(base64.b64decode(packed.text)))


def test_numbers_keep_their_significant_digits():
    assert plain([1.23456, float("nan"), float("inf"), 3.0, "x", None, True], 3) == [
        1.23, None, None, 3, "x", None, True,
    ]  # fmt: skip


@pytest.mark.parametrize("size", [3, 30_000])
def test_packing_loses_nothing_and_compresses_what_is_large(size):
    packed = pack("x", {"cells": list(range(size))})
    assert packed.kind == ("application/json" if size == 3 else "application/gzip")
    assert unpacked(packed) == {"cells": list(range(size))}
    assert pack("x", {"cells": list(range(size))}) == packed


def test_a_page_has_the_tokens_and_numbers_of_its_contexts(records):
    found = unpacked(alignment_explorer(records).data[0])
    contexts = records.table("contexts")
    site, feature = contexts.text("site")[0], int(contexts.number("feature")[0])
    page = found["pages"][f"{site}/{feature}"]
    first = page["contexts"][0]
    assert [found["tokens"][t] for t in first["tokens"]] == contexts.lists("tokens")[0]
    assert found["documents"][first["document"]] == contexts.text("document")[0]
    assert {c["group"] for c in page["contexts"]} == {
        "top", "upper quarter", "median", "off, large force",
    }  # fmt: skip


def test_pages_that_do_not_fit_are_left_out_and_said(records, monkeypatch):
    whole = alignment_explorer(records)
    monkeypatch.setattr(module, "MOST_PACKED_BYTES", len(whole.data[0].text) // 2)
    some = alignment_explorer(records)
    assert len(some.data[0].text) <= len(whole.data[0].text) // 2
    kept, all_of_them = (len(unpacked(e.data[0])["pages"]) for e in (some, whole))
    assert 0 < kept < all_of_them
    assert f"The pages of {all_of_them - kept} more did not fit" in some.note
    assert "did not fit" not in whole.note


def test_without_features_there_is_no_browser(records):
    assert alignment_explorer(Records(run={}, summary={})) is None
    only = Records(run={}, summary={}, tables={"features": records.tables["features"]})
    assert "No feature" in alignment_explorer(only).note
