"""Arrays in IDX files, the form of MNIST and of the sets made like it: QMNIST, EMNIST, KMNIST."""

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from energylens.core.errors import ArtifactRefused, BadInput

# By the third byte of a file, as LeCun's description of the form has it.
_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_GZIP = b"\x1f\x8b"
_MOST_PACKED = 1_100  # times that gzip makes a file smaller at most
_WRITER = 2
"""Column of QMNIST's long labels that says who wrote a digit; the first is its class."""


def idx_files(folder: Path) -> tuple[Path, Path]:
    """Images and labels of a folder, those for training where it has others too.

    Raises:
        BadInput: If the folder has no such pair, or several.
    """
    there = sorted(path.name for path in folder.iterdir() if "-idx" in path.name)
    found = []
    for kind in ("images", "labels"):
        names = [name for name in there if kind in name]
        names = [name for name in names if "train" in name] or names
        if len(names) != 1:
            raise BadInput(
                f"{folder} has {', '.join(names) or 'no file'} of {kind}: it should have one whose"
                f" name ends like train-{kind}-idx{'3' if kind == 'images' else '1'}-ubyte.gz"
            )
        found.append(folder / names[0])
    return found[0], found[1]


def read_idx(path: Path) -> np.ndarray:
    """The array of a file, packed by gzip or not.

    Raises:
        ArtifactRefused: If the file is no IDX file, or is cut short.
    """
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == _GZIP
            plain.seek(0)
            room = path.stat().st_size * (_MOST_PACKED if packed else 1)
            if not packed:
                return _array(plain, path, room)
            with gzip.GzipFile(fileobj=plain) as unpacked:
                return _array(unpacked, path, room)
    except (OSError, EOFError, zlib.error) as error:
        raise ArtifactRefused(
            f"{path} cannot be read ({type(error).__name__}): fetch it again"
        ) from None


def classes_and_writers(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Of labels, or of QMNIST's rows of eight numbers: the class, and who wrote it where known."""
    if labels.ndim == 2 and labels.shape[1] > _WRITER:
        return labels[:, 0], labels[:, _WRITER]
    return labels, None


def _array(file: io.BufferedIOBase, path: Path, room: int) -> np.ndarray:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES:
        raise ArtifactRefused(f"{path} is no IDX file: its first bytes are {head.hex() or 'none'}")
    sides = file.read(4 * head[3])
    shape = struct.unpack(f">{len(sides) // 4}I", sides[: len(sides) // 4 * 4])
    kind = np.dtype(_TYPES[head[2]])
    size = math.prod(shape) * kind.itemsize
    # What the head promises is not believed before it is allocated.
    content = file.read(size) if size <= room else b""
    if len(shape) != head[3] or len(content) != size or file.read(1):
        raise ArtifactRefused(
            f"{path} should hold {'×'.join(map(str, shape))} numbers of {kind.itemsize} bytes and"
            " does not: fetch it again"
        )
    return np.frombuffer(content, dtype=kind).reshape(shape).astype(kind.newbyteorder("="))
