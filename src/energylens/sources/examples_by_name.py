"""Examples as somebody asks for them: by a name of ours, in files of their own, or on a hub."""

import re
from pathlib import Path

import torch

from energylens.core.errors import BadInput
from energylens.sources.examples import EXAMPLE_SETS, Examples
from energylens.sources.hub_examples import hub_examples
from energylens.sources.hub_text import hub_text, is_hub_text
from energylens.sources.images import load_images


def examples_named(dataset: str) -> Examples:
    """Read a set of examples.

    Args:
        dataset: A name of `EXAMPLE_SETS`; an .npz file with arrays `images` and `labels`; a folder
            with a pair of IDX files, as QMNIST has them; or of a hub, `hf:owner/name#given,label`
            with the columns of what is given and of its class, and `:config:split` before them.

    Raises:
        BadInput: If there is none, or it is not as it should be.
        UnknownName: If it is nearly a name of ours.
        ArtifactRefused: If a file is damaged.
    """
    if is_hub_text(dataset):
        given, _, label = hub_text(dataset).column.partition(",")
        if not given or not label:
            raise BadInput(
                f"dataset {dataset!r} should end in #GIVEN,LABEL, the columns of what is given and"
                " of its class, as in hf:owner/name#image,label"
            )
        return hub_examples(
            hub_text(dataset), name=short_name(dataset), given=given, label=label
        )  # fmt: skip
    if not _is_path(dataset):
        return EXAMPLE_SETS[dataset].load()
    images = load_images(dataset)
    units = torch.arange(len(images)) if images.units is None else images.units
    return Examples(
        inputs=images.pixels, labels=images.labels, units=units, classes=images.classes,
        name=short_name(dataset), source=images.source, sha256=images.sha256,
    )  # fmt: skip


def check_name(dataset: str) -> None:
    """Look for a name among ours, where it is neither of a file nor of a hub; nothing is read.

    Raises:
        UnknownName: If there is none; carries the nearest ones.
    """
    if not is_hub_text(dataset) and not _is_path(dataset):
        EXAMPLE_SETS[dataset]


def short_name(dataset: str) -> str:
    """What runs and files of a set are called.

    Example:
        >>> [short_name(name) for name in ("digits", "hf:me/birds:train#image,label", "a/b.npz")]
        ['digits', 'me-birds-train', 'b']
    """
    if is_hub_text(dataset):
        name = hub_text(dataset).label
    elif _is_path(dataset):
        name = Path(dataset).expanduser().resolve().stem
    else:
        return dataset
    return re.sub(r"[^\w.]+", "-", name).strip("-")


def _is_path(dataset: str) -> bool:
    if dataset in EXAMPLE_SETS:
        return False
    return "/" in dataset or dataset.endswith(".npz") or Path(dataset).expanduser().exists()
