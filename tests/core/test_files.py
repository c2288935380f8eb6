"""A reader sees the old file or the new one, whatever fails while it is written."""

import errno
import os
import subprocess
from pathlib import Path

import pytest
import torch

from energylens.core import files
from energylens.core.errors import NoRoom
from energylens.run.edges.store.folder import Folder
from tests.run.faults import Fault, fail_at


@pytest.mark.parametrize("error", [Fault(), OSError(errno.EIO, "Input/output error")])
def test_a_fault_at_any_step_leaves_old_or_new(tmp_path, error):
    k = 0
    while True:
        k += 1
        path = tmp_path / str(k) / "file"
        files.write_bytes(path, b"old")
        with pytest.MonkeyPatch.context() as patch:
            steps = fail_at(patch, k, error)
            try:
                digest = files.write_bytes(path, b"newer")
            except (Fault, OSError):
                digest = None
        assert path.read_bytes() in (b"old", b"newer")
        files.sweep(tmp_path)
        assert [p.name for p in path.parent.iterdir()] == ["file"]
        if digest is not None:
            assert path.read_bytes() == b"newer" and digest == files.sha256(path)
            break
    assert k == steps() + 1 == 5  # write, fsync of the file, rename, fsync of the folder


@pytest.mark.parametrize("first", [True, False], ids=["first save", "save over an older one"])
@pytest.mark.parametrize("error", [Fault(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_fault_at_any_step_of_a_part_is_old_or_new_or_undone(tmp_path, error, first):
    import pyarrow as pa

    def save(store: Folder, value: float) -> None:
        store.save(
            "part",
            tensors={"t": {"x": torch.full((4,), value)}},
            tables={"table": pa.table({"x": [value]})},
            records={"record": {"x": value}},
        )

    def values(store: Folder) -> set[float]:
        seen = store.tensors("t")["x"].tolist() + store.table("table")["x"].to_pylist()
        return {*seen, store.record("record")["x"]}

    outcomes, k, finished = set(), 0, False
    while not finished:
        k += 1
        folder = tmp_path / str(k)
        if not first:
            save(Folder(folder), 1.0)
        with pytest.MonkeyPatch.context() as patch:
            fail_at(patch, k, error)
            try:
                save(Folder(folder), 2.0)
                finished = True
            except (Fault, NoRoom):
                pass
        later = Folder(folder)  # a new process looks at it
        outcomes.add(frozenset(values(later)) if later.done("part") else None)
        save(later, 2.0)
        assert values(Folder(folder)) == {2.0} and Folder(folder).done("part")
    assert k > 12
    assert outcomes == ({None, frozenset({2.0})} | (set() if first else {frozenset({1.0})}))


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("kind", ["tensors", "tables", "records"])
def test_a_full_disk_is_one_sentence_and_nothing_is_half_written(small_disk, kind):
    import pyarrow as pa

    noise = torch.randn(2_000_000, generator=torch.Generator().manual_seed(0))
    big = {
        "tensors": {"big": {"x": noise}},
        "tables": {"big": pa.table({"x": noise.numpy()})},
        "records": {"big": "x" * 3_000_000},
    }
    store = Folder(small_disk / "run")
    store.save("small", records={"small": 1})
    with pytest.raises(NoRoom, match=r"no room on the disk to write .*big.*: free some"):
        store.save("big", **{kind: big[kind]})
    assert not store.done("big") and not Folder(small_disk / "run").done("big")
    assert Folder(small_disk / "run").record("small") == 1
    assert not [p for p in small_disk.rglob("*") if "big" in p.name]


def test_a_full_disk_without_root(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NoRoom, match="no room"):
        files.write_bytes(tmp_path / "x", b"1")
    assert list(tmp_path.iterdir()) == []
