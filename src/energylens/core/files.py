"""Files that are all there or not there at all, whatever happens while they are written."""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from energylens.core.errors import NoRoom

LOCK = ".lock"  # in a run's folder; its holder alone writes there
_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_atomic(path: Path, write: Callable[[Path], object]) -> str:
    """Let `write` fill a temporary file beside `path`, then put it in place in one step.

    The file is flushed to the disk before it takes its name, and the folder after, so that a
    reader sees the old file or the new one, never half of one, even after a power cut.

    Returns:
        SHA-256 of the file, in hex.

    Raises:
        NoRoom: If the disk is full; the old file or the new one is there, and nothing else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        write(beside)
        digest = sha256(beside)
        flush(beside)
        os.replace(beside, path)
        flush(path.parent)
    except Exception as error:
        beside.unlink(missing_ok=True)
        if _is_full(error):
            raise NoRoom(
                f"no room on the disk to write {path}: free some, then run the same command again"
            ) from error
        raise
    return digest


def write_bytes(path: Path, data: bytes) -> str:
    """Write bytes atomically; see `write_atomic`."""
    return write_atomic(path, lambda beside: beside.write_bytes(data))


def sweep(folder: Path) -> None:
    """Remove what writers that were killed have left; the caller holds the folder's lock.

    Folders inside that have a lock of their own are left alone: another process may write there.
    """
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not (Path(root) / name / LOCK).exists()]
        for name in files:
            if name.startswith(".") and name.endswith(".tmp"):
                (Path(root) / name).unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_full(error: BaseException) -> bool:
    # safetensors reports a full disk as text in an error class of its own.
    return (isinstance(error, OSError) and error.errno in _FULL) or "os error 28" in str(error)
