"""A dictionary onto the hub: SAELens' folder, and a card that says how it was judged."""

import re
import tempfile
from dataclasses import replace
from pathlib import Path

from energylens.core.errors import BadInput
from energylens.features.architecture import ARCHITECTURES
from energylens.features.card import mark, model_card, plain, read_judged
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.crosscoder import Crosscoder
from energylens.features.dictionary import Dictionary
from energylens.features.formats.convert import own_files
from energylens.features.formats.disk import write_folder
from energylens.features.formats.recognise import Loaded
from energylens.sources import hub

_FOLDER = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})*", re.ASCII)


def push_to_hub(
    dictionary: Loaded,
    repository: str,
    *,
    run: Path | str | None = None,
    subfolder: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    license: str | None = None,
    message: str | None = None,
) -> str:
    """Upload a dictionary as a folder that SAELens reads, with a card, in one commit.

    A cross-layer transcoder becomes the files of circuit-tracer, or where that has none such, ours.

    The token is that of `hf auth login` or HF_TOKEN, which the hub's own library reads. The card
    lies in the folder, and on top of the repository too unless a card of another folder or one that
    a person wrote is there, which is left as it is.

    Args:
        dictionary: What to upload.
        repository: `owner/name`; made if it is not there.
        run: The run that trained or evaluated it, whose numbers the card shows; without one the
            card says that it was not evaluated.
        subfolder: Folder of the repository; by default the dictionary's site, or what it is.
        private: Of a repository that is made; by default as the settings of the account say, which
            is public unless they were changed.
        revision: Branch; the default branch if None.
        license: Name of a licence as the hub knows it.
        message: Of the commit.

    Returns:
        Address of the commit.

    Raises:
        BadInput: If the run is not finished, a value is not finite, nobody is logged in, or the hub
            refuses or cannot be reached.
    """
    made = finished(dictionary)
    folder = subfolder or _usual_folder(dictionary)
    if not hub.is_repository(repository) or not _FOLDER.fullmatch(folder) or ".." in folder:
        raise BadInput(
            f"{repository!r} and {folder!r} should be a hub id, owner/name, and a folder of plain"
            " names in it"
        )
    judged = None if run is None else read_judged(made, run)
    card = model_card(made, repository, folder, judged=judged, license=license)
    kind = plain(made)
    above = hub.readme(repository, revision)
    with tempfile.TemporaryDirectory(prefix="energylens-") as place:
        written = write_folder(Path(place) / "dictionary", own_files(made))
        files: dict[str, Path | bytes] = {
            f"{folder}/{path.name}": path for path in sorted(written.iterdir())
        }
        files[f"{folder}/README.md"] = card.encode()
        if above is None or mark(folder) in above:
            files["README.md"] = card.encode()
        return hub.push(
            files, repository, private=private, revision=revision,
            message=message or f"Add {folder}, a {kind.architecture} of {kind.width} features",
        )  # fmt: skip


def finished(made: Loaded) -> Loaded:
    """What is used after training: the same, or its equal of another architecture."""
    if isinstance(made, CrossLayerTranscoder):
        return made.finish()
    if isinstance(made, Crosscoder):
        return replace(made, dictionary=_finish(made.dictionary))
    return _finish(made)


def _finish(dictionary: Dictionary) -> Dictionary:
    return ARCHITECTURES[dictionary.architecture].finish(dictionary)


def _usual_folder(made: Loaded) -> str:
    if isinstance(made, Crosscoder):
        return "crosscoder"
    if isinstance(made, CrossLayerTranscoder):
        return "cross_layer"
    return str(made.metadata.get("hook_name") or "dictionary")
