"""SAELens' folder, version 6: `cfg.json` beside `sae_weights.safetensors`; our own format too.

SAELens stores the encoder as [d_in, feature] and names sites `blocks.15.hook_resid_post`; both are
turned here and nowhere else. Our own metadata lies under its free-form `metadata` key.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.core.sites import canonical
from energylens.features.architecture import ARCHITECTURES
from energylens.features.dictionary import Dictionary

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
LAYOUT = "6.0.0"
"""Version of SAELens whose layout this is; without one SAELens takes a file for an older layout."""

_TENSORS = ("W_enc", "b_enc", "W_dec", "b_dec")
_TYPES = {str(t).removeprefix("torch."): t
          for t in (torch.float32, torch.float64, torch.float16, torch.bfloat16)}  # fmt: skip
_HOOKS = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "attn.z": "attn.hook_z",
    "mlp.post": "mlp.hook_post",
}


def tensors(dictionary: Dictionary) -> dict[str, Tensor]:
    """The tensors of a dictionary under SAELens' names and in its orientation.

    Raises:
        BadInput: If a value is not finite.
    """
    kept = {name: getattr(dictionary, name).detach() for name in _TENSORS}
    for name, tensor in kept.items():
        bad = int((~tensor.isfinite()).sum())
        if bad:
            raise BadInput(f"{name} holds {bad} values that are nan or infinity: train it again")
    return {name: (t.T if name == "W_enc" else t).contiguous() for name, t in kept.items()}


def from_tensors(
    kept: Mapping[str, Tensor],
    *,
    k: int,
    architecture: str = "topk",
    metadata: Mapping[str, Any] | None = None,
) -> Dictionary:
    """The dictionary whose `tensors` these are; other entries of the mapping are left alone.

    Raises:
        ArtifactRefused: If a tensor is missing, of the wrong shape or type, or not finite.
        UnknownName: If there is no such architecture.
    """
    ARCHITECTURES[architecture]
    missing = [name for name in _TENSORS if name not in kept]
    if missing:
        raise ArtifactRefused(
            f"a dictionary has the tensors {', '.join(_TENSORS)}: {', '.join(missing)} not found"
        )
    _check_tensors(kept)
    width = kept["W_enc"].shape[1]
    if not 1 <= k <= width:
        raise ArtifactRefused(f"k must lie in 1 … {width}, the width; found {k}")
    return Dictionary(
        architecture=architecture, k=k, W_enc=kept["W_enc"].T.contiguous(), b_enc=kept["b_enc"],
        W_dec=kept["W_dec"], b_dec=kept["b_dec"], metadata=dict(metadata or {}),
    )  # fmt: skip


def save(dictionary: Dictionary, folder: Path | str) -> Path:
    """Write a dictionary as a folder that SAELens loads, all of it or nothing.

    The folder is filled under a temporary name, flushed to the disk and renamed.

    Args:
        dictionary: What to write; its metadata must be JSON values. `hook_name` may be ours
            (`blocks.15.resid_post`); it is written as SAELens names it.
        folder: Must not exist, or be empty.

    Raises:
        BadInput: If the folder is in use, or a value is not finite or not JSON.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise BadInput(f"{folder} exists already: remove it or name another folder")
    written = files(dictionary)
    beside = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
    beside.mkdir(parents=True)
    try:
        for name, write in written.items():
            write(beside / name)
            _flush(beside / name)
        _flush(beside)
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    _flush(folder.parent)
    return folder


def files(dictionary: Dictionary) -> dict[str, Callable[[Path], object]]:
    """What the folder of a dictionary holds: by file name, the function that writes the file.

    Raises:
        BadInput: If a value is not finite or not JSON.
    """
    kept, config = tensors(dictionary), _config(dictionary)
    return {
        WEIGHTS: lambda path: save_file(kept, path),
        CONFIG: lambda path: path.write_text(config, encoding="utf-8"),
    }


def load(folder: Path | str) -> Dictionary:
    """Read a dictionary that SAELens or `save` wrote. No pickle is read.

    Decoder norms and input offsets that SAELens applies while it runs are folded into the weights,
    which leaves every output as it is.

    Raises:
        ArtifactRefused: If a file is missing or damaged, if tensors are missing, left over, of the
            wrong shape or not finite, or if the folder asks for something that is not read here.
    """
    folder = Path(folder)
    config = _read_config(folder / CONFIG)
    kept = _read_weights(folder / WEIGHTS)
    extra = sorted(set(kept) - set(_TENSORS))
    if extra:
        raise ArtifactRefused(
            f"{folder / WEIGHTS} should hold {', '.join(_TENSORS)} alone, found {', '.join(extra)} "
            f"as well: it is no {config['architecture']} dictionary"
        )
    metadata = dict(config.get("metadata") or {})
    metadata.pop("sae_lens_version", None)
    if isinstance(metadata.get("hook_name"), str):
        metadata["hook_name"] = canonical(metadata["hook_name"])
    dictionary = from_tensors(
        kept, k=config["k"], architecture=config["architecture"], metadata=metadata
    )
    found = (dictionary.d_in, dictionary.width)
    if found != (config["d_in"], config["d_sae"]):
        raise ArtifactRefused(
            f"{folder / CONFIG} says d_in {config['d_in']} and d_sae {config['d_sae']}, the "
            f"tensors have {found[0]} and {found[1]}: the two files do not belong together"
        )
    return _fold(dictionary, config)


def hook_name(site: str) -> str:
    """What SAELens calls a site; names it does not know stay as they are.

    Example:
        >>> hook_name("blocks.15.resid_post"), hook_name("blocks.3.attn.z")
        ('blocks.15.hook_resid_post', 'blocks.3.attn.hook_z')
    """
    site = canonical(site)
    parts = site.split(".", 2)
    if len(parts) == 3 and parts[0] == "blocks" and parts[2] in _HOOKS:
        return f"blocks.{parts[1]}.{_HOOKS[parts[2]]}"
    return {"embed": "hook_embed", "ln_final.normalized": "ln_final.hook_normalized"}.get(
        site, site
    )


def _config(dictionary: Dictionary) -> str:
    metadata = {**dictionary.metadata, "sae_lens_version": LAYOUT}
    if isinstance(metadata.get("hook_name"), str):
        metadata["hook_name"] = hook_name(metadata["hook_name"])
    config = {
        "architecture": dictionary.architecture,
        "d_in": dictionary.d_in,
        "d_sae": dictionary.width,
        "k": dictionary.k,
        "dtype": str(dictionary.W_enc.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "rescale_acts_by_decoder_norm": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata,
    }
    try:
        return json.dumps(config, indent=2, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BadInput(f"metadata must be finite JSON values: {error}") from error


def _read_config(path: Path) -> dict[str, Any]:
    """The settings, each checked for its type; an absent switch has SAELens' default."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactRefused(f"{path} is missing: name a folder that SAELens wrote") from error
    except ValueError as error:
        raise ArtifactRefused(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict) or "architecture" not in config:
        raise ArtifactRefused(
            f"{path} names no architecture: layouts before SAELens 6 are not read, load it in "
            "SAELens and save it again"
        )
    if config["architecture"] not in ARCHITECTURES:
        raise ArtifactRefused(
            f"{path} holds a {config['architecture']!r} dictionary, read are "
            f"{', '.join(ARCHITECTURES)}"
        )
    switches = {"apply_b_dec_to_input": True, "rescale_acts_by_decoder_norm": False}
    unused = {"normalize_activations": "none", "reshape_activations": "none"}
    config = {**switches, **unused, **config}
    kinds: dict[str, type] = {"k": int, "d_in": int, "d_sae": int, **dict.fromkeys(switches, bool)}
    for name, kind in kinds.items():
        if type(config.get(name)) is not kind:
            raise ArtifactRefused(f"{path} needs {name} as {kind.__name__}: {config.get(name)!r}")
    for name, only in unused.items():
        if config[name] != only:
            raise ArtifactRefused(
                f"{path} asks for {name} {config[name]!r}, read is {only!r} alone"
            )
    return config


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ArtifactRefused(f"{path} is missing: name a folder that SAELens wrote")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ArtifactRefused(f"{path} is no readable safetensors file: {error}") from error


def _check_tensors(kept: Mapping[str, Tensor]) -> None:
    encoder, decoder = kept["W_enc"], kept["W_dec"]
    if encoder.ndim != 2 or decoder.ndim != 2:
        raise ArtifactRefused(
            f"W_enc and W_dec are matrices, found shapes {tuple(encoder.shape)} and "
            f"{tuple(decoder.shape)}"
        )
    d_in, width = encoder.shape
    expected = {"b_enc": (width,), "W_dec": (width, d_in), "b_dec": (d_in,)}
    for name, shape in expected.items():
        if tuple(kept[name].shape) != shape:
            raise ArtifactRefused(
                f"{name} should have shape {shape} beside W_enc of {(d_in, width)}, "
                f"found {tuple(kept[name].shape)}"
            )
    for name in _TENSORS:
        tensor = kept[name]
        if tensor.dtype not in _TYPES.values() or tensor.dtype != encoder.dtype:
            raise ArtifactRefused(
                f"all tensors share one of {', '.join(_TYPES)}, found {name} as {tensor.dtype}"
            )
        bad = int((~tensor.isfinite()).sum())
        if bad:
            raise ArtifactRefused(f"{name} holds {bad} values that are nan or infinity")


def _fold(dictionary: Dictionary, config: Mapping[str, Any]) -> Dictionary:
    """Plain weights: pre-activations times decoder norms, and inputs without the b_dec offset."""
    W_enc, b_enc, W_dec = dictionary.W_enc, dictionary.b_enc, dictionary.W_dec
    if not config["apply_b_dec_to_input"]:
        b_enc = b_enc + W_enc @ dictionary.b_dec
    if config["rescale_acts_by_decoder_norm"]:
        norm = torch.linalg.vector_norm(W_dec, dim=1)
        if not bool((norm > 0).all()):
            raise ArtifactRefused(
                f"{int((norm == 0).sum())} decoder rows are 0, and activations are to be divided "
                "by their norms"
            )
        W_enc, b_enc, W_dec = W_enc * norm[:, None], b_enc * norm, W_dec / norm[:, None]
    return replace(dictionary, W_enc=W_enc, b_enc=b_enc, W_dec=W_dec)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
