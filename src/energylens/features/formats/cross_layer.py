"""circuit-tracer's folder of a cross-layer transcoder: two files of safetensors a layer.

`W_enc_3.safetensors` holds what layer 3 reads by, with b_dec and thresholds, `W_dec_3.safetensors`
what its features write to layers 3, 4 …; `config.yaml` says where in the model that is.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.core.sites import canonical
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.formats.disk import (
    Write,
    read_safetensors,
    refuse_non_finite,
    write_folder,
)
from energylens.features.formats.layout import Entry, Layout, unpack
from energylens.features.formats.recognise import dictionary_format
from energylens.features.formats.saelens import hook_name

CONFIG = "config.yaml"
KIND = "cross_layer_transcoder"
HOOKS = {"feature_input_hook": "resid_mid", "feature_output_hook": "mlp_out"}
"""What is read and written in every block, where nothing else is said."""

_LINE = re.compile(r"^(\w+):[ \t]+(.+?)[ \t]*$", re.M)


def save(model: CrossLayerTranscoder, folder: Path | str) -> Path:
    """Write a cross-layer transcoder as a folder that circuit-tracer loads, all of it or nothing.

    Args:
        model: A standard or jumprelu (a trained batchtopk is one) of all layers of a model from the
            first on, equally wide, which writes rows as wide as it reads. Its metadata may name
            `feature_input_hook` and `feature_output_hook` within a block (`resid_mid`).
        folder: Must not exist, or be empty.

    Raises:
        BadInput: If the folder is in use, circuit-tracer has no such transcoder, a value is not
            finite, or metadata are not JSON values.
    """
    return write_folder(Path(folder), files(model))


def holds(model: CrossLayerTranscoder) -> bool:
    """Whether circuit-tracer has such a transcoder."""
    made = model.finish()
    return (
        made.architecture in ("standard", "jumprelu")
        and made.layers == tuple(range(len(made.layers)))
        and made.d_in == made.d_out
        and len(set(made.widths)) == 1
    )


def files(model: CrossLayerTranscoder) -> dict[str, Write]:
    """By file name, the functions that write the files; see `save`.

    Raises:
        BadInput: If circuit-tracer has no such transcoder, a value is not finite, or metadata are
            not JSON values.
    """
    made = model.finish()
    if not holds(made):
        raise BadInput(
            "circuit-tracer holds standard and jumprelu transcoders of layers 0, 1 … of one width:"
            f" a {made.architecture} of layers {', '.join(map(str, made.layers))} from {made.d_in}"
            f" to {made.d_out} values, {', '.join(map(str, made.widths))} features, cannot be"
            " written"
        )
    refuse_non_finite(made.weights)
    config = _config(made)
    found: dict[str, Write] = {CONFIG: lambda path: path.write_text(config, encoding="utf-8")}
    for place in range(len(made.layers)):
        found[f"W_enc_{place}.safetensors"] = _writes(_encoder(made, place))
        found[f"W_dec_{place}.safetensors"] = _writes({f"W_dec_{place}": made.W_dec[place]})
    return found


@dictionary_format(
    "circuit-tracer across layers", "W_enc_0.safetensors", "W_dec_0.safetensors",
    further=re.compile(r"W_(enc|dec)_\d+\.safetensors|config\.yaml"),
)  # fmt: skip
def load(folder: Path | str) -> CrossLayerTranscoder:
    """Read a cross-layer transcoder: ReLU, or JumpReLU where thresholds are stored.

    Raises:
        ArtifactRefused: If a file is missing or damaged, if tensors are missing, left over, of the
            wrong shape or not finite, if a threshold is below 0, or if the settings are of
            something else.
    """
    folder = Path(folder)
    depth = len(list(folder.glob("W_enc_*.safetensors")))
    said = _read_config(folder / CONFIG)
    parts = [_read_layer(folder, place, depth) for place in range(depth)]
    kinds = {tuple(sorted(part)) for part in parts}
    shapes = {(tuple(part["W_enc"].shape), part["W_enc"].dtype) for part in parts}
    if len(kinds) > 1 or len(shapes) > 1:
        raise ArtifactRefused(
            f"{folder}: layers differ in what they hold or in shape, and one transcoder has one of"
            f" each: found {sorted(map(str, shapes))}"
        )
    jump = "threshold" in parts[0]
    width, k = len(parts[0]["b_enc"]), said.pop("k", None)
    return CrossLayerTranscoder(
        architecture="jumprelu" if jump else "standard",
        k=k if type(k) is int and 1 <= k <= width else width, layers=tuple(range(depth)),
        W_enc=tuple(p["W_enc"] for p in parts), b_enc=tuple(p["b_enc"] for p in parts),
        W_dec=tuple(p["W_dec"] for p in parts), b_dec=torch.stack([p["b_dec"] for p in parts]),
        own=tuple({"threshold": p["threshold"]} if jump else {} for p in parts), metadata=said,
    )  # fmt: skip


def _encoder(made: CrossLayerTranscoder, place: int) -> dict[str, Tensor]:
    kept = {"W_enc": made.W_enc[place], "b_enc": made.b_enc[place], "b_dec": made.b_dec[place]}
    kept |= {name: w.clamp(min=0) for name, w in made.own[place].items()}
    return {f"{name}_{place}": tensor for name, tensor in kept.items()}


def _writes(kept: Mapping[str, Tensor]) -> Write:
    # Copies: no two tensors of a file may share memory, as those of a tied transcoder might.
    return lambda path: save_file(
        {n: t.detach().clone(memory_format=torch.contiguous_format) for n, t in kept.items()}, path
    )


def _read_layer(folder: Path, place: int, depth: int) -> dict[str, Tensor]:
    path = folder / f"W_enc_{place}.safetensors"
    kept = read_safetensors(path)
    wanted: dict[str, tuple[str, ...]] = {
        "W_enc": ("feature", "d_in"), "b_enc": ("feature",), "b_dec": ("d_out",)
    }  # fmt: skip
    wanted |= {"threshold": ("feature",)} if f"threshold_{place}" in kept else {}
    parts = unpack(path, kept, _numbered(wanted, place), one_site=True)
    if "threshold" in parts and bool((parts["threshold"] < 0).any()):
        raise ArtifactRefused(
            f"{path} holds thresholds below 0, and so activations below 0, which are not read"
        )
    path = folder / f"W_dec_{place}.safetensors"
    decoder = _numbered({"W_dec": ("feature", "reach", "d_out")}, place)
    W_dec = unpack(path, read_safetensors(path), decoder, one_site=False)["W_dec"]
    width, d = parts["W_enc"].shape
    if W_dec.shape != (width, depth - place, d) or W_dec.dtype != parts["W_enc"].dtype:
        raise ArtifactRefused(
            f"{path} should hold {parts['W_enc'].dtype} of shape {(width, depth - place, d)}, since"
            f" {depth} layers are there; found {W_dec.dtype} of {tuple(W_dec.shape)}"
        )
    return parts | {"W_dec": W_dec}


def _numbered(wanted: Mapping[str, tuple[str, ...]], place: int) -> Layout:
    return {f"{name}_{place}": Entry(name, axes) for name, axes in wanted.items()}


def _config(made: CrossLayerTranscoder) -> str:
    said: dict[str, Any] = {**HOOKS, "scan": "energylens", **made.metadata}
    for name in HOOKS:
        said[name] = hook_name(f"blocks.0.{said[name]}").removeprefix("blocks.0.")
    said |= {"model_kind": KIND, "k": made.k}
    try:
        lines = [f"{name}: {json.dumps(value, allow_nan=False)}" for name, value in said.items()]
    except (TypeError, ValueError) as error:
        raise BadInput(f"metadata must be finite JSON values: {error}") from error
    return "\n".join(lines) + "\n"


def _read_config(path: Path) -> dict[str, Any]:
    """What single lines of a YAML file say; what takes several lines is not for us."""
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, ValueError) as error:
        raise ArtifactRefused(f"{path} cannot be read: {error}") from error
    said = {name: _value(value) for name, value in _LINE.findall(text)}
    kind = said.pop("model_kind", KIND)
    if kind != KIND:
        raise ArtifactRefused(f"{path} is of a {kind!r}, and the files beside it of a {KIND}")
    for name in HOOKS:
        if isinstance(said.get(name), str):
            said[name] = canonical(f"blocks.0.{said[name]}").removeprefix("blocks.0.")
    return said


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.strip("'\"")
