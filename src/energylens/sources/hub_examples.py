"""Images or texts with a class each from Hugging Face datasets, streamed: no code of one is run.

The package `datasets` is an extra, and is imported when such a set is opened.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from energylens.core.errors import BadInput, UnknownName
from energylens.sources.examples import Examples
from energylens.sources.hub_text import HubText, hub_text_record, open_splits
from energylens.sources.words import WORDS, passages

MOST = 10_000


def hub_examples(dataset: HubText, *, name: str, given: str, label: str) -> Examples:
    """The first rows of a split, at most 10,000 of them; each is an independent unit.

    Args:
        dataset: Which; its `column` is not looked at.
        name: As reports say it.
        given: Column of the images or texts.
        label: Column of the classes, whole numbers from 0.

    Raises:
        BadInput: If the package `datasets` is missing, the hub cannot be reached, a column is not
            there, images differ in size, or rows are neither images nor texts.
    """
    splits, split = open_splits(dataset), dataset.split or "train"
    if split not in splits:
        raise UnknownName(f"split of {dataset.name}", split, list(splits))
    rows = splits[split]
    names = rows.column_names or list(next(iter(rows), {}))
    for column in (given, label):
        if column not in names:
            raise BadInput(
                f"{dataset.label} has no column {column!r}: its columns are {', '.join(names)}"
            )
    inputs, labels, words = _read(rows.take(dataset.last or MOST), given, label, dataset.label)
    record = hub_text_record(dataset)
    content = inputs.numpy().tobytes() + labels.numpy().tobytes()
    return Examples(
        inputs=inputs, labels=labels, units=torch.arange(len(labels)), words=words,
        classes=_classes(rows, label, labels), name=name,
        source=f"dataset {record['name']} {str(record['revision'])[:12]}",
        sha256=hashlib.sha256(content).hexdigest(),
    )  # fmt: skip


def _read(rows: Any, given: str, label: str, where: str) -> tuple[Tensor, Tensor, int]:
    """Inputs, labels, and how many numbers of words there are."""
    inputs: list[Tensor] = []
    labels: list[int] = []
    words = 0
    for number, row in _numbered(rows, where):
        value, kind = row[given], row[label]
        if not isinstance(kind, int) or kind < 0:
            raise BadInput(f"row {number} of {where}: its label {kind!r} is no class from 0 on")
        if isinstance(value, str):
            found = passages(value, most=1)
            words = WORDS
            if not len(found):
                continue  # no word, nothing to tell
            inputs.append(found[0])
        else:
            inputs.append(_pixels(value, number, where))
        if inputs[-1].shape != inputs[0].shape:
            raise BadInput(
                f"row {number} of {where} has the shape {tuple(inputs[-1].shape)}, the first has"
                f" {tuple(inputs[0].shape)}: bring all to one size"
            )
        labels.append(kind)
    if not inputs:
        raise BadInput(f"{where} has no rows: choose another split")
    return torch.stack(inputs), torch.tensor(labels), words


def _numbered(rows: Any, where: str) -> Iterator[tuple[int, Any]]:
    try:
        yield from enumerate(rows)
    except Exception as error:  # of the network, of Parquet, of an image: whatever rows come from
        raise BadInput(
            f"{where} broke off ({type(error).__name__}: {' '.join(str(error).split())[:200]}):"
            " run it again"
        ) from error


def _pixels(value: Any, number: int, where: str) -> Tensor:
    """[channel, height, width] from 0 to 1, of a picture as the package `datasets` decodes it."""
    pixels = np.asarray(value)
    if pixels.dtype.kind not in "uif" or pixels.ndim not in (2, 3):
        raise BadInput(
            f"row {number} of {where} is of type {type(value).__name__}: images and texts are read"
        )
    pixels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)
    return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32)) / 255


def _classes(rows: Any, label: str, labels: Tensor) -> Sequence[str]:
    """Their names, where the dataset says them."""
    feature = (rows.features or {}).get(label)
    names = getattr(feature, "names", None)
    return list(names) if names else [str(k) for k in range(int(labels.max()) + 1)]
