"""OpenAI's sparse_autoencoder: one pickled state, read on request only and never written."""

from pathlib import Path
from typing import Any

from energylens.core.errors import ArtifactRefused
from energylens.features.dictionary import Dictionary
from energylens.features.formats import dictionary_learning
from energylens.features.formats.disk import read_pickle
from energylens.features.formats.layout import dictionary_of, layout, unpack
from energylens.features.formats.recognise import dictionary_format

_LAYOUT = layout(
    ["W_dec"], W_enc="encoder.weight", b_enc="latent_bias", W_dec="decoder.weight",
    b_dec="pre_bias",
)  # fmt: skip
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


def _k_of(path: Path, state: Any) -> int:
    k = state.get("k") if isinstance(state, dict) else None
    after = state.get("postact_fn", "ReLU") if isinstance(state, dict) else None
    if type(k) is not int or after != "ReLU":
        raise ArtifactRefused(
            f"{path} needs k and ReLU as postact_fn of its TopK, found {k!r} and {after!r}"
        )
    return k
