"""Dictionaries by name: a path on this machine, or a place in a repository of the hub."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path, PurePosixPath

from energylens.core.errors import ArtifactRefused, BadInput, nearest
from energylens.features.formats.recognise import FORMATS, Loaded, load_dictionary
from energylens.sources.hub import Wanted, fetch, is_repository

SIDE_FILES = ("config.json", "activation_scaler.json")
"""Settings that some formats read beside their own files."""
_PART = re.compile(r"[\w][\w. ,=+@-]*")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a dictionary lies on this machine, and where it is from.

    Attributes:
        path: The folder or file.
        source: The same in words: the path, or the hub id with commit and folder.
        revision: The commit; empty for what was on this machine.
    """

    path: Path
    source: str
    revision: str = ""


def from_pretrained(
    where: str | Path,
    *,
    subfolder: str = "",
    revision: str | None = None,
    offline: bool | None = None,
    allow_pickle: bool = False,
) -> Loaded:
    """Load a dictionary of any format that is known, from this machine or from the hub.

    Of a repository the files of one dictionary are fetched, by the name of its format: no code, and
    no pickle unless that is allowed. Its `metadata` says as `source` where it is from.

    Args:
        where: A folder or file, `owner/name`, `owner/name/sub/folder` or `owner/name:sub/folder`.
        subfolder: Folder or file of the repository, where `where` does not name it.
        revision: Branch, tag or commit of the repository; the default branch if None.
        offline: True: look only in the cache; None: only if the environment says so.
        allow_pickle: Whether formats that are pickles may be fetched and read; nothing in them is
            run.

    Raises:
        BadInput: If it is neither on this machine nor on the hub, or the hub is out of reach.
        ArtifactRefused: If there is no dictionary there, with the nearest folders that hold one; or
            if its format refuses it.
    """
    place = locate(
        where, subfolder=subfolder, revision=revision, offline=offline, allow_pickle=allow_pickle
    )
    return load_dictionary(place.path, allow_pickle=allow_pickle)


def locate(
    where: str | Path,
    *,
    subfolder: str = "",
    revision: str | None = None,
    offline: bool | None = None,
    allow_pickle: bool = False,
) -> Place:
    """Find a dictionary, and fetch it where it is on the hub; see `from_pretrained`.

    Raises:
        BadInput: If it is neither on this machine nor on the hub, or the hub is out of reach.
        ArtifactRefused: If the repository holds no dictionary there.
    """
    local = Path(where).expanduser()
    if local.exists():
        found = local / subfolder
        return Place(path=found, source=str(found.resolve()))
    repository, inside = split(str(where), subfolder)

    def files(name: str, names: Sequence[str]) -> Sequence[str]:
        return [escape(file) for file in choose(name, inside, names, allow_pickle=allow_pickle)]

    wanted = Wanted(
        word="dictionary", instead="a folder or file with a dictionary on this machine",
        files=files,
    )  # fmt: skip
    folder, commit = fetch(repository, revision=revision, offline=offline, wanted=wanted)
    path = folder / inside
    if not path.exists():  # of a cache alone, which may hold other folders of the repository
        raise ArtifactRefused(
            f"the cache has no {inside!r} of {repository!r} at {commit[:8]}: connect to fetch it"
        )
    source = f"hub {repository}@{commit}" + (f" {inside}" if inside else "")
    return Place(path=path, source=source, revision=commit)


def split(where: str, subfolder: str = "") -> tuple[str, str]:
    """A repository and a place in it.

    Raises:
        BadInput: If the text has not the form of one, or its folder leads out of the repository.

    Example:
        >>> split("google/gemma-scope-2b-pt-res/layer_20/width_16k")
        ('google/gemma-scope-2b-pt-res', 'layer_20/width_16k')
        >>> split("some/sae:blocks.5")
        ('some/sae', 'blocks.5')
    """
    before, colon, after = where.partition(":")
    parts = before.split("/")
    repository = "/".join(parts[:2])
    inside = [part for part in (*parts[2:], *after.split("/"), *subfolder.split("/")) if part]
    if not is_repository(repository) or (colon and len(parts) != 2):
        raise BadInput(
            f"{where!r} is neither a path that exists nor a place on the hub: give a folder, or "
            "'owner/name', 'owner/name/sub/folder' or 'owner/name:sub/folder'"
        )
    if strange := [part for part in inside if not _PART.fullmatch(part) or part.endswith(".")]:
        raise BadInput(
            f"{where!r} names {strange[0]!r} as a folder of a repository: give its path from the "
            "top, of plain names"
        )
    return repository, "/".join(inside)


def choose(
    repository: str, inside: str, names: Sequence[str], *, allow_pickle: bool = False
) -> list[str]:
    """The files of one dictionary, by the names of all files of a repository.

    Args:
        repository: For errors.
        inside: The folder or file that was asked for; the top if empty.
        names: All files of the repository.
        allow_pickle: Whether formats that are pickles count.

    Raises:
        ArtifactRefused: If there is no dictionary there; names the nearest folders that have one.
    """
    kinds = [kind for kind in FORMATS.values() if allow_pickle or not kind.pickle]
    there, path = set(names), PurePosixPath(inside)
    folder = path.parent if inside in there else path
    beneath = [PurePosixPath(name).name for name in names if PurePosixPath(name).parent == folder]
    wholes = [(kind, _of_folder(kind.files, folder)) for kind in kinds if kind.files]
    own = [
        file for kind, whole in wholes if there.issuperset(whole)
        for file in (*whole, *_of_folder(list(filter(kind.further.fullmatch, beneath)), folder))
    ]  # fmt: skip
    if inside in there and inside not in own:
        own = [inside] if any(kind.is_file(Path(inside)) for kind in kinds) else []
    if not own:
        raise ArtifactRefused(_nowhere(repository, inside, names, allow_pickle=allow_pickle))
    beside = [*_of_folder(SIDE_FILES, folder), *_of_folder(["config.json"], folder.parent)]
    return sorted(there.intersection((*own, *beside)))


def _of_folder(files: Sequence[str], folder: PurePosixPath) -> list[str]:
    return [str(folder / file) for file in files]


def _nowhere(repository: str, inside: str, names: Sequence[str], *, allow_pickle: bool) -> str:
    """What was asked of a repository, and which of its places come near."""
    plain, pickled = _places(names, pickle=False), _places(names, pickle=True)
    asked = f"{repository!r} has no dictionary " + (f"at {inside!r}" if inside else "at its top")
    if not allow_pickle and inside in pickled:
        return f"{asked} but one that is a pickle: if you trust it, allow pickles"
    places = plain + pickled if allow_pickle else plain
    if not places:
        more = " but pickles, which are read on request only" if pickled else ""
        return f"{asked}, nor elsewhere any of a format that is read{more}: see its hub page"
    near = nearest(inside, places, most=_SHOWN) if inside else []
    near = near or [p for p in places if inside and p.startswith(inside)][:_SHOWN]
    shown = ", ".join(near or places[:_SHOWN])
    verb = "did you mean" if near else "there is"
    more = f" and {len(places) - _SHOWN:,} more" if not near and len(places) > _SHOWN else ""
    return f"{asked}: {verb} {shown}{more}{'?' if near else ''}"


def _places(names: Sequence[str], *, pickle: bool) -> list[str]:
    """Folders that hold a dictionary, then files that may be one, by names alone."""
    kinds = [kind for kind in FORMATS.values() if kind.pickle == pickle]
    of_folders = {file for kind in FORMATS.values() for file in kind.files}
    folders: dict[str, set[str]] = {}
    for path in map(PurePosixPath, names):
        folders.setdefault(str(path.parent), set()).add(path.name)
    wholes = {folder for folder, inside in folders.items()
              for kind in kinds if kind.files and inside.issuperset(kind.files)}  # fmt: skip
    alone = {name for name in names if PurePosixPath(name).name not in of_folders
             and any(kind.is_file(Path(name)) for kind in kinds)}  # fmt: skip
    return [*sorted(wholes), *sorted(alone)]
