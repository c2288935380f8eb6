"""The dictionaries of a run: read, named, and matched with a model and its sites."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from energylens.activations.subject import Subject
from energylens.core.errors import BadInput
from energylens.core.sites import canonical
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.crosscoder import Crosscoder
from energylens.features.dictionary import Dictionary, weights_sha256
from energylens.features.formats.recognise import Loaded, load_dictionary
from energylens.features.layered import Layered
from energylens.features.pretrained import locate
from energylens.features.seat import Seat, seat_of_crosscoder, seat_of_layers
from energylens.studies.evaluate_dictionary import EvaluateDictionary

PACKAGED = {"SmolLM2-135M-Instruct": "smollm2", "tiny": "tiny"}
"""What our own dictionaries call the models of packages, and what `load_model` does."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """A dictionary to be judged.

    Attributes:
        label: Names it in figures, tables and parts: lower case, digits and underscores.
        dictionary: Of the rows that `seat` puts side by side.
        model: What is loaded for it.
        told_model: What it says of its model itself; empty if nothing.
    """

    label: str
    path: Path
    sha256: str
    dictionary: Dictionary | Layered
    model: str
    told_model: str
    seat: Seat

    @property
    def is_transcoder(self) -> bool:
        return self.seat.writes_elsewhere


def read_entries(options: EvaluateDictionary) -> list[Entry]:
    """Read all dictionaries, and settle for each what it belongs to.

    Raises:
        BadInput: If there is none, two are the same, or one does not say where it belongs.
        ArtifactRefused: If one cannot be read.
    """
    if not options.dictionary:
        raise BadInput("no dictionary was given: name a folder or a file after --dictionary")
    paths = [locate(path).path for path in options.dictionary]
    found = [load_dictionary(path) for path in paths]
    labels = label_paths(paths)
    entries: list[Entry] = []
    for i, (path, loaded, label) in enumerate(zip(paths, found, labels, strict=True)):
        asked = [_given(values, i, len(paths), name) for values, name in (
            (options.site, "--site"), (options.target_site, "--target-site"),
            (options.model, "--model"),
        )]  # fmt: skip
        entry = seated(loaded, path, label, *asked)
        for other in entries:
            if (other.sha256, other.seat, other.model) == (entry.sha256, entry.seat, entry.model):
                raise BadInput(
                    f"{path} and {other.path} are the same dictionary: give each dictionary once"
                )
        entries.append(entry)
    return entries


def seated(
    loaded: Loaded, path: Path, label: str, site: str = "", target: str = "", model: str = ""
) -> Entry:
    """A dictionary of any kind with its place, as is asked or as it says itself.

    Raises:
        BadInput: If neither says it, or a site is asked for one that has several.
    """
    if not isinstance(loaded, Dictionary) and (site or target):
        raise BadInput(
            f"the site {site or target} was given for {path}, which is of several sites and says"
            " itself which: leave the site out"
        )
    dictionary: Dictionary | Layered
    if isinstance(loaded, Crosscoder):
        seat, dictionary = seat_of_crosscoder(loaded, path), loaded.in_units
    elif isinstance(loaded, CrossLayerTranscoder):
        seat, dictionary = seat_of_layers(loaded, path), Layered.of(loaded)
    else:
        seat, dictionary = _seat(path, loaded, site, target), loaded
    told = str(dictionary.metadata.get("model_name") or "")
    return Entry(
        label=label, path=path, sha256=weights_sha256(dictionary), dictionary=dictionary,
        told_model=told, model=model or PACKAGED.get(told, told) or "smollm2", seat=seat,
    )  # fmt: skip


def _seat(path: Path, dictionary: Dictionary, asked: str, asked_target: str) -> Seat:
    """Where a dictionary of one site reads and where it writes."""
    metadata = dictionary.metadata
    site = asked or metadata.get("hook_name")
    if not site:
        raise BadInput(f"{path} does not say which site it reads: name it with --site")
    target = asked_target or metadata.get("hook_name_out")
    elsewhere = dictionary.W_skip is not None or dictionary.d_in != dictionary.d_out
    if elsewhere and not target:
        raise BadInput(
            f"{path} is a transcoder from {dictionary.d_in} to {dictionary.d_out} values and does"
            " not say which site it writes: name it with --target-site"
        )
    site, target = canonical(str(site)), canonical(str(target or site))
    if elsewhere and target == site:
        raise BadInput(
            f"{path} is a transcoder and was given {site!r} to read and to write: name the site it"
            " writes with --target-site"
        )
    for name in (site, target):
        if "*" in name:
            raise BadInput(f"site {name!r} of {path} has a wildcard: name one site")
    return Seat.of_site(site, dictionary.d_in, target, dictionary.d_out)


def _given(values: Sequence[str], number: int, count: int, option: str) -> str:
    """The value of an option that holds for all dictionaries, or has one for each."""
    if len(values) not in (0, 1, count):
        raise BadInput(
            f"{option} has {len(values)} values and there are {count} dictionaries: give one for"
            " all, or one for each"
        )
    return "" if not values else values[0] if len(values) == 1 else values[number]


def label_paths(paths: Sequence[Path]) -> list[str]:
    """A name for each path: its last part, or as many parts as tell it from the others.

    Example:
        >>> label_paths([Path("a/layer 3"), Path("b/layer 4")])
        ['layer_3', 'layer_4']
        >>> label_paths([Path("a/d/blocks.1"), Path("b/d/blocks.1")])
        ['a_blocks_1', 'b_blocks_1']
    """
    parts = [path.resolve().parts for path in paths]
    last = [_slug(p[-1:]) for p in parts]
    if len(set(last)) < len(last):
        deep = min(map(len, parts))
        differ = [i for i in range(1, deep + 1) if len({p[-i] for p in parts}) > 1]
        last = [_slug((*(p[-i] for i in reversed(differ) if i > 1), p[-1])) for p in parts]
    named: list[str] = []
    for name in last:
        turn = next(n for n in range(1, len(last) + 2)
                    if (name if n == 1 else f"{name}_{n}") not in named)  # fmt: skip
        named.append(name if turn == 1 else f"{name}_{turn}")
    return named


def _slug(parts: Sequence[str]) -> str:
    text = re.sub(r"[^a-z0-9]+", "_", "_".join(parts).lower()).strip("_")
    return text[-60:].strip("_") or "dictionary"


def check_entry(entry: Entry, subject: Subject, *, other_model: bool) -> None:
    """Whether a dictionary fits the model it is to be judged on.

    Raises:
        BadInput: If it names another model, or its rows are not as wide as the site's.
        SiteNotAvailable: If the model has no such site.
    """
    name = subject.loaded.name
    known = {_plain(name), _plain(entry.model), _plain(PACKAGED.get(name, name))}
    if entry.told_model and not other_model and _plain(entry.told_model) not in known:
        raise BadInput(
            f"{entry.path} says it is of {entry.told_model!r} and was to be judged on {name!r}:"
            " name its own model with --model, or add --other-model"
        )
    for site in entry.seat.sites:
        subject.port(site)


def check_widths(entry: Entry, widths: Mapping[str, int], model: str) -> None:
    """Whether a dictionary reads and writes rows as wide as its sites have.

    Raises:
        BadInput: If not.
    """
    seat = entry.seat
    ends = (("reads", seat.reads, seat.read_widths), ("writes", seat.writes, seat.write_widths))
    for verb, sites, expected in ends:
        for site, width in zip(sites, expected, strict=True):
            if widths[site] != width:
                raise BadInput(
                    f"{entry.path} {verb} rows of {width} values and {site} of {model} has"
                    f" {widths[site]}: name the site it was trained on with --site, or its model"
                    " with --model"
                )


def _plain(name: str) -> str:
    """A model's name without its owner, case and punctuation."""
    last = name.rstrip("/").split("/")[-1].removesuffix(".gguf")
    return re.sub(r"[^a-z0-9]+", "", last.lower())
