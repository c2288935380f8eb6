"""The order of the parts; each is saved when done, so that a killed run resumes."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from energylens.core.ports import Progress, Store
from energylens.features.dictionary import Dictionary
from energylens.features.layered import Layered
from energylens.results.record import Summary
from energylens.studies.energy_lens.tables import table
from energylens.studies.evaluate_dictionary import EvaluateDictionary
from energylens.studies.evaluate_dictionary.benches import (
    Place,
    owners_of,
    places_of,
    rival_parts,
    rivals_at,
)
from energylens.studies.evaluate_dictionary.entries import Entry
from energylens.studies.evaluate_dictionary.finding import summarise
from energylens.studies.evaluate_dictionary.geometry import match_rows, weight_row
from energylens.studies.evaluate_dictionary.labels import TABLES, label_rows
from energylens.studies.evaluate_dictionary.material import Material, gather
from energylens.studies.evaluate_dictionary.measuring import (
    CLEAN,
    MEAN,
    ZERO,
    measure_rows,
    substitution_losses,
)
from energylens.studies.evaluate_dictionary.rivals import Rivals
from energylens.studies.evaluate_dictionary.tables import ITSELF, Judged, shape_of, sums_by_kind
from energylens.studies.evaluate_dictionary.universality import universality_rows

Row = dict[str, Any]


def run(
    options: EvaluateDictionary, *, store: Store, progress: Progress, say: Callable[[str], None]
) -> Summary:
    """Baselines, reconstructions, what the model makes of them, and tables, in this order."""
    torch.set_num_threads(options.threads or torch.get_num_threads())
    material = gather(options, store, say)
    places = places_of(material, options, progress)
    judged: dict[str, Judged] = {}
    by_labels = []
    for place in places:  # rows of one place at a time are in memory
        judged |= {entry.label: found for entry, found in _judge(place, store)}
        by_labels.append(label_rows(place, store))
        place.forget("rows", "empty_rows", "empty")
    ordered = [judged[entry.label] for entry in material.entries]
    entries, seed = material.entries, options.seed
    rows: dict[str, list[Row]] = {
        "evaluation": [row for one in ordered for row in one.rows()],
        "evaluation_differences": [row for one in ordered for row in one.differences()],
        "evaluation_densities": [row for one in ordered for row in one.densities()],
        "evaluation_sites": [row for one in ordered for row in one.sites()],
        "evaluation_weights": _once("weights", store, lambda: [
            weight_row(entry, seed) for entry in entries
        ]),
        "evaluation_matches": _once("matches", store, lambda: list(
            match_rows(entries, draws=options.match_draws, seed=seed, progress=progress)
        )),
        "evaluation_universality": universality_rows(
            material, {label: one.reads for label, one in judged.items()}, options, store,
            progress,
        ),
        **{name: [row for found in by_labels for row in found[name]] for name in TABLES},
    }  # fmt: skip
    store.save("tables", tables={name: table(found) for name, found in rows.items() if found})
    return summarise(options, material, rows, _records(material, store))


def _once(part: str, store: Store, make: Callable[[], list[Row]]) -> list[Row]:
    """Rows that are made once, also if the run is stopped later; JSON has null for nan."""
    if not store.done(part):
        store.save(part, scratch=True, records={part: make()})
    return [{name: math.nan if value is None else value for name, value in row.items()}
            for row in store.record(part)]  # fmt: skip


def _judge(place: Place, store: Store) -> list[tuple[Entry, Judged]]:
    owners = owners_of(place, store)
    by_label = {entry.label: entry for entry in place.entries}
    for empty in (False, True):
        for label in dict.fromkeys(owners.values()):
            rivals_at(place, by_label[label], store, empty=empty)
        place.forget("rows", "empty_rows")
    found = []
    for entry in place.entries:
        owner = by_label[owners[entry.label]]
        sums: dict[str, Any] = {}
        losses: dict[str, dict[str, Tensor]] = {}
        shapes: dict[str, Row] = {}
        for empty in (False, True):
            rivals = rivals_at(place, owner, store, empty=empty)
            name = f"{'empty' if empty else 'baselines'}.{owner.label}"
            _measure(name, place, rivals, rivals.dictionaries, store, sums, losses, empty=empty)
            shapes |= {name: shape_of(d, name) for name, d in rivals.dictionaries.items()}
            if not empty:
                like = rivals.mean
                mine = {ITSELF: entry.dictionary.to(like.device, like.dtype)}
                _measure(f"own.{entry.label}", place, rivals, mine, store, sums, losses)
                shapes |= {ITSELF: shape_of(entry.dictionary, ITSELF)}
                reads = rivals.reads
        found.append((entry, Judged(entry, sums, losses, shapes, reads=reads,
                                    seed=place.options.seed)))  # fmt: skip
    return found


def _measure(
    name: str,
    place: Place,
    rivals: Rivals,
    dictionaries: Mapping[str, Dictionary | Layered],
    store: Store,
    sums: dict[str, Any],
    losses: dict[str, dict[str, Tensor]],
    *,
    empty: bool = False,
) -> None:
    """Measure some dictionaries, or read back what was measured, and add it to what is known."""
    options, progress = place.options, place.progress
    part = f"rows.{name}"
    if not store.done(part):
        read = place.empty if empty else place.read
        found = measure_rows(
            read.subject, read.held_out, place.seat, dictionaries, rivals.rules,
            memory_mb=options.memory_mb, progress=progress, label=f"reconstructions, {name}",
        )  # fmt: skip
        flat = {f"{one}/{kind}/{key}": value for one, kinds in found.items()
                for kind, sums_of in sums_by_kind(kinds).items()
                for key, value in sums_of.items()}  # fmt: skip
        store.save(part, scratch=True, tensors={part: flat})
    kept = store.tensors(part)
    for one in dictionaries:
        sums[one] = {}
        for key, value in kept.items():
            of, kind, name_of_sum = key.split("/")
            if of == one:
                sums[one].setdefault(kind, {})[name_of_sum] = value
    part = f"losses.{name}"
    if not store.done(part):
        read = place.empty if empty else place.read
        some = min(options.loss_documents, len(read.held_out.document_names))
        found_losses = substitution_losses(
            read.subject, read.held_out.of_documents(range(some)), place.seat, dictionaries,
            rivals.rules, rivals.mean, memory_mb=options.memory_mb, progress=progress,
            label=f"put into the model, {name}",
        )  # fmt: skip
        store.save(part, scratch=True, tensors={part: found_losses})
    there = store.tensors(part)
    common = {put: there[put] for put in (CLEAN, MEAN, ZERO)}
    losses.update({one: common | {one: there[one]} for one in dictionaries})


def _records(material: Material, store: Store) -> dict[str, Any]:
    """What the fitting of baselines left to tell, by dictionary."""
    told = {}
    for entry in material.entries:
        if all(map(store.done, parts := rival_parts(entry))):
            settled = all(store.record(part)["ica_settled"] for part in parts)
            told[entry.label] = {**store.record(parts[0]), "ica_settled": settled}
    return told
