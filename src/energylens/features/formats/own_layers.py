"""Our own folder of a cross-layer transcoder, for those that circuit-tracer has no place for.

`cross_layer.safetensors` holds all tensors by the names of `CrossLayerTranscoder.weights`,
`cross_layer.json` what they are: architecture, k, layers and metadata.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.architecture import ARCHITECTURES
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.formats.disk import (
    Write,
    read_json,
    read_safetensors,
    refuse_non_finite,
    write_folder,
)
from energylens.features.formats.recognise import dictionary_format

CONFIG, WEIGHTS = "cross_layer.json", "cross_layer.safetensors"
SCHEMA = 1


def save(model: CrossLayerTranscoder, folder: Path | str) -> Path:
    """Write a cross-layer transcoder as a folder, all of it or nothing.

    Args:
        model: What to write; an architecture of training alone is written as what it becomes.
        folder: Must not exist, or be empty.

    Raises:
        BadInput: If the folder is in use, a value is not finite, or metadata are not JSON values.
    """
    return write_folder(Path(folder), files(model))


def files(model: CrossLayerTranscoder) -> Mapping[str, Write]:
    """By file name, the function that writes the file.

    Raises:
        BadInput: If a value is not finite, or metadata are not JSON values.
    """
    made = model.finish()
    refuse_non_finite(made.weights)
    said = {"schema": SCHEMA, "architecture": made.architecture, "k": made.k,
            "layers": list(made.layers), "metadata": dict(made.metadata)}  # fmt: skip
    try:
        text = json.dumps(said, indent=2, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BadInput(f"metadata must be finite JSON values: {error}") from error
    # Copies: no two tensors of a file may share memory, as those of a tied transcoder might.
    kept = {n: w.detach().clone(memory_format=torch.contiguous_format)
            for n, w in made.weights.items()}  # fmt: skip
    return {
        WEIGHTS: lambda path: save_file(kept, path),
        CONFIG: lambda path: path.write_text(text, encoding="utf-8"),
    }


@dictionary_format("Energylens across layers", CONFIG, WEIGHTS)
def load(folder: Path | str) -> CrossLayerTranscoder:
    """Read what `save` wrote.

    Raises:
        ArtifactRefused: If a file is missing or damaged, was written by a newer version, or if
            tensors are missing, left over, of the wrong shape or not finite.
    """
    folder = Path(folder)
    said, kept = read_json(folder / CONFIG), read_safetensors(folder / WEIGHTS)
    _check_settings(folder / CONFIG, said)
    layers = tuple(said["layers"])
    names = ("W_enc", "b_enc", "W_dec", *ARCHITECTURES[said["architecture"]].own(1, torch.zeros(1)))
    expected = {"b_dec", *(f"{name}.{place}" for name in names for place in range(len(layers)))}
    if set(kept) != expected:
        raise ArtifactRefused(
            f"{folder / WEIGHTS} should hold {', '.join(sorted(expected))}, found"
            f" {', '.join(sorted(kept))}"
        )
    try:
        refuse_non_finite(kept)
        found = CrossLayerTranscoder.of_weights(
            kept, architecture=said["architecture"], k=said["k"], layers=layers,
            metadata=said["metadata"],
        )  # fmt: skip
    except BadInput as error:
        raise ArtifactRefused(f"{folder / WEIGHTS}: {error}") from error
    _check_shapes(folder / WEIGHTS, found, kept)
    return found


def _check_settings(path: Path, said: Mapping[str, Any]) -> None:
    layers = said.get("layers")
    fits = (
        said.get("architecture") in list(ARCHITECTURES)
        and type(said.get("k")) is int
        and isinstance(layers, list)
        and layers == sorted({n for n in layers if type(n) is int and n >= 0})
        and bool(layers)
        and isinstance(said.get("metadata"), dict)
    )
    if said.get("schema") != SCHEMA or not fits:
        raise ArtifactRefused(
            f"{path} should say schema {SCHEMA}, a known architecture, k, ascending layers and"
            f" metadata; found { ({n: v for n, v in said.items() if n != 'metadata'}) }"
        )


def _check_shapes(path: Path, found: CrossLayerTranscoder, kept: Mapping[str, Tensor]) -> None:
    d_in, d_out, depth = found.d_in, found.d_out, len(found.layers)
    for place, width in enumerate(found.widths):
        wanted: dict[str, tuple[int, ...]] = dict.fromkeys(found.own[place], (width,))
        wanted |= {"W_enc": (width, d_in), "W_dec": (width, depth - place, d_out)}
        for name, shape in wanted.items():
            tensor = kept[f"{name}.{place}"]
            if tuple(tensor.shape) != shape or tensor.dtype != found.b_dec.dtype:
                raise ArtifactRefused(
                    f"{path}: {name}.{place} should be {found.b_dec.dtype} of shape {shape}, found"
                    f" {tensor.dtype} of {tuple(tensor.shape)}"
                )
