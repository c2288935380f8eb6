"""Read, write, read back, compare."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pyarrow as pa
import torch

from energylens.core.errors import BadInput
from energylens.core.files import sha256
from energylens.core.ports import Progress, Store
from energylens.features.agreement import (
    Agreement,
    agreement,
    agreement_across_layers,
    telling_rows,
)
from energylens.features.card import plain
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.dictionary import Dictionary
from energylens.features.formats.convert import files_of, refuse_unwritten
from energylens.features.formats.recognise import format_of, load_dictionary
from energylens.features.pretrained import SIDE_FILES, Place, locate
from energylens.results.record import Summary
from energylens.studies.convert import Convert
from energylens.studies.convert.finding import summarise
from energylens.studies.study import pin_inputs

Row = dict[str, Any]
FOLDER = "dictionary"
_SETTINGS = ("architecture", "k", "layers", "subtracts_b_dec")
Plain: TypeAlias = Dictionary | CrossLayerTranscoder


def run(
    options: Convert, *, store: Store, progress: Progress, say: Callable[[str], None]
) -> Summary:
    """Convert one dictionary, and compare what was written with what was read."""
    torch.set_num_threads(options.threads or torch.get_num_threads())
    refuse_unwritten(options.to, allow_pickle=options.allow_pickle)
    place = locate(
        options.dictionary, revision=options.revision, offline=options.offline or None,
        allow_pickle=options.allow_pickle,
    )  # fmt: skip
    read = load_dictionary(place.path, allow_pickle=options.allow_pickle)
    # Refused, if so, before anything is kept.
    files, inside = files_of(read, options.to, allow_pickle=options.allow_pickle)
    source = plain(read)
    record = _source_record(place)
    pin_inputs(store, {"dictionary": record})
    if not store.done(FOLDER):
        store.require_room(2 * sum(w.numel() * w.element_size() for w in source.weights.values()))
        store.save(FOLDER, files={f"{FOLDER}/{name}": write for name, write in files.items()})
    folder = store.folder(FOLDER)
    written = plain(load_dictionary(folder / inside, allow_pickle=options.allow_pickle))
    generator = torch.Generator().manual_seed(options.seed)
    with progress.task("rows through both", 1) as advance:
        found = _agreement(source, written, options.rows, generator)
        advance(1)
    settings = list(setting_rows(source, written))
    tables = {
        "conversion_tensors": list(tensor_rows(source, written)),
        "conversion_settings": settings,
        "conversion_agreement": [vars(found)],
    }
    kept = {
        "source": record,
        "written": {
            "format": options.to, "name": f"{FOLDER}/{inside}".rstrip("/"),
            "files": {name: sha256(folder / name) for name in sorted(files)},
        },
    }  # fmt: skip
    store.save(
        "tables", records={"conversion": kept},
        tables={name: pa.Table.from_pylist(rows) for name, rows in tables.items()},
    )  # fmt: skip
    summary = summarise(options.to, record, source, found, tables)
    for sentence in summary.limits:
        say(sentence)
    return summary


def _agreement(source: Plain, written: Plain, rows: int, generator: torch.Generator) -> Agreement:
    if isinstance(source, Dictionary) and isinstance(written, Dictionary):
        return agreement(source, written, telling_rows(source, rows, generator), generator)
    assert isinstance(source, CrossLayerTranscoder) and isinstance(written, CrossLayerTranscoder)
    return agreement_across_layers(source, written, rows, generator)


def _source_record(place: Place) -> Row:
    """What was read: its format, where it is from, and the hash of each file."""
    kind = format_of(place.path)
    if kind is None:
        raise BadInput(f"{place.source} holds no dictionary: name the folder of one")
    path = kind.place(place.path) or place.path
    if path.is_dir():
        further = sorted(f.name for f in path.iterdir() if kind.further.fullmatch(f.name))
        named = [path / name for name in dict.fromkeys((*kind.files, *further))]
        beside = [path / name for name in SIDE_FILES if name not in kind.files]
        unread = sorted(f.name for f in path.iterdir() if f.is_file() and f not in named + beside)
    else:
        named, beside, unread = [path], [path.parent / "config.json"], []
    files = {file.name: sha256(file) for file in (*named, *beside) if file.is_file()}
    listed = "\n".join(f"{name} {digest}" for name, digest in sorted(files.items()))
    return {
        "name": path.name, "source": place.source, "format": kind.name, "files": files,
        "sha256": hashlib.sha256(listed.encode()).hexdigest(), "not_read": unread,
    }  # fmt: skip


def tensor_rows(source: Plain, written: Plain) -> Iterator[Row]:
    """One row a tensor: its shape and type on both sides, and the largest difference.

    A difference is in parts of the largest value; it is nan where one side lacks the tensor or
    shapes differ.
    """
    sides = (source.weights, written.weights)
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        first, second = (side.get(name) for side in sides)
        row: Row = {"tensor": name, "difference": float("nan")}
        for side, tensor in (("source", first), ("written", second)):
            shape, dtype = ("", "") if tensor is None else (tensor.shape, tensor.dtype)
            row[f"{side}_shape"] = " × ".join(map(str, shape))
            row[f"{side}_type"] = str(dtype).removeprefix("torch.")
        if first is not None and second is not None and first.shape == second.shape:
            apart = (first.double() - second.double()).abs().max()
            largest = first.double().abs().max()
            row["difference"] = float(apart / largest) if largest > 0 else float(apart)
        row["state"] = _state(first, second, row["difference"])
        yield row


def _state(first: Any, second: Any, difference: float) -> str:
    if first is None:
        return "only in the written"
    if second is None:
        return "only in the source"
    if difference == 0 and first.dtype == second.dtype:
        return "same bits"
    return "changed"


def setting_rows(source: Plain, written: Plain) -> Iterator[Row]:
    """One row a setting and piece of metadata: what it was, and what is read back."""
    pairs = [(name, getattr(source, name), getattr(written, name))
             for name in _SETTINGS if hasattr(source, name)]  # fmt: skip
    pairs.append(("dtype", str(source.b_dec.dtype), str(written.b_dec.dtype)))
    before, after = dict(source.metadata), dict(written.metadata)
    pairs += [(f"metadata.{name}", before.get(name), after.get(name))
              for name in dict.fromkeys([*before, *after])]  # fmt: skip
    for name, was, now in pairs:
        state = "same" if was == now else "added" if was is None else "changed"
        yield {
            "setting": name, "source": _shown(was), "written": _shown(now),
            "state": "not held" if now is None and was is not None else state,
        }  # fmt: skip


def _shown(value: Any) -> str:
    return "" if value is None else str(value)
