"""IDX files give back what was written, and what is cut short or promised falsely is refused."""

import gzip
import struct

import numpy as np
import pytest

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.sources.idx import idx_files, read_idx

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx(array):
    """The bytes of a file, by the description of the form."""
    code = CODES[array.dtype.str[1:]]
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_qmnist(folder, pixels, labels):
    """A pair as QMNIST's authors give it away."""
    folder.mkdir(parents=True)
    for kind, array in (("images-idx3-ubyte", pixels), ("labels-idx2-int", labels)):
        (folder / f"qmnist-train-{kind}.gz").write_bytes(gzip.compress(idx(array)))
    return folder


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("packed", [False, True])
def test_arrays_of_every_type_come_back(kind, packed, tmp_path):
    array = np.arange(24).reshape(2, 3, 4).astype(kind)
    path = tmp_path / "some-idx3"
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    found = read_idx(path)
    assert found.dtype == array.dtype and np.array_equal(found, array)


def test_damaged_files_are_refused(tmp_path):
    good, path = idx(np.ones((3, 4), dtype="i4")), tmp_path / "some-idx2"
    promised = good[:4] + struct.pack(">2I", 1 << 30, 1 << 30)  # 2^62 bytes that are not there
    packed = gzip.compress(good)
    for content, why in (
        (b"", "its first bytes are none"), (b"PK\3\4", "no IDX file"), (good[:-1], "3×4 numbers"),
        (good + b"\0", "3×4 numbers"), (good[:6], "should hold"), (promised, "should hold"),
        (gzip.compress(promised), "should hold"), (packed[:-9], "EOFError"),
        (packed[:20] + b"\xff\xff" + packed[22:], "cannot be read|should hold|no IDX"),
    ):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(ArtifactRefused, match=why):
            read_idx(path)


def test_a_folder_must_say_which_files_are_meant(tmp_path):
    with pytest.raises(BadInput, match="no file of images"):
        idx_files(tmp_path)
    for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (tmp_path / name).touch()
    assert idx_files(tmp_path)[0].name == "train-images-idx3-ubyte"
    (tmp_path / "train-images-idx3-ubyte.gz").touch()
    with pytest.raises(BadInput, match="idx3-ubyte, train-images-idx3-ubyte.gz of images"):
        idx_files(tmp_path)
