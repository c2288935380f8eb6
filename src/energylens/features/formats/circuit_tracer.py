"""circuit-tracer: one file of safetensors a layer, each a transcoder of that layer's MLP."""

import re
from pathlib import Path

from safetensors.torch import save_file

from energylens.core.checkpoint import is_of_training
from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.architecture import ARCHITECTURES
from energylens.features.dictionary import Dictionary
from energylens.features.formats import gemma_scope, own_layers, saelens, sparsify
from energylens.features.formats.disk import Write, read_safetensors, write_file
from energylens.features.formats.layout import (
    Layout,
    dictionary_of,
    layout,
    pack,
    unpack,
    without_offset,
)
from energylens.features.formats.recognise import dictionary_format

THRESHOLD = "activation_function.threshold"

_OF_OTHERS = {
    saelens.WEIGHTS, saelens.SPARSITY, sparsify.WEIGHTS, own_layers.WEIGHTS, *gemma_scope.FILES,
}  # fmt: skip
_ACROSS_LAYERS = re.compile(r"W_(enc|dec)_\d+\.")
"""Files of `cross_layer`."""


@dictionary_format(
    "circuit-tracer",
    is_file=lambda path: (
        path.suffix == ".safetensors"
        and path.name not in _OF_OTHERS
        and not _ACROSS_LAYERS.match(path.name)
        and not is_of_training(path)
    ),
)
def load(path: Path | str) -> Dictionary:
    """Read the transcoder of one layer: ReLU, or JumpReLU where a threshold is stored.

    The layer is taken from the file's name; where the rows are read and written is said in a
    `config.yaml` of the whole set, which is not read.

    Raises:
        ArtifactRefused: If the file is missing or damaged, if tensors are missing, left over, of
            the wrong shape or not finite, or if a threshold is below 0.
    """
    path = Path(path)
    kept = read_safetensors(path)
    wanted = _layout(threshold=THRESHOLD in kept, skip="W_skip" in kept)
    parts = unpack(path, kept, wanted, one_site=True)
    if "threshold" in parts and bool((parts["threshold"] < 0).any()):
        raise ArtifactRefused(
            f"{path} holds thresholds below 0, and so activations below 0, which are not read"
        )
    layer = re.search(r"(\d+)$", path.stem)
    return dictionary_of(
        path, parts, architecture="jumprelu" if "threshold" in parts else "standard", k=None,
        subtracts_b_dec=False, metadata={"layer": int(layer[1])} if layer else {},
    )  # fmt: skip


def save(dictionary: Dictionary, path: Path | str) -> Path:
    """Write a transcoder as a file that circuit-tracer loads, whole or not at all.

    A b_dec that is subtracted from the input is folded into the encoder's offset.

    Args:
        dictionary: A standard or jumprelu that writes rows as wide as it reads.
        path: Must not exist; circuit-tracer's own files are called `layer_0.safetensors` and so on.

    Raises:
        BadInput: If the file exists, circuit-tracer has no such dictionary, or a value is not
            finite.
    """
    (write,) = files(dictionary).values()
    return write_file(Path(path), write)


def files(dictionary: Dictionary) -> dict[str, Write]:
    """The one file of a dictionary, under the name of its layer, and the function that writes it.

    Raises:
        BadInput: If circuit-tracer has no such dictionary, or a value is not finite.
    """
    made = ARCHITECTURES[dictionary.architecture].finish(dictionary)
    if made.architecture not in ("standard", "jumprelu") or made.d_in != made.d_out:
        raise BadInput(
            "circuit-tracer holds standard and jumprelu of one width: a "
            f"{made.architecture} from {made.d_in} to {made.d_out} values cannot be written"
        )
    made = without_offset(made)
    wanted = _layout(threshold="threshold" in made.own, skip=made.W_skip is not None)
    kept = pack(made, wanted)
    if THRESHOLD in kept:
        kept[THRESHOLD].clamp_(min=0)
    return {f"layer_{_layer(made)}.safetensors": lambda path: save_file(kept, path)}


def _layer(dictionary: Dictionary) -> int:
    """The layer that the metadata names; 0 where none does."""
    site = re.match(r"blocks\.(\d+)\.", str(dictionary.metadata.get("hook_name")))
    layer = dictionary.metadata.get("layer", int(site[1]) if site else 0)
    return layer if type(layer) is int and layer >= 0 else 0


def _layout(*, threshold: bool, skip: bool) -> Layout:
    names = {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    names |= {"threshold": THRESHOLD} if threshold else {}
    return layout(**names | ({"W_skip": "W_skip"} if skip else {}))
