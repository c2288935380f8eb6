"""SAELens' folder: `cfg.json` beside `sae_weights.safetensors`; our own format too.

Version 6 is written; that and the flat layout before it are read (`saelens_config`). SAELens stores
the encoder as [d_in, feature] and names sites `blocks.15.hook_resid_post`; both are turned here and
nowhere else. Our own metadata lies under its free-form `metadata` key.

What SAELens calls an architecture is two things here: an architecture, and whether the dictionary
is a transcoder (`jumprelu_skip_transcoder`). It has neither groupmax nor, say, a topk transcoder;
those are written by the same rule, and SAELens refuses them by name.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.core.sites import canonical
from energylens.features.architecture import ARCHITECTURES
from energylens.features.dictionary import Dictionary
from energylens.features.formats.disk import Write, read_json, read_safetensors, write_folder
from energylens.features.formats.layout import (
    Entry,
    Layout,
    dictionary_of,
    everywhere,
    layout,
    pack,
    setting,
    unpack,
    without_offset,
)
from energylens.features.formats.recognise import dictionary_format
from energylens.features.formats.saelens_config import SITES, Config, read_config

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SPARSITY = "sparsity.safetensors"
"""How often each feature fired, beside the weights; not read."""
SCALER = "activation_scaler.json"
"""The factor that rows are multiplied by, beside the weights of a checkpoint of training."""
LAYOUT = "6.0.0"
"""Version of SAELens whose layout this is; without one SAELens takes a file for an older layout."""

_HOOKS = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "attn.z": "attn.hook_z",
    "mlp.post": "mlp.hook_post",
}
_BY_BATCH = ("batchtopk", "matryoshka_batchtopk")


def save(dictionary: Dictionary, folder: Path | str) -> Path:
    """Write a dictionary as a folder that SAELens loads, all of it or nothing.

    The folder is filled under a temporary name, flushed to the disk and renamed.

    Args:
        dictionary: What to write; its metadata must be JSON values. `hook_name` may be ours
            (`blocks.15.resid_post`); it is written as SAELens names it. An architecture of training
            alone is written as what it becomes.
        folder: Must not exist, or be empty.

    Raises:
        BadInput: If the folder is in use, or a value is not finite or not JSON.
    """
    return write_folder(Path(folder), files(dictionary))


def files(dictionary: Dictionary) -> dict[str, Write]:
    """What the folder of a dictionary holds: by file name, the function that writes the file.

    Raises:
        BadInput: If a value is not finite or not JSON.
    """
    made = ARCHITECTURES[dictionary.architecture].finish(dictionary)
    made = without_offset(made) if _is_transcoder(made) else made
    kept = pack(made, _layout(made.architecture, skip=made.W_skip is not None))
    config = _config(made)
    return {
        WEIGHTS: lambda path: save_file(kept, path),
        CONFIG: lambda path: path.write_text(config, encoding="utf-8"),
    }


@dictionary_format("SAELens", CONFIG, WEIGHTS)
def load(folder: Path | str) -> Dictionary:
    """Read a dictionary that SAELens or `save` wrote. No pickle is read.

    Decoder norms and the scale of rows that SAELens applies while it runs are folded into the
    weights, which leaves every output as it is. Checkpoints of training become what they would be
    exported as: one of BatchTopK is a JumpReLU with one threshold.

    Raises:
        ArtifactRefused: If a file is missing or damaged, if tensors are missing, left over, of the
            wrong shape or not finite, or if the folder asks for something that is not read here.
    """
    folder = Path(folder)
    config = read_config(folder / CONFIG)
    kept = _read_tensors(folder / WEIGHTS)
    skip = config.transcoder and config.skip
    wanted = _layout(config.architecture, skip=skip)
    if "log_threshold" in kept and "threshold" in wanted:
        kept["threshold"] = kept.pop("log_threshold").exp()
    parts = unpack(folder / WEIGHTS, kept, wanted, one_site=not config.transcoder)
    found = (parts["W_enc"].shape[1], len(parts["b_enc"]), parts["W_dec"].shape[1])
    said = (config.d_in, config.d_sae, config.d_out)
    if found != said:
        raise ArtifactRefused(
            f"{folder / CONFIG} says d_in {said[0]}, d_sae {said[1]} and d_out {said[2]}, the "
            f"tensors have {found[0]}, {found[1]} and {found[2]}: the two files do not belong "
            "together"
        )
    if config.scaled:
        parts = _fold_scale(parts, _scale(folder / SCALER), by_norm=config.rescaled)
    if config.rescaled:
        parts = _fold_norms(parts)
    architecture = config.architecture
    if architecture in _BY_BATCH:
        architecture = "jumprelu"
        parts["threshold"] = everywhere(parts.pop("topk_threshold"), parts["b_enc"])
    dictionary = dictionary_of(
        folder / CONFIG, parts, architecture=architecture, k=config.k,
        subtracts_b_dec=config.subtracts_b_dec, metadata=_metadata(config),
    )  # fmt: skip
    return ARCHITECTURES[architecture].finish(dictionary)


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


def _layout(architecture: str, *, skip: bool) -> Layout:
    """What SAELens calls the tensors of an architecture; those of its own have our names."""
    bias = "b_gate" if architecture == "gated" else "b_enc"
    names = {"W_enc": "W_enc", "b_enc": bias, "W_dec": "W_dec", "b_dec": "b_dec"}
    names |= {"W_skip": "W_skip"} if skip else {}
    if architecture in _BY_BATCH:
        threshold = "topk_threshold"
        return layout(["W_enc"], **names) | {threshold: Entry(threshold, ())}
    own = ARCHITECTURES[architecture].own(1, torch.zeros(1))
    return layout(["W_enc"], **names, **{name: name for name in own})


def _is_transcoder(dictionary: Dictionary) -> bool:
    """Whether SAELens' autoencoders cannot hold it, or it says itself that it writes elsewhere."""
    elsewhere = dictionary.metadata.get("hook_name_out") is not None
    return elsewhere or dictionary.W_skip is not None or dictionary.d_in != dictionary.d_out


def _config(dictionary: Dictionary) -> str:
    metadata = {**dictionary.metadata, "sae_lens_version": LAYOUT}
    for name in SITES:
        if isinstance(metadata.get(name), str):
            metadata[name] = hook_name(metadata[name])
    name = dictionary.architecture
    transcoder = _is_transcoder(dictionary)
    if transcoder:
        kind = "transcoder" if dictionary.W_skip is None else "skip_transcoder"
        name = kind if name == "standard" else f"{name}_{kind}"
    heads = not transcoder and str(metadata.get("hook_name")).endswith("hook_z")
    config = {
        "architecture": name,
        "d_in": dictionary.d_in,
        "d_sae": dictionary.width,
        "k": dictionary.k,
        "dtype": str(dictionary.W_enc.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": dictionary.subtracts_b_dec,
        "rescale_acts_by_decoder_norm": False,
        "normalize_activations": "none",
        "reshape_activations": "hook_z" if heads else "none",
        "metadata": metadata,
        **({"d_out": dictionary.d_out} if transcoder else {}),
    }
    try:
        return json.dumps(config, indent=2, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BadInput(f"metadata must be finite JSON values: {error}") from error


def _metadata(config: Config) -> dict[str, Any]:
    metadata = {n: v for n, v in config.metadata.items() if n != "sae_lens_version"}
    for name in SITES:
        if isinstance(metadata.get(name), str):
            metadata[name] = canonical(metadata[name])
    return metadata


def _read_tensors(path: Path) -> dict[str, Tensor]:
    kept = read_safetensors(path)
    scale = kept.pop("scaling_factor", None)  # old layouts; no version applies it any more
    if scale is not None and not bool((scale == 1).all()):
        raise ArtifactRefused(
            f"{path} holds a scaling_factor of fine-tuning other than 1, which is not read"
        )
    return kept


def _scale(path: Path) -> float:
    if not path.is_file():
        raise ArtifactRefused(
            f"{path} is missing: rows were scaled by a factor while training, which the folder "
            "does not hold; let SAELens fold it in and save again"
        )
    scale = setting(path, read_json(path), "scaling_factor", float)
    if not 0 < scale < float("inf"):
        raise ArtifactRefused(f"{path}: scaling_factor must be above 0 and finite, found {scale}")
    return scale


def _fold_scale(parts: Mapping[str, Tensor], scale: float, *, by_norm: bool) -> dict[str, Tensor]:
    """What makes of x what the weights make of scale · x, over scale.

    Activations stay as they are, and so do thresholds; but those that count activations times
    decoder norms shrink with the decoder.
    """
    folded = {"W_enc": scale, "W_dec": 1 / scale, "b_dec": 1 / scale}
    folded |= {"topk_threshold": 1 / scale} if by_norm else {}
    return {name: tensor * folded.get(name, 1) for name, tensor in parts.items()}


def _fold_norms(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pre-activations times decoder norms, and decoder rows of norm 1."""
    norm = torch.linalg.vector_norm(parts["W_dec"], dim=1)
    if not bool((norm > 0).all()):
        raise ArtifactRefused(
            f"{int((norm == 0).sum())} decoder rows are 0, and activations are to be divided by "
            "their norms"
        )
    return dict(parts) | {
        "W_enc": parts["W_enc"] * norm[:, None],
        "b_enc": parts["b_enc"] * norm,
        "W_dec": parts["W_dec"] / norm[:, None],
    }
