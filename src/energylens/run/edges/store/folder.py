"""A run's folder as a store: finished parts survive anything, and damage is noticed.

RUN_DIR/
  tables/NAME.parquet  tensors/NAME.safetensors  records/NAME.json
  dictionaries/…       and other files in formats of their own
  parts/PART.json      the mark of a finished part: SHA-256 of each of its files, written last
  scratch/…            the same again for large intermediates; gone when the run is done
  work/…               what a study keeps by itself while it runs; gone when the run is done
  live/SERIES.jsonl    one line a step while the run goes on
  manifest.json        SHA-256 of all that the run leaves
"""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from energylens.core.errors import ArtifactRefused, NoRoom, UnknownName
from energylens.core.files import sha256, write_atomic, write_bytes
from energylens.core.ports import Kept, Tracker
from energylens.core.series import Series
from energylens.results.format import size
from energylens.results.plain import decode, encode

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

_SUFFIX = {
    "tables": ".parquet", "tensors": ".safetensors", "records": ".json", "live": ".jsonl",
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,149}")
_SCHEMA = 1


class Folder:
    """The store of one run; it implements `core.ports.Store`.

    Args:
        path: The run's folder; made when the first part is saved.
        on_saved: Called after each part, for instance to note how long the run has taken.
        tracker: Told what is logged.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_saved: Callable[[], None] = lambda: None,
        tracker: Tracker | None = None,
    ) -> None:
        self.path, self._on_saved, self._tracker = path, on_saved, tracker
        self._live: dict[str, Series] = {}
        self._seen: dict[str, tuple[tuple[int, int, int], str]] = {}
        self._parts = {mark["part"]: mark for mark in _marks(path)}

    def done(self, part: str) -> bool:
        """Whether the part was finished and all its files are as they were written.

        Files are hashed once, and again when their size or time of change differ.
        """
        mark = self._parts.get(part)
        return mark is not None and all(
            self._hash(file) == digest for file, digest in mark["files"].items()
        )

    def has_parts(self) -> bool:
        """Whether any part was ever finished."""
        return bool(self._parts)

    def save(self, part: str, **kept: Unpack[Kept]) -> None:
        """Write files (each atomically), then mark the part as finished.

        Args:
            part: Name of the part.

        Raises:
            NoRoom: If the disk is full; the part is then not done.
            ValueError: If a name is not a plain word, or another part owns the file.
        """
        root = "scratch/" if kept.get("scratch") else ""
        content: dict[str, tuple[Callable[[Path, Any], None], Any]] = {
            _file(root, kind, name): (write, value)
            for kind, write in _WRITERS.items()
            for name, value in kept.get(kind, {}).items()  # type: ignore[attr-defined]
        }
        for path, write in kept.get("files", {}).items():
            content[_other(root, path)] = (_fill, write)
        mark_file = _checked(part, f"{root}parts/{part}.json")
        for file in content:
            owner = self._owner(file)
            if owner not in (None, part):
                raise ValueError(f"part {part!r} would overwrite {file} of part {owner!r}")
        digests = {file: self._write(file, *job) for file, job in content.items()}
        mark = {"schema": _SCHEMA, "part": part, "files": digests}
        write_bytes(self.path / mark_file, encode(mark))
        self._parts[part] = mark
        self._on_saved()

    def tensors(self, name: str) -> "dict[str, Tensor]":
        """The named tensors of one file, on the CPU."""
        from safetensors.torch import load_file

        return load_file(self._finished("tensors", name))

    def tensor(self, name: str, key: str) -> "Tensor":
        """One tensor of a file, on the CPU, without reading the others."""
        from safetensors import safe_open

        with safe_open(self._finished("tensors", name), framework="pt") as file:
            return file.get_tensor(key)

    def table(self, name: str) -> "pa.Table":
        """A table, whole."""
        import pyarrow.parquet as pq

        return pq.ParquetFile(self._finished("tables", name)).read()

    def record(self, name: str) -> Any:
        """A record. Null comes back as None: who expects a number there makes it nan again."""
        path = self._finished("records", name)
        return decode(path.read_bytes(), path.name)

    def folder(self, name: str) -> Path:
        """Where the finished files below `name/` lie, each as it was written."""
        found = [
            file for mark in self._parts.values() for file in mark["files"]
            if file.removeprefix("scratch/").startswith(f"{name}/")
        ]  # fmt: skip
        if not found:
            raise UnknownName("folder", name, [])
        for file in found:
            self._unharmed(file)
        return self.path / ("scratch" if found[0].startswith("scratch/") else "") / name

    def require_room(self, num_bytes: int) -> None:
        """Stop before long work if the disk cannot hold what it will write."""
        require_room(self.path, num_bytes)

    def forget(self, prefix: str) -> None:
        """Remove the parts whose names begin with `prefix`: the mark first, then the files, so
        that a part is never taken for finished without them."""
        for part, mark in list(self._parts.items()):
            if part.startswith(prefix):
                for root in ("", "scratch/"):
                    (self.path / _file(root, "parts", part)).unlink(missing_ok=True)
                del self._parts[part]
                for file in mark["files"]:
                    (self.path / file).unlink(missing_ok=True)
        if not any((self.path / "scratch" / "parts").glob("*.json")):
            shutil.rmtree(self.path / "scratch", ignore_errors=True)

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        """Add a line to `live/SERIES.jsonl`, and tell the tracker."""
        if series not in self._live:
            self._live[series] = Series(self.path / _file("", "live", series))
        self._live[series].add(step, values)
        if self._tracker is not None:
            self._tracker.log(step, {f"{series}.{name}": value for name, value in values.items()})

    def workplace(self, name: str) -> Path:
        """`work/NAME`, made if it is not there."""
        folder = self.path / _checked(name, f"work/{name}")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finish(self) -> None:
        """Remove what a run needs no more that is done."""
        for folder in ("scratch", "work"):
            shutil.rmtree(self.path / folder, ignore_errors=True)
        self._parts = {mark["part"]: mark for mark in _marks(self.path)}

    def files(self) -> dict[str, str]:
        """SHA-256 of every file of the finished parts and of their marks, by relative path."""
        found = {f: d for mark in self._parts.values() for f, d in mark["files"].items()}
        marks = {_file("", "parts", part) for part in self._parts}
        return found | {file: sha256(self.path / file) for file in marks}

    def _write(self, file: str, write: Callable[[Path, Any], None], value: Any) -> str:
        path = self.path / file
        digest = write_atomic(path, lambda beside: write(beside, value))
        self._seen[file] = (_stamp(path), digest)
        return digest

    def _hash(self, file: str) -> str | None:
        path = self.path / file
        if not path.is_file():
            return None
        stamp = _stamp(path)
        if file not in self._seen or self._seen[file][0] != stamp:
            self._seen[file] = (stamp, sha256(path))
        return self._seen[file][1]

    def _owner(self, file: str) -> str | None:
        return next((part for part, mark in self._parts.items() if file in mark["files"]), None)

    def _finished(self, kind: str, name: str) -> Path:
        for file in (_file("", kind, name), _file("scratch/", kind, name)):
            if self._owner(file) is not None:
                return self._unharmed(file)
        files = (Path(file) for mark in self._parts.values() for file in mark["files"])
        known = sorted(file.stem for file in files if file.parent.name == kind)
        raise UnknownName(kind.removesuffix("s"), name, known)

    def _unharmed(self, file: str) -> Path:
        owner = self._owner(file)
        if owner is None or self._hash(file) != self._parts[owner]["files"][file]:
            raise ArtifactRefused(
                f"{self.path / file} is missing or has changed since it was written: "
                "run the same command again to redo it"
            )
        return self.path / file


def require_room(path: Path, num_bytes: int) -> None:
    """Stop if fewer bytes than these are free on the disk of a folder, existing or to be.

    Raises:
        NoRoom: Says how much is needed and how much there is.
    """
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    if free < num_bytes:
        raise NoRoom(
            f"the run writes about {size(num_bytes)} and {there} has {size(free)} free: "
            "free some, or choose another disk with --out"
        )


def write_manifest(store: Folder, extra: Mapping[str, str]) -> None:
    """Write `manifest.json`: SHA-256 of all that the run leaves.

    The report and its figures are not in it, since they can be built again at any time.

    Args:
        store: The finished parts.
        extra: Further files with their SHA-256, written or about to be.
    """
    manifest = {"schema": _SCHEMA, "files": dict(sorted({**store.files(), **extra}.items()))}
    write_bytes(store.path / "manifest.json", encode(manifest))


def verify(run_dir: Path) -> list[str]:
    """The files of a finished run that are missing or have changed, by the run's manifest.

    Raises:
        ArtifactRefused: If there is no manifest, or it names files outside the folder.
    """
    path = run_dir / "manifest.json"
    if not path.is_file():
        raise ArtifactRefused(f"{run_dir} has no manifest.json: the run was not finished")
    manifest, root = decode(path.read_bytes(), str(path)), run_dir.resolve()
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict):
        raise ArtifactRefused(f"{path} lists no files: run the same command again to redo it")
    if outside := [f for f in files if not (root / f).resolve().is_relative_to(root)]:
        raise ArtifactRefused(f"{path} names files outside its folder: {outside[0]!r}")
    return [f for f, d in files.items() if not (root / f).is_file() or sha256(root / f) != d]


def _marks(path: Path) -> Iterator[dict[str, Any]]:
    """The marks that can be read; a damaged one is as good as none, and its part is redone."""
    for folder in (path / "parts", path / "scratch" / "parts"):
        for file in sorted(folder.glob("[!.]*.json")):
            try:
                mark = decode(file.read_bytes(), file.name)
            except ArtifactRefused:
                continue
            if isinstance(mark, dict) and mark.get("part") == file.stem and mark.get("files"):
                yield mark


def _checked(name: str, file: str) -> str:
    if not _NAME.fullmatch(name) or ".." in name:
        raise ValueError(f"{name!r} cannot name a file: use letters, digits, '_', '-' and '.'")
    return file


def _file(root: str, kind: str, name: str) -> str:
    return _checked(name, f"{root}{kind}/{name}{_SUFFIX.get(kind, '.json')}")


def _other(root: str, path: str) -> str:
    parts = path.split("/")
    if len(parts) < 2 or parts[0] in (*_SUFFIX, "parts", "scratch", "work"):
        raise ValueError(f"{path!r} must lie in a folder of its own kind")
    for part in parts:
        _checked(part, path)
    return f"{root}{path}"


def _fill(path: Path, write: Callable[[Path], object]) -> None:
    write(path)


def _stamp(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _write_tensors(path: Path, tensors: "Mapping[str, Tensor]") -> None:
    from safetensors.torch import save_file

    # safetensors refuses tensors that share memory: the second view of one block is copied.
    seen: set[int] = set()
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        block = tensor.untyped_storage().data_ptr()
        apart[name] = (tensor.detach().clone() if block in seen else tensor.detach()).contiguous()
        seen.add(block)
    save_file(apart, path)


def _write_table(path: Path, table: "pa.Table") -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd")


def _write_record(path: Path, value: Any) -> None:
    path.write_bytes(encode(value))


_WRITERS: Mapping[str, Callable[[Path, Any], None]] = {
    "tensors": _write_tensors, "tables": _write_table, "records": _write_record,
}  # fmt: skip
