"""The store: what goes in comes out, damage is noticed, names and owners are kept."""

import json
import math

import pyarrow as pa
import pytest
import torch

from energylens.core.errors import ArtifactRefused, NoRoom, UnknownName
from energylens.run.edges.store.folder import Folder, require_room, verify, write_manifest
from tests.common.compare import assert_close

FILES = ["tensors/t.safetensors", "tables/table.parquet", "records/r.json", "parts/part.json",
         "dictionaries/site.3/cfg.json"]  # fmt: skip


def saved(path) -> Folder:
    store = Folder(path)
    block = torch.arange(12.0).reshape(3, 4)
    store.save(
        "part",
        tensors={"t": {"whole": block, "turned": block.T, "row": block[1]}},
        tables={"table": pa.table({"x": [1.0, None], "tokens": [["a", "é"], []]})},
        records={"r": {"nan": math.nan, "x": [1, 2.5]}},
        files={"dictionaries/site.3/cfg.json": lambda path: path.write_text("{}")},
    )
    return store


def test_what_goes_in_comes_out(tmp_path):
    saved(tmp_path)
    store = Folder(tmp_path)
    found = store.tensors("t")
    assert_close(found["turned"], torch.arange(12.0).reshape(3, 4).T, rtol=0, atol=0)
    assert_close(found["row"], torch.arange(4.0, 8.0), rtol=0, atol=0)
    assert store.table("table").to_pydict() == {"x": [1.0, None], "tokens": [["a", "é"], []]}
    assert store.record("r") == {"nan": None, "x": [1, 2.5]}
    assert (store.folder("dictionaries/site.3") / "cfg.json").read_text() == "{}"
    with pytest.raises(UnknownName):
        store.folder("dictionaries/site")
    assert not list(tmp_path.rglob("*.tmp"))


def test_equal_content_gives_equal_bytes(tmp_path):
    saved(tmp_path / "a")
    saved(tmp_path / "b")
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "gone"])
def test_any_damage_undoes_the_part(tmp_path, file, harm):
    saved(tmp_path)
    path = tmp_path / file
    data = bytearray(path.read_bytes())
    if harm == "gone":
        path.unlink()
    elif harm == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes(data[: len(data) // 2] if harm == "cut" else b"")
    store = Folder(tmp_path)
    assert not store.done("part")
    with pytest.raises((ArtifactRefused, UnknownName)):
        for read, name in (
            (store.tensors, "t"), (store.table, "table"), (store.record, "r"),
            (store.folder, "dictionaries/site.3"),
        ):  # fmt: skip
            read(name)
    assert saved(tmp_path).done("part")


def test_damage_within_a_process_is_noticed_too(tmp_path):
    store = saved(tmp_path)
    assert store.done("part")
    (tmp_path / "records" / "r.json").write_text("{}")
    assert not store.done("part")


def test_an_unknown_name_gives_the_nearest(tmp_path):
    with pytest.raises(UnknownName, match="no table named 'tabel': did you mean 'table'"):
        saved(tmp_path).table("tabel")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a..b", ".hidden", "a b", "x" * 200, "a\0"])
def test_names_that_could_leave_the_folder_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="cannot name a file"):
        Folder(tmp_path).save("part", records={name: 1})
    with pytest.raises(ValueError, match="cannot name a file"):
        Folder(tmp_path).save(name, records={"x": 1})
    assert list(tmp_path.iterdir()) == []


def test_one_file_has_one_owner(tmp_path):
    store = saved(tmp_path)
    with pytest.raises(ValueError, match=r"'other' would overwrite records/r\.json of part 'part'"):
        store.save("other", records={"r": 2})
    saved(tmp_path)


def test_scratch_is_kept_until_the_run_is_done(tmp_path):
    store = saved(tmp_path)
    store.save("rows", tensors={"rows": {"x": torch.ones(3)}}, scratch=True)
    again = Folder(tmp_path)
    assert again.done("rows")
    assert_close(again.tensors("rows")["x"], torch.ones(3))
    again.finish()
    assert not again.done("rows") and not (tmp_path / "scratch").exists()
    assert again.done("part")


def test_the_manifest_finds_every_changed_file(tmp_path):
    store = saved(tmp_path)
    write_manifest(store, {})
    assert verify(tmp_path) == []
    for file in FILES:
        path = tmp_path / file
        before = path.read_bytes()
        path.write_bytes(before[:-2] + b"x\n")
        assert verify(tmp_path) == [file]
        path.unlink()
        assert verify(tmp_path) == [file]
        path.write_bytes(before)


@pytest.mark.parametrize("file", ["../secret", "/etc/hostname"])
def test_a_manifest_that_points_outside_is_refused(tmp_path, file):
    (tmp_path / "manifest.json").write_text(json.dumps({"schema": 1, "files": {file: "0"}}))
    with pytest.raises(ArtifactRefused, match="outside its folder"):
        verify(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}'])
def test_a_manifest_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ArtifactRefused, match=r"manifest\.json"):
        verify(tmp_path)


def test_too_little_room_is_told_before_the_work(tmp_path):
    require_room(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(NoRoom, match=r"writes about 1000000 TB and .* has .* free"):
        require_room(tmp_path / "not" / "there", 10**18)


def test_each_saved_part_is_told(tmp_path):
    told = []
    store = Folder(tmp_path, on_saved=lambda: told.append(1))
    store.save("a", records={"a": 1})
    store.save("b", records={"b": 1}, scratch=True)
    assert told == [1, 1]


def test_files_of_other_formats_know_their_place(tmp_path):
    store = Folder(tmp_path)
    write = lambda path: path.write_text("x")
    for path in ("cfg.json", "tensors/cfg.json", "../cfg.json", "a/../../cfg.json", "/a/b", "a//b"):
        with pytest.raises(ValueError):
            store.save("part", files={path: write})
    store.save("part", files={"a/b.txt": write}, scratch=True)
    assert store.folder("a") == tmp_path / "scratch" / "a"
    (tmp_path / "scratch" / "a" / "b.txt").write_text("changed")
    with pytest.raises(ArtifactRefused):
        store.folder("a")
    store.finish()
    assert not (tmp_path / "scratch").exists() and not store.done("part")
