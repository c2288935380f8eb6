"""The settings of a SAELens dictionary, of version 6 or in the flat layout before it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from energylens.core.errors import ArtifactRefused
from energylens.features.architecture import ARCHITECTURES
from energylens.features.formats.disk import read_json
from energylens.features.formats.layout import setting

SITES = ("hook_name", "hook_name_out")

_RESCALED = ("topk", "batchtopk", "matryoshka_batchtopk")
"""Architectures that heed `rescale_acts_by_decoder_norm`; SAELens ignores it on others."""
_FLAT_NAMES = {"hook_point": "hook_name", "activation_fn_str": "activation_fn"} | {
    "hook_point_head_index": "hook_head_index"
}
_FLAT_METADATA = (
    "model_name", "hook_name", "hook_head_index", "hook_name_out", "hook_head_index_out",
    "hf_hook_name", "hf_hook_name_out", "model_class_name", "model_from_pretrained_kwargs",
    "prepend_bos", "exclude_special_tokens", "neuronpedia_id", "context_size", "seqpos_slice",
    "dataset_path", "sae_lens_training_version",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is asked of a dictionary.

    Args:
        architecture: Name in `ARCHITECTURES`, without what makes it a transcoder.
        transcoder: Whether it may write rows of another site.
        skip: Whether the output takes something straight from the input.
        d_in: Width of the rows it reads.
        d_sae: Number of features.
        d_out: Width of the rows it writes.
        k: Active features a row; None if nothing says.
        subtracts_b_dec: Whether b_dec is subtracted from the input.
        rescaled: Whether pre-activations are multiplied by decoder norms before they are chosen.
        scaled: Whether rows were multiplied by a factor that is not in the weights.
        metadata: Free-form.
    """

    architecture: str
    transcoder: bool
    skip: bool
    d_in: int
    d_sae: int
    d_out: int
    k: int | None
    subtracts_b_dec: bool
    rescaled: bool
    scaled: bool
    metadata: Mapping[str, Any]


def read_config(path: Path) -> Config:
    """Read and check the settings; an absent switch has SAELens' default.

    Raises:
        ArtifactRefused: If the file is missing or damaged, a setting is missing or of the wrong
            type, or something is asked for that is not read here.
    """
    found = read_json(path)
    metadata = found.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise ArtifactRefused(f"{path} needs metadata by name: {metadata!r}")
    version = str(found.get("sae_lens_version") or metadata.get("sae_lens_version") or "0")
    if not version.split(".")[0].isdecimal() or int(version.split(".")[0]) < 6:
        found = _of_flat(path, found, metadata)
    switches = {"apply_b_dec_to_input": True, "rescale_acts_by_decoder_norm": False}
    config = {"normalize_activations": "none", "reshape_activations": "none", **switches, **found}
    for name, kind in {"d_in": int, "d_sae": int, **dict.fromkeys(switches, bool)}.items():
        setting(path, config, name, kind)
    # Rows of heads side by side are what `hook_z` makes of heads, and what a dictionary reads.
    _only(path, config, "reshape_activations", ("none", "hook_z"))
    _only(path, config, "normalize_activations", ("none", "expected_average_only_in"))
    name = setting(path, config, "architecture", str)
    base, transcoder, skip = _parts_of(name)
    if base not in ARCHITECTURES:
        raise ArtifactRefused(
            f"{path} holds a {name!r} dictionary, read are {', '.join(ARCHITECTURES)} and "
            "transcoders of these"
        )
    if transcoder and config["apply_b_dec_to_input"]:
        raise ArtifactRefused(
            f"{path} asks a {name} for apply_b_dec_to_input, which is for one site"
        )
    scaled = config["normalize_activations"] != "none"
    if transcoder and scaled:
        raise ArtifactRefused(
            f"{path} asks for scaled rows of a {name}, whose outputs have no scale"
        )
    return Config(
        architecture=base, transcoder=transcoder, skip=skip, d_in=config["d_in"],
        d_sae=config["d_sae"],
        d_out=setting(path, config, "d_out", int) if transcoder else config["d_in"],
        k=_k_of(path, base, config), subtracts_b_dec=config["apply_b_dec_to_input"],
        rescaled=base in _RESCALED and config["rescale_acts_by_decoder_norm"], scaled=scaled,
        metadata=config.get("metadata") or {},
    )  # fmt: skip


def _parts_of(name: str) -> tuple[str, bool, bool]:
    """The architecture in SAELens' name, whether it is a transcoder, and whether with a skip.

    Example:
        >>> _parts_of("jumprelu_skip_transcoder"), _parts_of("transcoder"), _parts_of("topk")
        (('jumprelu', True, True), ('standard', True, False), ('topk', False, False))
    """
    transcoder = name == "transcoder" or name.endswith("_transcoder")
    rest = f"_{name}".removesuffix("_transcoder")
    skip = transcoder and rest.endswith("_skip")
    rest = rest.removesuffix("_skip") if skip else rest
    return rest[1:] or "standard", transcoder, skip


def _only(path: Path, config: Mapping[str, Any], name: str, read: tuple[str, ...]) -> None:
    if config[name] not in read:
        raise ArtifactRefused(
            f"{path} asks for {name} {config[name]!r}, read are {' and '.join(read)} alone"
        )


def _k_of(path: Path, architecture: str, config: Mapping[str, Any]) -> int | None:
    """k; where it does not decide, the mean that training came to, if that is told."""
    if not ARCHITECTURES[architecture].each_alone and architecture not in _RESCALED[1:]:
        return int(setting(path, config, "k", int))
    told = config.get("k", (config.get("metadata") or {}).get("l0"))
    if isinstance(told, bool) or not isinstance(told, int | float):
        return None
    return min(max(1, round(told)), config["d_sae"]) if abs(told) < float("inf") else None


def _of_flat(path: Path, old: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The layout before version 6 in the terms of version 6."""
    flat = {_FLAT_NAMES.get(name, name): value for name, value in old.items()}
    flat.setdefault("architecture", "standard")
    options = flat.get("activation_fn_kwargs") or {}
    activation = flat.get("activation_fn") or "relu"
    if activation == "topk" and flat["architecture"] in ("standard", "topk"):
        if isinstance(options, dict) and options.get("k") is not None:
            flat["k"] = options["k"]
        flat["architecture"] = "topk"
    elif activation != "relu":
        raise ArtifactRefused(
            f"{path} asks for the activation {activation!r} of a {flat['architecture']!r}, "
            "read are relu and, of standard, topk"
        )
    scaled = flat.get("normalize_activations")
    if scaled is None or isinstance(scaled, bool):
        flat["normalize_activations"] = "expected_average_only_in" if scaled else "none"
    flat["metadata"] = {name: flat[name] for name in _FLAT_METADATA if name in flat} | dict(
        metadata
    )
    return flat
