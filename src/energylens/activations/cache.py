"""Activations on disk, in shards that are there whole or not at all.

FOLDER/
  shard-00000.safetensors …   rows of all sites; row i of every site is the same token
  manifest.json               what they are of, and SHA-256 of each shard; written after each
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from energylens.activations.stream import MEGABYTE, ModelRows
from energylens.core.errors import ArtifactRefused, BadInput
from energylens.core.files import sha256, sweep, write_atomic, write_bytes
from energylens.core.ports import Progress, silence
from energylens.results.plain import decode, encode

if TYPE_CHECKING:
    from energylens.activations.batch import Batch

FORMAT = 1
_DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}
_AGAIN = "write the cache again with the same text, which redoes what is damaged and keeps the rest"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of a cache."""

    rows: int
    bytes: int
    """Size of the file."""
    sha256: str
    """Of the file."""
    tokens: str
    """SHA-256 of the token ids of the shard's windows."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a cache is of."""

    model: str
    """SHA-256 of the model, as `LoadedModel.sha256`."""
    text: str
    """SHA-256 of the text, as `sources.text.text_sha256` gives it."""
    sites: Mapping[str, int]
    """Width of each site."""
    dtype: str
    """Of the rows: float16, bfloat16, float32 or float64."""
    context: int
    """Tokens of a window."""
    windows_per_pass: int
    """Windows that went through the model together, which the last digits depend on."""
    passes_per_shard: int
    rows_per_shard: int
    """At most: special tokens give no row, and the last shard is shorter."""
    shards: tuple[Shard, ...] = ()
    complete: bool = False
    """Whether the text was read to its end."""


def write_cache(
    source: ModelRows,
    folder: Path | str,
    *,
    text: str,
    shard_mb: float | int = 64,
    tokens: int = 0,
    progress: Progress = silence,
    label: str = "activation cache",
) -> "CachedRows":
    """Run a model over all windows of a source and keep the rows in a folder.

    A writer that was stopped goes on when it is called again: shards that are there as they were
    written are kept, after their tokens were compared, and only the others are computed. The
    bytes are those of a writer that was not stopped. One writer at a time.

    Args:
        text: Hash of the text, which a reader can ask for.
        shard_mb: Size of a shard; a reader's window of memory holds several.
        tokens: How many there will be, where that is known: for the progress alone.
        progress: Told the tokens done.

    Raises:
        ArtifactRefused: If the folder holds a cache of something else; names what differs.
        NoRoom: If the disk is full; finished shards are kept.
        BadInput: If the rows' dtype is none that a cache holds.
    """
    folder = Path(folder).expanduser()
    manifest = _begun(folder, _heading(source, text, shard_mb))
    sweep(folder)
    passes, number = source.passes(), 0
    with progress.task(label, tokens, "tokens") as advance:
        while batches := list(islice(passes, manifest.passes_per_shard)):
            manifest = _with_shard(folder, manifest, number, source, batches)
            number += 1
            advance(sum(batch.ids.numel() for batch in batches))
    if number < len(manifest.shards):
        raise _other(folder, "text", f"of {len(manifest.shards)} shards", f"one of {number}")
    _write_manifest(folder, replace(manifest, complete=True))
    return open_cache(folder)


def open_cache(
    folder: Path | str,
    *,
    model: str | None = None,
    text: str | None = None,
    sites: Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
    context: int | None = None,
    verify: bool = False,
) -> "CachedRows":
    """A finished cache, checked: all files are there, of the size and shapes they were written in.

    Args:
        model: Hash that the model must have; None: any.
        text: Hash that the text must have; None: any.
        sites: Sites that are wanted, in this order; None: all.
        dtype: The rows' dtype must be this; None: any.
        context: Windows must have so many tokens; None: any number.
        verify: Also hash every file, which reads all of them; finds a single flipped bit.

    Raises:
        ArtifactRefused: If the cache is of something else, unfinished, or damaged; one sentence.
    """
    folder = Path(folder).expanduser()
    manifest = _read_manifest(folder)
    asked: dict[str, Any] = {
        "model": model, "text": text, "dtype": dtype and _dtype_name(dtype), "context": context,
    }  # fmt: skip
    for name, wanted in asked.items():
        if wanted is not None and wanted != getattr(manifest, name):
            raise _other(folder, name, getattr(manifest, name), wanted)
    absent = [site for site in sites or () if site not in manifest.sites]
    if absent:
        raise _other(folder, "sites", ", ".join(manifest.sites), ", ".join(absent))
    if not manifest.complete:
        raise ArtifactRefused(
            f"the cache {folder} is unfinished ({len(manifest.shards)} shards):"
            " write it again with the same text, which goes on where it stopped"
        )
    for number, shard in enumerate(manifest.shards):
        _check(folder / _name(number), shard, manifest, verify=verify)
    kept = {site: manifest.sites[site] for site in sites or manifest.sites}
    return CachedRows(folder=folder, manifest=replace(manifest, sites=kept))


@dataclass(frozen=True, kw_only=True)
class CachedRows:
    """The rows of a cache, a shard at a time in random order: a `buffer.RowSource`.

    Shards are mapped, not read: what is not looked at stays on the disk.
    """

    folder: Path
    manifest: Manifest

    @property
    def layout(self) -> dict[str, Tensor]:
        dtype = getattr(torch, self.manifest.dtype)
        return {site: torch.empty(0, n, dtype=dtype) for site, n in self.manifest.sites.items()}

    @property
    def largest(self) -> int:
        return max((shard.rows for shard in self.manifest.shards), default=0)

    @property
    def total(self) -> int:
        return sum(shard.rows for shard in self.manifest.shards)

    def blocks(self, seed: int, first: int) -> Iterator[Mapping[str, Tensor]]:
        """Shards in the order of `seed`, from the `first` of that order on."""
        from safetensors import safe_open

        order = torch.Generator().manual_seed(seed)
        for number in torch.randperm(len(self.manifest.shards), generator=order).tolist()[first:]:
            with safe_open(self.folder / _name(number), framework="pt") as file:
                yield {site: file.get_tensor(site) for site in self.manifest.sites}


def _heading(source: ModelRows, text: str, shard_mb: float | int) -> Manifest:
    """The manifest of a cache before its first shard."""
    dtypes = {empty.dtype for empty in source.layout.values()}
    if len(dtypes) > 1:
        raise BadInput(
            f"the sites have rows of {', '.join(sorted(map(str, dtypes)))}: a cache has one dtype,"
            " so name it when the rows are made"
        )
    (dtype,) = dtypes
    row_bytes = sum(empty.shape[1] * dtype.itemsize for empty in source.layout.values())
    passes = max(1, int(shard_mb * MEGABYTE // max(1, source.largest * row_bytes)))
    return Manifest(
        model=source.subject.loaded.sha256, text=text, dtype=_dtype_name(dtype),
        sites={site: empty.shape[1] for site, empty in source.layout.items()},
        context=source.context, windows_per_pass=source.windows_per_pass, passes_per_shard=passes,
        rows_per_shard=passes * source.largest,
    )  # fmt: skip


def _begun(folder: Path, heading: Manifest) -> Manifest:
    """The manifest that is there, if it is of the same cache; else the heading."""
    if not (folder / "manifest.json").is_file():
        return heading
    there = _read_manifest(folder)
    for field in fields(Manifest):
        before, now = getattr(there, field.name), getattr(heading, field.name)
        if field.name not in ("shards", "complete") and before != now:
            raise _other(folder, field.name, _said(before), _said(now))
    return there


def _with_shard(
    folder: Path, manifest: Manifest, number: int, source: ModelRows, batches: "Sequence[Batch]"
) -> Manifest:
    """The manifest with this shard, which is computed unless it is there as it was written."""
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(batch.ids.cpu().numpy().tobytes())
    path, shards = folder / _name(number), list(manifest.shards)
    if number < len(shards):
        if shards[number].tokens != digest.hexdigest():
            raise _other(folder, "text", f"with other tokens in shard {number}", "this one")
        if path.is_file() and sha256(path) == shards[number].sha256:
            return manifest
    parts = [source.rows(batch) for batch in batches]
    rows = {site: torch.cat([part[site] for part in parts]) for site in manifest.sites}
    written = write_atomic(path, lambda beside: _save(rows, beside))
    shard = Shard(
        rows=len(next(iter(rows.values()))), bytes=path.stat().st_size, sha256=written,
        tokens=digest.hexdigest(),
    )  # fmt: skip
    manifest = replace(manifest, shards=(*shards[:number], shard, *shards[number + 1 :]))
    _write_manifest(folder, manifest)
    return manifest


def _save(rows: Mapping[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(dict(rows), path)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    write_bytes(folder / "manifest.json", encode({"format": FORMAT, "manifest": manifest}))


def _read_manifest(folder: Path) -> Manifest:
    path = folder / "manifest.json"
    if not path.is_file():
        raise ArtifactRefused(f"{folder} holds no activation cache: it has no manifest.json")
    content = decode(path.read_bytes(), str(path))
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ArtifactRefused(
            f"{path} is of format {found} and this version reads {FORMAT}: write the cache again in"
            " another folder"
        )
    try:
        values = content["manifest"]
        shards = tuple(_of(Shard, shard) for shard in values["shards"])
        sites = {str(site): int(width) for site, width in values["sites"].items()}
        manifest = _of(Manifest, {**values, "shards": shards, "sites": sites})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactRefused(f"{path} is not what this version writes: {error}") from None
    return manifest


def _of(kind: type, values: Mapping[str, Any]) -> Any:
    """A dataclass of plain values, each of the type that its field says."""
    for field in fields(kind):
        if field.type in (int, str, bool) and type(values[field.name]) is not field.type:
            raise TypeError(f"{field.name} is {values[field.name]!r}")
    return kind(**values)


def _check(path: Path, shard: Shard, manifest: Manifest, *, verify: bool) -> None:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ArtifactRefused(f"{path} is missing: {_AGAIN}")
    if (there := path.stat().st_size) != shard.bytes:
        raise ArtifactRefused(f"{path} has {there:,} bytes and not {shard.bytes:,}: {_AGAIN}")
    wanted = {s: ([shard.rows, n], _DTYPES.get(manifest.dtype)) for s, n in manifest.sites.items()}
    try:
        with safe_open(path, framework="pt") as file:
            slices = {site: file.get_slice(site) for site in file.keys()}  # noqa: SIM118
            found = {s: (piece.get_shape(), piece.get_dtype()) for s, piece in slices.items()}
    except SafetensorError as error:
        raise ArtifactRefused(f"{path} is not safetensors ({error}): {_AGAIN}") from None
    if found != wanted or (verify and sha256(path) != shard.sha256):
        raise ArtifactRefused(f"{path} is not as it was written: {_AGAIN}")


def _other(folder: Path, what: str, there: object, asked: object) -> ArtifactRefused:
    return ArtifactRefused(
        f"the cache {folder} was written for {what.replace('_', ' ')} {there} and {asked} was asked"
        " for: give another folder, or write the cache anew"
    )


def _said(value: object) -> object:
    return ", ".join(value) if isinstance(value, Mapping) else value


def _dtype_name(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise BadInput(f"rows of {name} were asked for: a cache holds {', '.join(_DTYPES)}")
    return name


def _name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"
