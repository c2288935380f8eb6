"""dictionary_learning: `config.json` beside `ae.pt`, or a step's state in `checkpoints`.

The state is a pickle, so it is read on request only. What a state means hangs on the class that
`config.json` names: the tensors of TopK and BatchTopK are the same.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.architecture import ARCHITECTURES
from energylens.features.dictionary import Dictionary
from energylens.features.formats.disk import (
    Write,
    read_json,
    read_pickle,
    write_folder,
    write_pickle,
)
from energylens.features.formats.layout import (
    Entry,
    Layout,
    dictionary_of,
    everywhere,
    layout,
    pack,
    setting,
    unpack,
    with_offset,
    without_offset,
)
from energylens.features.formats.recognise import dictionary_format

CONFIG, STATE = "config.json", "ae.pt"

_LINEAR = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "decoder.weight"}
_PLAIN = {"W_enc": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
_NUMBERS = {"k": Entry("k", ()), "threshold": Entry("threshold", ())}


class _Kind(NamedTuple):
    """A class of dictionary_learning: our architecture, its tensors, whether its offset is read."""

    architecture: str
    layout: Layout
    subtracts_b_dec: bool = True


_KINDS = {
    "AutoEncoder": _Kind("standard", layout(["W_dec"], **_LINEAR, b_dec="bias")),
    "AutoEncoderNew": _Kind("standard", layout(["W_dec"], **_LINEAR, b_dec="decoder.bias"), False),
    "GatedAutoEncoder": _Kind(
        "gated",
        layout(
            ["W_dec"], W_enc="encoder.weight", b_enc="gate_bias", W_dec="decoder.weight",
            b_dec="decoder_bias", r_mag="r_mag", b_mag="mag_bias",
        ),
    ),
    "JumpReluAutoEncoder": _Kind(
        "jumprelu", layout(["W_enc"], **_PLAIN, threshold="threshold"), False
    ),
    "AutoEncoderTopK": _Kind("topk", layout(["W_dec"], **_LINEAR, b_dec="b_dec") | _NUMBERS),
    "BatchTopKSAE": _Kind("jumprelu", layout(["W_dec"], **_LINEAR, b_dec="b_dec") | _NUMBERS),
    "MatryoshkaBatchTopKSAE": _Kind("jumprelu", layout(["W_enc"], **_PLAIN) | _NUMBERS),
}  # fmt: skip


_WRITTEN = {
    "standard": ("AutoEncoder", "StandardTrainer"),
    "gated": ("GatedAutoEncoder", "GatedSAETrainer"),
    "jumprelu": ("JumpReluAutoEncoder", "JumpReluTrainer"),
    "topk": ("AutoEncoderTopK", "TopKTrainer"),
}  # fmt: skip
"""The class that an architecture is written as, and the trainer that makes such a one there."""
_RESID = re.compile(r"blocks\.(\d+)\.resid_post")


def _config_of(state: Path) -> Path | None:
    """The settings of a state: beside it, or one folder up for one of `checkpoints`."""
    folder = state.parent
    near = [folder / CONFIG, *([folder.parent / CONFIG] if folder.name == "checkpoints" else [])]
    return next((path for path in near if path.is_file()), None)


def claims(path: Path) -> bool:
    """Whether a file is a state of this format."""
    return path.suffix == ".pt" and _config_of(path) is not None


@dictionary_format("dictionary_learning", CONFIG, STATE, is_file=claims, pickle=True)
def load(path: Path | str, *, allow_pickle: bool = False) -> Dictionary:
    """Read a dictionary of dictionary_learning.

    Activations are as its `encode` gives them with defaults: a TopK keeps k a row, BatchTopK and
    Matryoshka what lies above their threshold, in all groups. A threshold that was never set, −1,
    keeps all that is positive, as it does there. Decoder norms are left in the decoder.

    Args:
        path: A folder with `config.json` and `ae.pt`, or the file of one state.
        allow_pickle: The state is a pickle; nothing in it is run.

    Raises:
        ArtifactRefused: If a file is missing, damaged or not allowed, if the class is not known, or
            if tensors are missing, left over, of the wrong shape or not finite.
    """
    path = Path(path)
    state = path / STATE if path.is_dir() else path
    settings = _config_of(state)
    if settings is None:
        raise ArtifactRefused(f"{state.parent / CONFIG} is missing: it says what {state.name} is")
    trainer = setting(settings, read_json(settings), "trainer", dict)
    name = str(trainer.get("dict_class"))
    if name not in _KINDS:
        raise ArtifactRefused(f"{settings} names a {name!r}, read are {', '.join(sorted(_KINDS))}")
    kind = _KINDS[name]
    kept = read_pickle(state, allow_pickle=allow_pickle)
    groups = kept.pop("group_sizes", None) if name.startswith("Matryoshka") else None
    numbers = [name for name, entry in kind.layout.items() if not entry.axes]  # absent once
    parts = unpack(state, kept, kind.layout, one_site=True, optional=numbers)
    if groups is not None:
        _check_groups(state, groups, len(parts["b_enc"]))
    k = _k_of(state, trainer.get("k"), parts.pop("k", None))
    if kind.architecture == "topk":
        parts.pop("threshold", None)
    elif "threshold" in parts and parts["threshold"].ndim == 0:
        parts["threshold"] = everywhere(parts["threshold"], parts["b_enc"])
    return dictionary_of(
        state, parts, architecture=kind.architecture, k=k,
        subtracts_b_dec=kind.subtracts_b_dec, metadata=_metadata(trainer),
    )  # fmt: skip


def save(dictionary: Dictionary, folder: Path | str) -> Path:
    """Write a dictionary as a folder that dictionary_learning loads, all of it or nothing.

    Args:
        dictionary: A standard, gated, jumprelu or topk of one width, or what is one of these once
            it is trained.
        folder: Must not exist, or be empty.

    Raises:
        BadInput: If the folder is in use, if dictionary_learning has no such dictionary, or if a
            value is not finite.
    """
    return write_folder(Path(folder), files(dictionary))


def files(dictionary: Dictionary) -> dict[str, Write]:
    """What the folder of a dictionary holds: by file name, the function that writes the file.

    The state is a pickle of tensors alone. What subtracts no b_dec where the class does, or the
    other way round, has it folded into the encoder's offset.

    Raises:
        BadInput: If dictionary_learning has no such dictionary, or a value is not finite.
    """
    made = ARCHITECTURES[dictionary.architecture].finish(dictionary)
    if made.architecture not in _WRITTEN or made.d_in != made.d_out or made.W_skip is not None:
        skip = " with a skip" if made.W_skip is not None else ""
        raise BadInput(
            f"dictionary_learning holds {', '.join(_WRITTEN)} of one width: a {made.architecture}"
            f"{skip} from {made.d_in} to {made.d_out} values cannot be written"
        )
    name, trainer = _WRITTEN[made.architecture]
    if name == "AutoEncoder" and not made.subtracts_b_dec:
        name = "AutoEncoderNew"
    kind = _KINDS[name]
    made = with_offset(made) if kind.subtracts_b_dec else without_offset(made)
    weights = {n: entry for n, entry in kind.layout.items() if entry.axes}
    kept = pack(made, weights)
    if name == "AutoEncoderTopK":  # −1: the threshold was never set
        kept |= {"k": torch.tensor(made.k, dtype=torch.int32), "threshold": torch.tensor(-1.0)}
    site = str(made.metadata.get("hook_name", ""))
    layer = _RESID.fullmatch(site)
    settings = {
        "dict_class": name, "trainer_class": trainer, "activation_dim": made.d_in,
        "dict_size": made.width, "k": made.k, "lm_name": made.metadata.get("model_name"),
        "layer": int(layer[1]) if layer else None,
        "submodule_name": f"resid_post_layer_{layer[1]}" if layer else site or None,
    }  # fmt: skip
    said = {"trainer": {n: value for n, value in settings.items() if value is not None}}
    text = json.dumps(said, indent=2) + "\n"
    return {
        STATE: lambda path: write_pickle(path, kept),
        CONFIG: lambda path: path.write_text(text, encoding="utf-8"),
    }


def _check_groups(state: Path, groups: Any, width: int) -> None:
    if not isinstance(groups, Tensor) or groups.ndim != 1 or int(groups.sum()) != width:
        raise ArtifactRefused(f"{state} needs group_sizes that sum to the width, {width}")


def _k_of(state: Path, said: Any, stored: Tensor | None) -> int | None:
    found = said if stored is None else int(stored)
    if said not in (None, found) or type(found) not in (int, type(None)):
        raise ArtifactRefused(f"{CONFIG} says k = {said!r}, {state} holds k = {found!r}")
    return found


def _metadata(trainer: Mapping[str, Any]) -> dict[str, Any]:
    named = {"model_name": trainer.get("lm_name")}
    named |= {name: trainer.get(name) for name in ("dict_class", "layer", "submodule_name")}
    place = str(named["submodule_name"])
    if found := re.fullmatch(r"resid_post_layer_(\d+)", place):
        named["hook_name"] = f"blocks.{found[1]}.resid_post"
    elif re.fullmatch(r"blocks\.\d+\.[\w.]+", place):  # as `save` calls any other
        named["hook_name"] = place
    return {name: value for name, value in named.items() if value is not None}
