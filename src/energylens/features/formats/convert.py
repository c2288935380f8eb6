"""A dictionary in the files of another program: which program holds what."""

from collections.abc import Callable, Mapping
from pathlib import Path

from energylens.core.errors import BadInput, UnknownName
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.crosscoder import Crosscoder
from energylens.features.dictionary import Dictionary
from energylens.features.formats import (
    circuit_tracer,
    cross_layer,
    dictionary_learning,
    gemma_scope,
    openai,
    own_layers,
    saelens,
    sparsify,
)
from energylens.features.formats.disk import Write, write_folder
from energylens.features.formats.recognise import Loaded

Files = Mapping[str, Write]

WRITTEN: Mapping[str, Callable[[Dictionary], Files]] = {
    "saelens": saelens.files,
    "sparsify": sparsify.files,
    "gemma_scope": gemma_scope.files,
    "circuit_tracer": circuit_tracer.files,
    "dictionary_learning": dictionary_learning.files,
    "openai": openai.files,
}
WRITTEN_OF_SEVERAL: Mapping[type, str] = {
    Crosscoder: "saelens",
    CrossLayerTranscoder: "circuit_tracer",
}
"""Who holds what is of several sites: SAELens a crosscoder, as a dictionary of rows side by side
whose metadata name the sites."""
PICKLES = ("dictionary_learning", "openai")
"""Of those that are written, the ones that keep a pickle."""
ONE_FILE = ("circuit_tracer", "openai")


def files_of(dictionary: Loaded, to: str, *, allow_pickle: bool = False) -> tuple[Files, str]:
    """A dictionary as the files of a program.

    Args:
        dictionary: What to write.
        to: The program, one of `WRITTEN`.
        allow_pickle: Some keep pickles, a kind of file that others will have to trust.

    Returns:
        By path, the function that writes the file; and which of the paths, or which folder of
        them, names the dictionary (empty: the folder of all).

    Raises:
        BadInput: If the program keeps pickles and that was not allowed, or has no such dictionary,
            or a value is not finite.
    """
    refuse_unwritten(to, allow_pickle=allow_pickle)
    if not isinstance(dictionary, Dictionary):
        kind = type(dictionary)
        if to != WRITTEN_OF_SEVERAL[kind]:
            raise BadInput(
                f"{to} has no {kind.__name__}: convert it to {WRITTEN_OF_SEVERAL[kind]}, which has"
            )
        if isinstance(dictionary, CrossLayerTranscoder):
            return cross_layer.files(dictionary), ""
        return saelens.files(dictionary.dictionary), ""
    files = WRITTEN[to](dictionary)
    if to in ONE_FILE:
        return files, next(iter(files))
    folder = sparsify.folder_name(dictionary) if to == "sparsify" else ""
    return {f"{folder}/{name}".lstrip("/"): write for name, write in files.items()}, folder


def save_dictionary(made: Loaded, folder: Path | str) -> Path:
    """Write a dictionary of any kind as a folder that `load_dictionary` reads, all or nothing.

    Args:
        made: A dictionary, a crosscoder or a cross-layer transcoder.
        folder: Must not exist, or be empty.

    Returns:
        The folder: SAELens' layout; of a cross-layer transcoder circuit-tracer's, where that has
        such a thing, or else one of ours.

    Raises:
        BadInput: If the folder is in use, a value is not finite, or metadata are not JSON values.
    """
    return write_folder(Path(folder), own_files(made))


def own_files(made: Loaded) -> Files:
    """What we keep a dictionary in ourselves, in files that another program reads where one has
    such a thing: SAELens' folder; across layers circuit-tracer's, or else one of ours.

    Raises:
        BadInput: If a value is not finite or metadata are not JSON values.
    """
    if isinstance(made, CrossLayerTranscoder):
        return (cross_layer if cross_layer.holds(made) else own_layers).files(made)
    return saelens.files(made.dictionary if isinstance(made, Crosscoder) else made)


def refuse_unwritten(to: str, *, allow_pickle: bool) -> None:
    """Refuse a program whose files are not written.

    Raises:
        BadInput: If it keeps pickles and that was not allowed.
        UnknownName: If it is not known.
    """
    if to not in WRITTEN:
        raise UnknownName("format that is written", to, WRITTEN)
    if to in PICKLES and not allow_pickle:
        others = ", ".join(name for name in WRITTEN if name not in PICKLES)
        raise BadInput(
            f"{to} keeps pickles, a kind of file that can hold code: add --allow-pickle for one of"
            f" tensors, numbers and text alone, or convert to {others}"
        )
