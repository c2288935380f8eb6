"""Labelled images: the digits that scikit-learn ships, or one's own as .npz or IDX files."""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.sources.idx import classes_and_writers, idx_files, read_idx

DIGITS = "digits"
CHANNELS = (1, 3, 4)


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """How an image classifier reads pixels, as its files say; None where they do not.

    Attributes:
        size: Height and width.
        mean, std: Of each channel: pixels from 0 to 1 are brought to (pixel − mean) / std.
    """

    channels: int | None = None
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images with one label each: an image is the statistical unit.

    Attributes:
        pixels: As they were given; whole numbers are divided by 255, floats stay.
        labels: A class of each image, counted from 0.
        classes: Name of each class.
        name: As reports say it.
        source: Where they came from, with the version.
        sha256: Hash of what was read.
        whole: Whether the pixels were whole numbers.
        units: Who made each image, where that is known: those of one writer are alike.
    """

    pixels: Float[Tensor, "image channel height width"]
    labels: Int[Tensor, " image"]
    classes: Sequence[str]
    name: str
    source: str
    sha256: str
    whole: bool = False
    units: Int[Tensor, " image"] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Int[Tensor, " row"]) -> "Images":
        """Some of the images, in the order asked for."""
        units = None if self.units is None else self.units[rows]
        return replace(self, pixels=self.pixels[rows], labels=self.labels[rows], units=units)


def load_images(name: str | Path = DIGITS) -> Images:
    """Read labelled images.

    Args:
        name: `digits`, or an .npz file with arrays `images` [n, h, w], [n, c, h, w] or
            [n, h, w, c], and `labels` [n]; or a folder with a pair of IDX files.

    Raises:
        BadInput: If an array is missing, of another shape, not finite, or labels are no classes.
        ArtifactRefused: If a file is no .npz or IDX file, damaged, or holds pickled objects.
    """
    if str(name) == DIGITS:
        return _digits()
    path = Path(name).expanduser()
    if path.is_dir():
        return _idx(path)
    if not path.is_file():
        raise BadInput(
            f"no images are at {name}: give an .npz file with images and labels, or a folder with"
            " IDX files"
        )
    found = _read(path)
    for wanted in ("images", "labels"):
        if wanted not in found:
            there = ", ".join(sorted(found)) or "nothing"
            raise BadInput(
                f"{path} has no array {wanted!r}, only {there}: save it with"
                " numpy.savez(FILE, images=..., labels=...)"
            )
    pixels, whole = _pixels(found["images"], path)
    labels = _labels(found["labels"], len(pixels), path)
    return Images(
        pixels=pixels, labels=labels, whole=whole, name=path.name, source=f"file {path.resolve()}",
        classes=[str(label) for label in range(int(labels.max()) + 1)],
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )  # fmt: skip


def pixel_format(config: Any, preprocessor: Path | None = None) -> PixelFormat:
    """What a Hugging Face configuration, and the JSON of its image processor, say of pixels.

    Raises:
        ArtifactRefused: If the JSON cannot be read.
    """
    size = getattr(config, "image_size", None)
    size = (size, size) if isinstance(size, int) else tuple(size) if size else None
    channels = getattr(config, "num_channels", None)
    mean = std = None
    if preprocessor is not None and preprocessor.is_file():
        try:
            said = json.loads(preprocessor.read_text(encoding="utf-8"))
            if said.get("do_normalize", True) and "image_mean" in said and "image_std" in said:
                mean, std = (tuple(map(float, said[f"image_{name}"])) for name in ("mean", "std"))
        except (ValueError, TypeError, AttributeError) as error:
            raise ArtifactRefused(
                f"{preprocessor} is not the JSON of an image processor ({type(error).__name__}):"
                " save it again with save_pretrained"
            ) from None
    return PixelFormat(channels=channels, size=size, mean=mean, std=std)


def prepared(images: Images, reads: PixelFormat) -> Images:
    """Images as a classifier reads them: channels, size, and the scale of its training.

    One channel is repeated where more are read. Another size is brought to the one read, bilinear.
    Whole numbers are normalised as the image processor says; floats go in as they are.

    Raises:
        BadInput: If the images have channels that the classifier does not read.
    """
    pixels, channels = images.pixels, images.pixels.shape[1]
    if reads.channels is not None and channels != reads.channels:
        if channels != 1:
            raise BadInput(
                f"images of {images.name} have {channels} channels and the model reads"
                f" {reads.channels}: convert them"
            )
        pixels = pixels.expand(-1, reads.channels, -1, -1)
    if reads.size is not None and tuple(pixels.shape[2:]) != reads.size:
        pixels = interpolate(pixels, reads.size, mode="bilinear", antialias=True)
    if images.whole and reads.mean is not None and reads.std is not None:
        mean, std = (torch.tensor(v)[:, None, None] for v in (reads.mean, reads.std))
        pixels = (pixels - mean) / std
    return replace(images, pixels=pixels)


def _digits() -> Images:
    """1,797 handwritten digits of 8 × 8 pixels, 0 to 16 (Alpaydin and Kaynak 1998, CC BY 4.0)."""
    import sklearn
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    pixels = np.ascontiguousarray(found.images, dtype=np.float32)
    return Images(
        pixels=torch.from_numpy(pixels)[:, None],
        labels=torch.from_numpy(found.target.astype(np.int64)),
        classes=[str(digit) for digit in range(10)], name="digits",
        source=f"package scikit-learn {sklearn.__version__}",
        sha256=hashlib.sha256(pixels.tobytes()).hexdigest(),
    )  # fmt: skip


def _idx(folder: Path) -> Images:
    """All images for training of a folder."""
    files = idx_files(folder)
    pixels, whole = _pixels(read_idx(files[0]), files[0])
    classes, writers = classes_and_writers(read_idx(files[1]))
    labels = _labels(classes, len(pixels), files[1])
    hashes = "".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    return Images(
        pixels=pixels, labels=labels, whole=whole, name=folder.resolve().name,
        source=f"files {files[0].resolve()} and {files[1].name}",
        classes=[str(label) for label in range(int(labels.max()) + 1)],
        sha256=hashlib.sha256(hashes.encode()).hexdigest(),
        units=None if writers is None else torch.from_numpy(writers.astype(np.int64)),
    )  # fmt: skip


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise BadInput(
                    f"{path} holds one array: save images and labels in one file with"
                    " numpy.savez(FILE, images=..., labels=...)"
                )
            return {name: archive[name] for name in archive.files}
    except BadInput:
        raise
    except ValueError as error:
        if "pickle" in str(error).lower():
            raise ArtifactRefused(
                f"{path} holds pickled objects, which can run any code on loading: save plain"
                " arrays of numbers with numpy.savez(FILE, images=..., labels=...)"
            ) from None
        raise _damaged(path, error) from None
    except (OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> ArtifactRefused:
    return ArtifactRefused(
        f"{path} cannot be read as .npz ({type(error).__name__}): write it with"
        " numpy.savez(FILE, images=..., labels=...)"
    )


def _pixels(array: np.ndarray, path: Path) -> tuple[Float[Tensor, "image channel h w"], bool]:
    shape = "×".join(map(str, array.shape))
    if array.dtype.kind not in "uif":
        raise BadInput(
            f"images of {path} are of type {array.dtype}: give whole numbers 0 to 255, or floats"
        )
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in CHANNELS and array.shape[3] in CHANNELS:
        array = np.moveaxis(array, 3, 1)
    if array.ndim != 4 or array.shape[1] not in CHANNELS or 0 in array.shape:
        raise BadInput(
            f"images of {path} have the shape {shape}: give [n, height, width], or"
            " [n, channels, height, width] with 1, 3 or 4 channels"
        )
    whole = array.dtype.kind in "ui"
    pixels = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    if bad := int((~pixels.isfinite()).flatten(1).any(1).sum()):
        raise BadInput(
            f"{bad} of {len(pixels)} images of {path} have pixels that are nan or infinite: mend"
            " them or leave them out"
        )
    return (pixels / 255 if whole else pixels), whole


def _labels(array: np.ndarray, count: int, path: Path) -> Int[Tensor, " image"]:
    if array.shape != (count,):
        shape = "×".join(map(str, array.shape)) or "one number"
        raise BadInput(
            f"labels of {path} have the shape {shape} and there are {count} images: give one label"
            " an image"
        )
    numbers = array.astype(np.float64) if array.dtype.kind in "uifb" else None
    if numbers is None or not np.array_equal(numbers, np.round(numbers)) or numbers.min() < 0:
        raise BadInput(
            f"labels of {path} must be whole numbers from 0, the index of each image's class;"
            f" found {array.dtype} such as {array.flat[0]!r}"
        )
    return torch.from_numpy(numbers.astype(np.int64))
