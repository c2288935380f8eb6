"""`run.json`: what was run, with what, on what, for how long, and how it ended."""

import hashlib
import resource
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from energylens.core.errors import ArtifactRefused
from energylens.core.files import write_bytes
from energylens.results import provenance
from energylens.results.plain import decode, encode
from energylens.results.record import Summary
from energylens.run.edges.store.folder import Folder, verify, write_manifest
from energylens.studies.study import Study, options_record, run_key

SCHEMA = 1


def read_run(run_dir: Path) -> dict[str, Any] | None:
    """`run.json` of a folder; None if the folder holds no run.

    Raises:
        ArtifactRefused: If it is damaged, or was written by a newer version.
    """
    path = run_dir / "run.json"
    if not path.is_file():
        return None
    try:
        record = decode(path.read_bytes(), str(path))
    except ArtifactRefused as error:
        raise ArtifactRefused(f"{error}; take another folder") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA or "study" not in record:
        raise ArtifactRefused(
            f"{path} does not follow schema {SCHEMA} of this version: take another folder"
        )
    return record


def finished(run_dir: Path) -> Summary | None:
    """The summary of a run that is done and undamaged; None if there is still work to do."""
    record = read_run(run_dir)
    try:
        if record is None or record.get("status") != "done" or verify(run_dir):
            return None
        return Summary.from_json((run_dir / "summary.json").read_bytes())
    except ArtifactRefused:
        return None


class Ledger:
    """Keeps `run.json` true from the start of a run to its end, over all its sittings."""

    def __init__(
        self,
        run_dir: Path,
        study: Study,
        options: Any,
        argv: Sequence[str],
        *,
        processes: int = 1,
    ) -> None:
        asked = options_record(options)
        self._path, self._began = run_dir / "run.json", time.monotonic()
        self._before = read_run(run_dir) or {}
        self._device = str(asked.get("device", "cpu"))
        self.record: dict[str, Any] = {
            "schema": SCHEMA,
            "study": study.name,
            "question": study.question,
            "options": asked,
            "key": run_key(study.name, options),
            "status": "running",
            "error": None,
            "command": provenance.command(argv),
            "started": self._before.get("started", _now()),
            "finished": None,
            "processes": processes,
            "sittings": self._before.get("sittings", 0) + 1,
            "seeds": asked.get("seeds", [asked["seed"]] if "seed" in asked else []),
            "versions": provenance.versions(),
            "code": provenance.code(),
        }
        self.note()

    def note(self) -> None:
        """Write how far the run is; called after each part, so that a killed run counts too."""
        self.record |= {
            "seconds": round(self._before.get("seconds", 0.0) + time.monotonic() - self._began, 3),
            "hardware": provenance.hardware(self._device),
            "inputs": self._inputs(),
            "peak_memory_mb": max(self._before.get("peak_memory_mb", 0.0), peak_memory_mb()),
        }
        self.record["changes"] = self._changes()
        write_bytes(self._path, encode(self.record))

    def fail(self, sentence: str) -> None:
        """Record that the run ended early, and why."""
        self.record |= {"status": "failed", "error": sentence, "finished": _now()}
        self.note()

    def finish(self, store: Folder, summary: bytes) -> None:
        """Write summary, manifest and, last of all, a `run.json` that says the run is done."""
        folder = self._path.parent
        write_bytes(folder / "summary.json", summary)
        self.note()
        store.finish()
        self.record |= {"status": "done", "finished": _now()}
        done = encode(self.record)
        write_manifest(store, {"summary.json": _digest(summary), "run.json": _digest(done)})
        write_bytes(self._path, done)

    def _inputs(self) -> Any:
        path = self._path.parent / "records" / "inputs.json"
        return decode(path.read_bytes(), str(path)) if path.is_file() else {}

    def _changes(self) -> list[str]:
        """What differs from the sitting before: finished parts may then differ in last digits."""
        earlier = self._before.get("changes", [])
        if not any((self._path.parent / "parts").glob("*.json")):
            return earlier
        sitting = self.record["sittings"]
        pairs = {
            "processes": [r.get("processes", 1) for r in (self._before, self.record)],
            "threads": [r.get("hardware", {}).get("threads") for r in (self._before, self.record)],
            **{
                name: [r.get("versions", {}).get(name) for r in (self._before, self.record)]
                for name in ("energylens", "torch", "numpy")
            },
            "code": [r.get("code", {}).get("git") for r in (self._before, self.record)],
        }
        return earlier + [
            f"{name} changed from {old} to {new} at sitting {sitting}"
            for name, (old, new) in pairs.items()
            if self._before and old != new
        ]


def peak_memory_mb() -> float:
    """The largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)  # macOS counts bytes


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
