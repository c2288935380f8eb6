"""Reading: clean values come in, damaged records are refused in one sentence."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.report.records import read
from tests.common.compare import assert_close


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tables").mkdir()
    for name in ("run", "summary"):
        (tmp_path / f"{name}.json").write_text("{}")
    return tmp_path


def test_null_is_nan_and_truth_is_a_number(folder):
    table = pa.table({"flag": pa.array([True, None, False]), "n": pa.array([1, None, 3])})
    pq.write_table(table, folder / "tables" / "some.parquet")
    some = read(folder).table("some")
    assert_close(some.number("flag"), [1, np.nan, 0])
    assert_close(some.number("n"), [1, np.nan, 3])


def test_a_column_of_nulls_is_all_undefined(folder):
    pq.write_table(pa.table({"x": pa.nulls(2)}), folder / "tables" / "some.parquet")
    assert_close(read(folder).table("some").number("x"), [np.nan, np.nan])


def test_text_is_cleaned_at_the_door_in_lists_too(folder):
    table = pa.table({"tokens": [["a\u202e", None]], "name": ["\x00"]})
    pq.write_table(table, folder / "tables" / "some.parquet")
    some = read(folder).table("some")
    assert some.lists("tokens") == [["a\\u202e", None]]
    assert some.text("name") == ["\\x00"]


def test_rows_are_kept_by_mask_and_by_value(folder):
    table = pa.table({"kind": ["a", "b", "a"], "x": [1.0, 2.0, 3.0]})
    pq.write_table(table, folder / "tables" / "some.parquet")
    some = read(folder).table("some")
    assert_close(some.equal("kind", "a").number("x"), [1, 3])
    assert_close(some.where([2, 0]).number("x"), [3, 1])


def test_an_empty_table_counts_as_absent(folder):
    pq.write_table(pa.table({"x": pa.array([], pa.float64())}), folder / "tables" / "some.parquet")
    assert read(folder).table("some") is None


def test_a_missing_column_is_named(folder):
    pq.write_table(pa.table({"x": [1]}), folder / "tables" / "some.parquet")
    with pytest.raises(ArtifactRefused, match="has no column 'y', only x"):
        read(folder).table("some").number("y")


def test_a_folder_without_a_run_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match=r"has no run\.json: name a folder"):
        read(tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"a": NaN}', "[" * 100_000, "\udc80".encode("utf-8", "surrogateescape")]
)
def test_damaged_json_is_refused(folder, text):
    content = text if isinstance(text, bytes) else text.encode()
    (folder / "summary.json").write_bytes(content)
    with pytest.raises(ArtifactRefused, match=r"summary\.json"):
        read(folder)


def test_a_damaged_table_is_refused(folder):
    (folder / "tables" / "some.parquet").write_bytes(b"PAR1 not at all PAR1")
    with pytest.raises(ArtifactRefused, match=r"some\.parquet cannot be read as Parquet"):
        read(folder)


def test_duplicate_escapes_do_not_break_json_keys(folder):
    (folder / "run.json").write_text(json.dumps({"a\u202e": {"b": ["\x1b"]}}))
    assert read(folder).run == {"a\\u202e": {"b": ["\\x1b"]}}
