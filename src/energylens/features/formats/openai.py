"""OpenAI's sparse_autoencoder: one pickled state, read on request only."""

from pathlib import Path
from typing import Any

import torch

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.architecture import ARCHITECTURES
from energylens.features.dictionary import Dictionary
from energylens.features.formats import dictionary_learning
from energylens.features.formats.disk import Write, read_pickle, write_file, write_pickle
from energylens.features.formats.layout import (
    dictionary_of,
    layout,
    pack,
    unpack,
    with_offset,
)
from energylens.features.formats.recognise import dictionary_format

_LAYOUT = layout(
    ["W_dec"], W_enc="encoder.weight", b_enc="latent_bias", W_dec="decoder.weight",
    b_dec="pre_bias",
)  # fmt: skip
FILE = "autoencoder.pt"
_LEFT_ALONE = (
    "stats_last_nonzero", "latents_activation_frequency", "latents_mean_square",
    "activation.k", "activation.postact_fn",  # once more what `activation_state_dict` says
)  # fmt: skip
_ACTIVATIONS = {"ReLU": "standard", "TopK": "topk"}


@dictionary_format(
    "OpenAI", pickle=True,
    is_file=lambda path: path.suffix == ".pt" and not dictionary_learning.claims(path),
)  # fmt: skip
def load(
    path: Path | str, *, allow_pickle: bool = False, normalised_rows: bool = False
) -> Dictionary:
    """Read a dictionary of OpenAI.

    Args:
        path: The file.
        allow_pickle: The file is a pickle; nothing in it is run.
        normalised_rows: A TopK of OpenAI reads rows less their own mean, over their own standard
            deviation (unbiased, plus 1e-5), and undoes both at the end. A `Dictionary` does
            neither. True gives the part in between, which reads and writes normalised rows.

    Raises:
        ArtifactRefused: If the file is missing, damaged or not allowed; if rows were to be
            normalised and that was not asked for; if it holds another activation, or tensors are
            missing, left over, of the wrong shape or not finite.
    """
    path = Path(path)
    kept = read_pickle(path, allow_pickle=allow_pickle)
    for name in _LEFT_ALONE:
        kept.pop(name, None)
    activation, state = kept.pop("activation", "ReLU"), kept.pop("activation_state_dict", {})
    if activation not in _ACTIVATIONS:
        raise ArtifactRefused(
            f"{path} holds the activation {activation!r}, read are {', '.join(_ACTIVATIONS)}"
        )
    parts = unpack(path, kept, _LAYOUT, one_site=True)
    topk = activation == "TopK"
    if topk and not normalised_rows:
        raise ArtifactRefused(
            f"{path} normalises every row by its own mean and deviation, which a dictionary here "
            "does not: pass normalised_rows=True to openai.load for the part between the two steps"
        )
    return dictionary_of(
        path, parts, architecture=_ACTIVATIONS[activation], k=_k_of(path, state) if topk else None,
        subtracts_b_dec=True, metadata={"rows": "normalised"} if topk else {},
    )  # fmt: skip


def save(dictionary: Dictionary, path: Path | str, *, normalised_rows: bool = False) -> Path:
    """Write a dictionary as a file that OpenAI's class loads.

    Args:
        dictionary: A standard of one width, or what is one once it is trained; a topk on request.
        path: Must not exist.
        normalised_rows: A topk is for rows that are normalised, as `load` says.

    Raises:
        BadInput: If the file exists, if OpenAI has no such dictionary, or a value is not finite.
    """
    (write,) = files(dictionary, normalised_rows=normalised_rows).values()
    return write_file(Path(path), write)


def files(dictionary: Dictionary, *, normalised_rows: bool = False) -> dict[str, Write]:
    """The file of a dictionary by its name: a pickle of tensors, numbers and text.

    Raises:
        BadInput: If OpenAI has no such dictionary, or a value is not finite.
    """
    made = ARCHITECTURES[dictionary.architecture].finish(dictionary)
    called = {kind: name for name, kind in _ACTIVATIONS.items()}.get(made.architecture)
    if called is None or made.d_in != made.d_out or made.W_skip is not None:
        skip = " with a skip" if made.W_skip is not None else ""
        raise BadInput(
            f"OpenAI holds {' and '.join(_ACTIVATIONS.values())} of one width: a"
            f" {made.architecture}{skip} from {made.d_in} to {made.d_out} values cannot be written"
        )
    topk = called == "TopK"
    if topk and not normalised_rows:
        raise BadInput(
            "a TopK of OpenAI normalises every row by its own mean and deviation, which a"
            " dictionary here does not: it cannot be written, but for such rows by openai.save with"
            " normalised_rows=True"
        )
    kept: dict[str, Any] = dict(pack(with_offset(made), _LAYOUT))
    kept |= {  # what its class counts while it runs
        "stats_last_nonzero": torch.zeros(made.width, dtype=torch.int64),
        "latents_activation_frequency": torch.ones(made.width),
        "latents_mean_square": torch.zeros(made.width),
        "activation": called,
        "activation_state_dict": {"k": made.k, "postact_fn": "ReLU"} if topk else {},
    }
    return {FILE: lambda path: write_pickle(path, kept)}


def _k_of(path: Path, state: Any) -> int:
    k = state.get("k") if isinstance(state, dict) else None
    after = state.get("postact_fn", "ReLU") if isinstance(state, dict) else None
    if type(k) is not int or after != "ReLU":
        raise ArtifactRefused(
            f"{path} needs k and ReLU as postact_fn of its TopK, found {k!r} and {after!r}"
        )
    return k
