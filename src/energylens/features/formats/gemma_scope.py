"""Gemma Scope: `params.npz` (Gemma 2) or `params.safetensors` (Gemma Scope 2), all JumpReLU."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.architecture import ARCHITECTURES
from energylens.features.dictionary import Dictionary
from energylens.features.formats.disk import (
    Write,
    read_json,
    read_npz,
    read_safetensors,
    write_folder,
    write_npz,
)
from energylens.features.formats.layout import (
    dictionary_of,
    layout,
    pack,
    unpack,
    without_offset,
)
from energylens.features.formats.recognise import dictionary_format

FILES = ("params.npz", "params.safetensors")

_NAMES = {
    "W_enc": "w_enc", "b_enc": "b_enc", "W_dec": "w_dec", "b_dec": "b_dec",
    "threshold": "threshold",
}  # fmt: skip
SKIP = "affine_skip_connection"
_SAID = ("model_name", "hf_hook_point_in", "hf_hook_point_out")


@dictionary_format("Gemma Scope 2", FILES[1])
@dictionary_format("Gemma Scope", FILES[0], is_file=lambda path: path.suffix == ".npz")
def load(path: Path | str) -> Dictionary:
    """Read a dictionary of Gemma Scope: autoencoder or transcoder, with a skip or without.

    The offset of the decoder is not subtracted from the input. Dictionaries of embeddings are as
    stored: they read embeddings before Gemma multiplies them by √d.

    Args:
        path: The file, or the folder that holds it under its usual name.

    Raises:
        ArtifactRefused: If the file is missing or damaged, or tensors are missing, left over, of
            the wrong shape or not finite.
    """
    path = Path(path)
    path = next((path / name for name in FILES if (path / name).is_file()), path)
    kept = (read_npz if path.suffix == ".npz" else read_safetensors)(path)
    kept = {re.sub("^W_", "w_", name): tensor for name, tensor in kept.items()}
    scale = kept.pop("scaling_factor", None)
    if scale is not None and not torch.equal(scale, torch.ones_like(scale)):
        raise ArtifactRefused(f"{path} holds a scaling_factor other than 1, which is not read")
    skip = {"W_skip": SKIP} if SKIP in kept else {}
    wanted = layout(["W_enc", "W_skip"], **_NAMES, **skip)
    parts = unpack(path, kept, wanted, one_site=False)
    parts["threshold"] = parts["threshold"].clamp(min=0)
    return dictionary_of(
        path, parts, architecture="jumprelu", k=None, subtracts_b_dec=False,
        metadata=_metadata(path.parent / "config.json"),
    )  # fmt: skip


def save(dictionary: Dictionary, folder: Path | str) -> Path:
    """Write a dictionary as a folder of Gemma Scope, all of it or nothing.

    `params.npz` of Gemma Scope where that can hold it; with a skip, or in bfloat16,
    `params.safetensors` of Gemma Scope 2. A ReLU becomes a JumpReLU whose thresholds are 0, and a
    b_dec that is subtracted from the input is folded into the encoder's offset.

    Args:
        dictionary: A standard or jumprelu.
        folder: Must not exist, or be empty.

    Raises:
        BadInput: If the folder is in use, if Gemma Scope has no such dictionary, or if a value is
            not finite.
    """
    return write_folder(Path(folder), files(dictionary))


def files(dictionary: Dictionary) -> dict[str, Write]:
    """What the folder of a dictionary holds: by file name, the function that writes the file.

    Raises:
        BadInput: If Gemma Scope has no such dictionary, or a value is not finite.
    """
    made = ARCHITECTURES[dictionary.architecture].finish(dictionary)
    if made.architecture not in ("standard", "jumprelu"):
        raise BadInput(f"Gemma Scope holds jumprelu alone: a {made.architecture} cannot be written")
    made = without_offset(made)
    own = {"threshold": made.own.get("threshold", torch.zeros_like(made.b_enc)).clamp(min=0)}
    made = replace(made, architecture="jumprelu", own=own)
    if made.W_skip is None and made.W_enc.dtype != torch.bfloat16:  # numpy has no such type
        kept = pack(made, layout(["W_enc"], **{name: name for name in _NAMES}))
        return {FILES[0]: lambda path: write_npz(path, kept)}
    skip = {} if made.W_skip is None else {"W_skip": SKIP}
    kept = pack(made, layout(["W_enc", "W_skip"], **_NAMES, **skip))
    said = {name: made.metadata[name] for name in _SAID if name in made.metadata}
    said |= {"architecture": "jump_relu", "width": made.width, "affine_connection": bool(skip)}
    text = json.dumps(said, indent=2) + "\n"
    return {
        FILES[1]: lambda path: save_file(kept, path),
        "config.json": lambda path: path.write_text(text, encoding="utf-8"),
    }


def _metadata(config: Path) -> dict[str, Any]:
    """What the settings beside the tensors of Gemma Scope 2 say, with names as they stand there."""
    found = read_json(config) if config.is_file() else {}
    return {name: found[name] for name in _SAID if isinstance(found.get(name), str)}
