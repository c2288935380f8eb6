"""The pass over the text, piece by piece: a killed run goes on after its last piece."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from energylens.activations.stream import (
    MEGABYTE,
    batches,
    rows_per_batch,
    scored_places,
    scored_rows,
)
from energylens.core.errors import NoRoom
from energylens.core.ports import Progress, Store
from energylens.features.evaluate import l0
from energylens.features.occurrences import AFTER, BEFORE, BINS, Occurrences, entries_of
from energylens.features.ordinary import Ordinary
from energylens.studies.browse_dictionary import BrowseDictionary
from energylens.studies.browse_dictionary.material import Material
from energylens.studies.browse_dictionary.placed import Placed
from energylens.studies.energy_lens.dictionaries import seed_of

TOP, DRAWN = 5, 8
PIECE_TOKENS = 65_536
WINDOWS_AT_ONCE, FIRST_WINDOWS = 8, 32
# What is kept is held once, and once more while it is written or merged.
SHARE_KEPT, SHARE_SAMPLE = 0.5, 0.4
# Of an entry of the sample: itself, its order, its rank, and what a draw of the null makes of it.
BYTES_PER_ENTRY = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """The code of the first tokens, on which pairs and labels are counted."""

    feature: Int[Tensor, " entry"]
    row: Int[Tensor, " entry"]
    value: Tensor
    window: Int[Tensor, " sample"]
    position: Int[Tensor, " sample"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """What the pass over the text left."""

    seen: Occurrences
    sample: Sample
    mean_state: Tensor | None
    """Of the stream that all that is written comes to; None where a lens reads none of it."""
    first: dict[str, Any]
    """Of the first rows: FVU, that of a random dictionary, L0."""


def read(
    material: Material, options: BrowseDictionary, store: Store, progress: Progress
) -> Reading:
    """Encode all windows once.

    Raises:
        NoRoom: If what is kept of so many features does not fit the memory budget.
    """
    windows, width = material.windows, material.dictionary.width
    kept_mb = _refuse_too_wide(width, options.memory_mb)
    seen = Occurrences(
        width=width, top=TOP, drawn=DRAWN, context=options.context,
        like=material.dictionary.W_enc,
    )  # fmt: skip
    first = _first_rows(material, options, store, options.memory_mb - kept_mb)
    most = _sample_tokens(options, first["l0"])
    size = max(1, PIECE_TOKENS // options.context)
    pieces = list(range(0, len(windows.ids), size))
    resumed = max((n for n in range(len(pieces)) if store.done(_part(n))), default=-1)
    if resumed >= 0:
        seen.restore(store.tensors(_part(resumed)))
    with progress.task("reading", windows.ids.numel(), "tokens") as advance:
        advance(windows.ids[: (resumed + 1) * size].numel())
        for number in range(resumed + 1, len(pieces)):
            piece = slice(pieces[number], pieces[number] + size)
            found = _read_piece(material, options, seen, piece, most, number,
                                budget_mb=options.memory_mb - kept_mb, advance=advance)  # fmt: skip
            store.save(_sample_part(number), tensors={_sample_part(number): found}, scratch=True)
            store.save(_part(number), tensors={_part(number): seen.state()}, scratch=True)
            if number:
                store.forget(_part(number - 1))
    mean = store.tensors("first").get("mean_state")
    device = material.dictionary.W_enc.device
    return Reading(
        seen=seen, sample=_sample(store, len(pieces), device),
        mean_state=None if mean is None else mean.to(device), first=first,
    )  # fmt: skip


def _part(number: int) -> str:
    return f"read.{number:06}"


def _sample_part(number: int) -> str:
    return f"sample.{number:06}"


def _refuse_too_wide(width: int, memory_mb: int) -> float:
    per_slot = 4 * (BEFORE + AFTER + 1) + 4 + 16
    kept_mb = 2 * width * ((TOP + DRAWN) * per_slot + 8 * BINS + 48) / MEGABYTE
    if kept_mb > SHARE_KEPT * memory_mb:
        raise NoRoom(
            f"what is kept of {width:,} features takes {kept_mb:,.0f} MB and the budget is"
            f" {memory_mb:,} MB: raise --memory-mb to {kept_mb / SHARE_KEPT:,.0f}"
        )
    return kept_mb


def _sample_tokens(options: BrowseDictionary, active: float) -> int:
    """As many as were asked for, or as many as the budget holds."""
    fits = SHARE_SAMPLE * options.memory_mb * MEGABYTE / (BYTES_PER_ENTRY * max(active, 1.0))
    return max(1_000, min(options.sample_tokens, int(fits)))


@torch.no_grad()
def _first_rows(
    material: Material, options: BrowseDictionary, store: Store, budget_mb: float
) -> dict[str, Any]:
    """Mean state and a first look at how well the dictionary fits its place."""
    if not store.done("first"):
        windows = material.windows
        placed, stream = material.placed, material.stream
        sites = list(dict.fromkeys([*placed.sites, *([] if stream is None else [stream])]))
        size = _windows_at_once(material, options, len(sites), budget_mb)
        first = slice(0, _first_windows(placed, len(sites), options.context, budget_mb))
        seen = [
            scored_rows(material.subject, batch, sites)
            for batch in batches(windows.ids[first], windows.document[first], size,
                                 device=material.subject.device)
        ]  # fmt: skip
        rows = {site: torch.cat([some[site] for some in seen]).float() for site in sites}
        keep = torch.stack([Ordinary.of(its).holds(its) for its in rows.values()]).all(0)
        inside = {site: its[keep] for site, its in rows.items()}
        generator = torch.Generator().manual_seed(seed_of(options.seed, "chance"))
        active = float(l0(placed.encode(inside)))
        k = min(max(1, round(active)), placed.dictionary.width)
        mean = {} if stream is None else {"mean_state": inside[stream].mean(0)}
        store.save("first", scratch=True, tensors={"first": mean}, records={"first": {
            "rows": int(keep.sum()), "massive": int((~keep).sum()), "fvu": placed.fvu(inside),
            "fvu_random": placed.fvu_random(inside, k, generator), "l0": active,
        }})  # fmt: skip
    kept = store.record("first")  # JSON, in which what is undefined is null
    return {name: math.nan if value is None else value for name, value in kept.items()}


def _first_windows(placed: Placed, sites: int, context: int, budget_mb: float) -> int:
    """How many windows are looked at first: rows of all sites, and once more the ordinary ones,
    take half of the budget at the most."""
    widest = max(placed.dictionary.d_in // len(placed.reads), *placed.widths)
    each = 2 * 4 * sites * widest * context / MEGABYTE
    return min(FIRST_WINDOWS, max(1, int(budget_mb / 2 / each)))


def _windows_at_once(
    material: Material, options: BrowseDictionary, sites: int, budget_mb: float
) -> int:
    fits = rows_per_batch(material.subject, options.context, sites, budget_mb=budget_mb)
    return min(fits, WINDOWS_AT_ONCE)


@torch.no_grad()
def _read_piece(
    material: Material,
    options: BrowseDictionary,
    seen: Occurrences,
    piece: slice,
    most: int,
    number: int,
    *,
    budget_mb: float,
    advance: Any,
) -> dict[str, Tensor]:
    """Take in some windows; what of them belongs to the sample comes back."""
    subject, windows = material.subject, material.windows
    special = torch.tensor(sorted(subject.loaded.special_ids), dtype=torch.long)
    document = windows.document.to(subject.device)
    generator = torch.Generator().manual_seed(seed_of(options.seed, "drawn", str(number)))
    reads = material.placed.reads
    size = _windows_at_once(material, options, len(reads), budget_mb)
    kept = []
    for first, batch in _numbered(windows.ids[piece], windows.document[piece], size, piece.start,
                                  device=subject.device):  # fmt: skip
        rows = scored_rows(subject, batch, reads, without=special)
        places = scored_places(batch, without=special).nonzero()
        places[:, 0] += first
        code = material.placed.encode(rows)
        before = seen.tokens
        seen.add(code, places, document, generator)
        if before < most:
            entries = entries_of(code, places)
            kept.append({
                "place": places.int(), "feature": entries.feature.int(), "value": entries.value,
                "of": torch.stack([entries.window, entries.position], 1).int(),
            })  # fmt: skip
        advance(batch.ids.numel())
    empty = {"place": torch.zeros(0, 2, dtype=torch.int32), "value": torch.zeros(0),
             "feature": torch.zeros(0, dtype=torch.int32),
             "of": torch.zeros(0, 2, dtype=torch.int32)}  # fmt: skip
    return {name: torch.cat([one[name] for one in kept]) if kept else blank
            for name, blank in empty.items()}  # fmt: skip


def _numbered(
    ids: Tensor, document: Tensor, size: int, start: int, *, device: torch.device
) -> Iterator[tuple[int, Any]]:
    """Batches with the number of their first window."""
    for batch in batches(ids, document, size, device=device):
        yield start, batch
        start += len(batch.ids)


def _sample(store: Store, pieces: int, device: torch.device) -> Sample:
    parts = [store.tensors(_sample_part(number)) for number in range(pieces)]
    whole = {name: torch.cat([part[name] for part in parts]).to(device) for name in parts[0]}
    place = whole["place"].long()
    most = int(place[:, 1].max()) + 1
    known = place[:, 0] * most + place[:, 1]  # in the order of the text: sorted
    of = whole["of"].long()
    return Sample(
        feature=whole["feature"].long(), value=whole["value"],
        row=torch.searchsorted(known, of[:, 0] * most + of[:, 1]),
        window=place[:, 0], position=place[:, 1],
    )  # fmt: skip
