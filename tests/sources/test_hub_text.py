"""Text of datasets: what the name means, in which order rows come, and what is refused."""

import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from energylens.core.errors import BadInput
from energylens.sources import hub_text as room
from energylens.sources.hub_text import HubText, hub_text, hub_text_record
from energylens.sources.text import load_text, stream_text, text_identity, text_sha256
from tests.common.hub import COMMIT, FakeHub, point_at, serving

ROWS = 700


@pytest.fixture
def parquet(tmp_path):
    """A dataset as a folder on this machine: two files of one split, and a test split."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [{"text": f"text {i}", "body": f"body {i}", "id": f"n{i}", "n": i} for i in range(ROWS)]
    for name, some in (("train-00000", rows[:400]), ("train-00001", rows[400:]),
                       ("test-00000", rows[:5])):  # fmt: skip
        pq.write_table(pa.Table.from_pylist(some), folder / f"{name}.parquet", row_group_size=64)
    return folder


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    found = pytest.importorskip("datasets")
    monkeypatch.setattr(found.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return found


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("hf:a/b", {}), ("hf:a/b:c", {"config": "c"}), ("hf:a/b::s", {"split": "s"}),
        ("hf:a/b@v1:c:s[5:9]#x y",
         {"revision": "v1", "config": "c", "split": "s", "first": 5, "last": 9, "column": "x y"}),
        ("hf:a/b[:9]", {"last": 9}), ("hf:a/b:c[9:]#t", {"config": "c", "first": 9, "column": "t"}),
    ],
)  # fmt: skip
def test_what_a_name_means(text, meant):
    assert hub_text(text) == HubText(name="a/b", **meant)


@pytest.mark.parametrize("text", ["hf:", "hf:a/b[1]", "hf:a/b:c:d:e", "hf:a/b[x:y]", "hf:a/b#"])
def test_another_form_is_one_sentence(text):
    with pytest.raises(BadInput, match="should have the form hf:owner/name"):
        stream_text([text])


def test_rows_come_in_order_and_go_on_where_they_stopped(datasets, parquet):
    where = f"hf:{parquet}"
    whole = list(stream_text([where]))
    assert [d.text for d in whole] == [f"text {i}" for i in range(ROWS)]
    assert whole[401].name == "data 401 n401" and whole[0].kind == "text"
    for skip in (0, 1, 399, 400, 650, ROWS, ROWS + 5):
        assert list(stream_text([where], skip=skip)) == whole[skip:]
    assert list(stream_text([f"{where}[390:410]"], skip=3)) == whole[393:410]
    assert list(stream_text([f"{where}[390:410]"], skip=30)) == []


def test_splits_and_columns_are_those_asked_for(datasets, parquet):
    found = list(stream_text([f"hf:{parquet}::test#body"]))
    assert [d.text for d in found] == [f"body {i}" for i in range(5)]
    assert found[0].name == "data test 0 n0"


def test_datasets_and_files_are_read_one_after_the_other(datasets, parquet, tmp_path):
    (tmp_path / "a.txt").write_text("first")
    texts = [tmp_path / "a.txt", f"hf:{parquet}::test"]
    found = [d.text for d in stream_text(texts)]
    assert found == ["first", *(f"text {i}" for i in range(5))]
    assert [d.text for d in stream_text(texts, skip=2)] == found[2:]


def test_what_is_read_whole_must_say_where_it_ends(datasets, parquet):
    with pytest.raises(BadInput, match=r"has no end here.*say how many rows, as in hf:.*\[:5000\]"):
        load_text([f"hf:{parquet}#text"])
    corpus = load_text([f"hf:{parquet}[:30]"])
    assert len(corpus.documents) == 30 and corpus.name == "data[:30]"
    assert corpus.sha256 == text_sha256(stream_text([f"hf:{parquet}[:30]"]))


def test_a_saved_dataset_is_read_too(datasets, tmp_path):
    made = datasets.Dataset.from_dict({"text": ["a", None, "c"]})
    made.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"held": made, "out": made}).save_to_disk(tmp_path / "two")
    assert [d.text for d in stream_text([f"hf:{tmp_path / 'one'}"])] == ["a", "", "c"]
    assert [d.text for d in stream_text([f"hf:{tmp_path / 'two'}::out"], skip=2)] == ["c"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("#txt", "no column 'txt': its columns are text, body, id, n; name one of them after #"),
        ("::tset", "no split of .*data named 'tset': did you mean 'test'"),
        ("[9:9]", "has no rows: the first must come before the last"),
        (":unknown", "cannot be opened: BuilderConfig 'unknown' not found. Available"),
        ("#n", "row 0 of data is|row 0 of data: 'n' is of type int, not a string"),
    ],
)
def test_what_is_not_there_is_one_sentence(more, message, datasets, parquet):
    with pytest.raises(BadInput, match=message) as error:
        next(stream_text([f"hf:{parquet}{more}"]))
    assert "\n" not in str(error.value)


def test_no_code_of_a_dataset_is_run(datasets, tmp_path):
    ran = tmp_path / "ran"
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')")
    with pytest.raises(BadInput, match="cannot be opened"):
        next(stream_text([f"hf:{folder}"]))
    assert not ran.exists()


def test_a_damaged_file_is_said_on_reaching_it(datasets, parquet):
    path = parquet / "train-00001.parquet"
    path.write_bytes(path.read_bytes()[:-2000] + b"x" * 2000)
    with pytest.raises(BadInput, match=r"data (broke off after|cannot be opened)"):
        list(stream_text([f"hf:{parquet}"]))


def test_the_hub_is_asked_for_a_commit_and_streamed_at_it(datasets, monkeypatch, tmp_path):
    asked = {}

    def load(path, config, **options):
        asked.update(path=path, config=config, **options)
        rows = datasets.Dataset.from_dict({"text": ["a", "b"]}).to_iterable_dataset()
        return datasets.IterableDatasetDict({"validation": rows})

    monkeypatch.setattr(datasets, "load_dataset", load)
    with serving(tmp_path) as address:
        point_at(monkeypatch, address, tmp_path / "cache")
        assert [d.text for d in stream_text(["hf:some/data@v2:small"])] == ["a", "b"]
        assert asked == {"path": "some/data", "config": "small", "streaming": True,
                         "revision": COMMIT}  # fmt: skip
        assert any("/some/data/revision/v2" in line for line in FakeHub.asked)
        record = hub_text_record(hub_text("hf:some/data:small"))
        assert record["revision"] == COMMIT and record["config"] == "small"
        with pytest.raises(BadInput, match="no path and no public hub dataset is named 'some/gone"):
            stream_text(["hf:some/gone"])
    with pytest.raises(BadInput, match="'gone' is neither a folder that exists nor a dataset"):
        stream_text(["hf:gone"])


def test_without_the_package_the_extra_is_named(monkeypatch, parquet):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadInput, match=r"needs the package datasets: pip install 'energylens\[da"):
        stream_text([f"hf:{parquet}"])


def test_the_room_is_imported_without_the_package():
    assert "datasets" not in vars(room)


# ---- identity


def test_an_identity_changes_with_whatever_changes_the_text(parquet, tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "x"}))
    texts = [tmp_path / "a.jsonl", f"hf:{parquet}[:9]"]
    seen = {text_identity(texts)["sha256"]}
    assert text_identity(texts)["sha256"] in seen
    for other in ("[:8]", "[1:9]", "[:9]#body", "::test[:9]", ":c[:9]"):
        seen.add(text_identity([texts[0], f"hf:{parquet}{other}"])["sha256"])
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "y"}))
    seen.add(text_identity(texts)["sha256"])
    path = parquet / "test-00000.parquet"
    path.write_bytes(path.read_bytes() + b" ")
    seen.add(text_identity(texts)["sha256"])
    assert len(seen) == 8
    assert text_identity(texts)["name"] == "a.jsonl, data[:9]"
    assert len(text_identity("default")["sha256"]) == 64
