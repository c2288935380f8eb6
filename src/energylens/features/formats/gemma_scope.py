"""Gemma Scope: `params.npz` (Gemma 2) or `params.safetensors` (Gemma Scope 2), all JumpReLU."""

import re
from pathlib import Path
from typing import Any

import torch

from energylens.core.errors import ArtifactRefused
from energylens.features.dictionary import Dictionary
from energylens.features.formats.disk import read_json, read_npz, read_safetensors
from energylens.features.formats.layout import dictionary_of, layout, unpack
from energylens.features.formats.recognise import dictionary_format

FILES = ("params.npz", "params.safetensors")

_NAMES = {
    "W_enc": "w_enc", "b_enc": "b_enc", "W_dec": "w_dec", "b_dec": "b_dec",
    "threshold": "threshold",
}  # fmt: skip
SKIP = "affine_skip_connection"


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


def _metadata(config: Path) -> dict[str, Any]:
    """What the settings beside the tensors of Gemma Scope 2 say, with names as they stand there."""
    found = read_json(config) if config.is_file() else {}
    named = ("model_name", "hf_hook_point_in", "hf_hook_point_out")
    return {name: found[name] for name in named if isinstance(found.get(name), str)}
