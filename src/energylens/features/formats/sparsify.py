"""EleutherAI's sparsify: `cfg.json` beside `sae.safetensors`, a folder a hookpoint."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.dictionary import Dictionary
from energylens.features.formats.disk import Write, read_json, read_safetensors, write_folder
from energylens.features.formats.layout import dictionary_of, layout, pack, setting, unpack
from energylens.features.formats.recognise import dictionary_format

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
ACTIVATIONS = ("topk", "groupmax")

_NAMES = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "W_dec", "b_dec": "b_dec"}
_DEFAULTS = {
    "activation": "topk", "expansion_factor": 32, "num_latents": 0, "k": 32,
    "skip_connection": False, "transcode": False, "signed": False,
}  # fmt: skip


@dictionary_format("sparsify", CONFIG, WEIGHTS)
def load(folder: Path | str) -> Dictionary:
    """Read a dictionary of sparsify: autoencoder or transcoder, with a skip or without.

    The hookpoint is taken from the folder's name; `layers.5` becomes `blocks.5.resid_post`.

    Raises:
        ArtifactRefused: If a file is missing or damaged, a setting is not known, or tensors are
            missing, left over, of the wrong shape or not finite.
    """
    folder = Path(folder)
    path = folder / CONFIG
    found = read_json(path)
    config = {**_DEFAULTS, **{name: value for name, value in found.items() if value is not None}}
    for name, default in (*_DEFAULTS.items(), ("d_in", 0)):
        setting(path, config, name, type(default))
    if config["activation"] not in ACTIVATIONS or config["signed"]:
        signed = "signed " if config["signed"] else ""
        raise ArtifactRefused(
            f"{path} asks for {signed}{config['activation']!r}, read are {', '.join(ACTIVATIONS)}"
        )
    names = _NAMES | ({"W_skip": "W_skip"} if config["skip_connection"] else {})
    kept = read_safetensors(folder / WEIGHTS)
    parts = unpack(folder / WEIGHTS, kept, layout(**names), one_site=True)
    d_in, width = config["d_in"], config["num_latents"]
    width = width or d_in * config["expansion_factor"]
    if parts["W_enc"].shape != (width, d_in):
        raise ArtifactRefused(
            f"{path} says {width} latents of {d_in} values, the tensors have "
            f"{' of '.join(map(str, parts['W_enc'].shape))}: the two files do not belong together"
        )
    return dictionary_of(
        folder, parts, architecture=config["activation"], k=config["k"],
        subtracts_b_dec=not config["transcode"], metadata=_metadata(folder, config["transcode"]),
    )  # fmt: skip


def save(dictionary: Dictionary, folder: Path | str) -> Path:
    """Write a dictionary as a folder that sparsify loads, all of it or nothing.

    Args:
        dictionary: A topk or groupmax that writes rows as wide as it reads.
        folder: Must not exist, or be empty; sparsify takes its name for the hookpoint.

    Raises:
        BadInput: If the folder is in use, if sparsify has no such dictionary, or if a value is not
            finite.
    """
    return write_folder(Path(folder), files(dictionary))


def files(dictionary: Dictionary) -> dict[str, Write]:
    """What the folder of a dictionary holds: by file name, the function that writes the file.

    Raises:
        BadInput: If sparsify has no such dictionary, or a value is not finite.
    """
    if dictionary.architecture not in ACTIVATIONS or dictionary.d_in != dictionary.d_out:
        raise BadInput(
            f"sparsify holds {' and '.join(ACTIVATIONS)} of one width: a {dictionary.architecture} "
            f"from {dictionary.d_in} to {dictionary.d_out} values cannot be written"
        )
    skip = dictionary.W_skip is not None
    kept = pack(dictionary, layout(**_NAMES | ({"W_skip": "W_skip"} if skip else {})))
    norms = torch.linalg.vector_norm(dictionary.W_dec.detach(), dim=1)
    config = {
        "activation": dictionary.architecture,
        "d_in": dictionary.d_in,
        "expansion_factor": max(1, dictionary.width // dictionary.d_in),
        "k": dictionary.k,
        "multi_topk": False,
        "normalize_decoder": bool(((norms - 1).abs() < 1e-3).all()),
        "num_latents": dictionary.width,
        "skip_connection": skip,
        "transcode": not dictionary.subtracts_b_dec,
    }
    text = json.dumps(config, indent=2) + "\n"
    return {
        WEIGHTS: lambda path: save_file(kept, path),
        CONFIG: lambda path: path.write_text(text, encoding="utf-8"),
    }


def folder_name(dictionary: Dictionary) -> str:
    """The hookpoint that sparsify takes from a folder's name; empty if the metadata has none."""
    site = str(dictionary.metadata.get("hook_name"))
    layer = re.fullmatch(r"blocks\.(\d+)\.resid_post", site)
    found = dictionary.metadata.get("hookpoint", f"layers.{layer[1]}" if layer else "")
    return found if re.fullmatch(r"\w[\w.-]*", str(found)) else ""


def _metadata(folder: Path, transcode: bool) -> dict[str, Any]:
    """The hookpoint, and the model of the run that the folder above describes."""
    found: dict[str, Any] = {"hookpoint": folder.name}
    layer = re.fullmatch(r"(?:.*\.)?(?:layers|h|blocks)\.(\d+)", folder.name)
    if layer and not transcode:
        found["hook_name"] = f"blocks.{layer[1]}.resid_post"
    run = folder.parent / "config.json"
    model = read_json(run).get("model") if run.is_file() else None
    return found | ({"model_name": model} if isinstance(model, str) else {})
