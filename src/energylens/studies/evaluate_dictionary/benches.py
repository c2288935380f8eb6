"""Baselines of every dictionary: dictionaries alike in site, width and L0 share one set."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from energylens.activations.certify import wrap
from energylens.core.ports import Progress, Store
from energylens.features.layered import Layered
from energylens.features.seat import Seat
from energylens.sources.model import random_weights_like
from energylens.studies.energy_lens.dictionaries import seed_of
from energylens.studies.evaluate_dictionary import EvaluateDictionary
from energylens.studies.evaluate_dictionary.entries import Entry
from energylens.studies.evaluate_dictionary.material import Material, Read
from energylens.studies.evaluate_dictionary.rivals import (
    Rivals,
    Rows,
    active_features,
    fit_random_weights,
    fit_rivals,
    join_rivals,
    layers_of,
    record_of,
    rivals_of,
    rows_of,
    short_options,
    tensors_of,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """One model, and where in it some dictionaries sit.

    Attributes:
        entries: The dictionaries of this place.
    """

    read: Read
    entries: Sequence[Entry]
    options: EvaluateDictionary
    progress: Progress

    @property
    def seat(self) -> Seat:
        return self.entries[0].seat

    @cached_property
    def rows(self) -> Rows:
        """Rows to fit on; the model is run when they are first asked for."""
        return self._rows(self.read, "activations to fit on")

    @cached_property
    def empty(self) -> Read:
        """The same model with weights drawn at random."""
        generator = torch.Generator().manual_seed(self.options.seed + 2)
        return replace(self.read, subject=wrap(random_weights_like(self.read.subject.loaded,
                                                                   generator)))  # fmt: skip

    @cached_property
    def empty_rows(self) -> Rows:
        return self._rows(self.empty, "activations of a random-weight model")

    def forget(self, *names: str) -> None:
        """Let go of `rows`, `empty` or `empty_rows`: what is wanted again is made again."""
        for name in names:
            self.__dict__.pop(name, None)

    def _rows(self, read: Read, label: str) -> Rows:
        return rows_of(read, self.entries[0], memory_mb=self.options.memory_mb,
                       progress=self.progress, label=label)  # fmt: skip


def places_of(material: Material, options: EvaluateDictionary, progress: Progress) -> list[Place]:
    """Dictionaries by where they belong."""
    found: dict[tuple[str, Seat], list[Entry]] = {}
    for entry in material.entries:
        found.setdefault((entry.model, entry.seat), []).append(entry)
    return [Place(read=material.read[key[0]], entries=entries, options=options, progress=progress)
            for key, entries in found.items()]  # fmt: skip


def owners_of(place: Place, store: Store) -> Mapping[str, str]:
    """For each dictionary the one whose baselines are its own too: the first of like width and L0.

    Saves how many features each has active, which the baselines then have.
    """
    for entry in place.entries:
        part = active_part(entry)
        if not store.done(part):
            rows = place.rows.site
            k = active_features(entry.dictionary.to(rows.device, rows.dtype), rows)
            store.save(part, scratch=True, records={part: k})
    alike: dict[tuple[int, int], str] = {}
    return {
        entry.label: alike.setdefault((store.record(active_part(entry)), entry.dictionary.width),
                                      entry.label)
        for entry in place.entries
    }  # fmt: skip


def active_part(entry: Entry) -> str:
    return f"active.{entry.label}"


def rival_parts(entry: Entry, *, empty: bool = False) -> list[str]:
    """Under which names a store keeps the baselines of a dictionary: one a layer."""
    part = f"{'empty' if empty else 'rivals'}.{entry.label}"
    if not isinstance(entry.dictionary, Layered):
        return [part]
    return [f"{part}.{layer}" for layer in range(len(entry.dictionary.parts))]


def rivals_at(place: Place, entry: Entry, store: Store, *, empty: bool = False) -> Rivals:
    """The baselines of a dictionary, fitted once; `empty`: that of the random-weight model."""
    parts, options = rival_parts(entry, empty=empty), place.options
    waiting = [part for part in parts if not store.done(part)]
    with ExitStack() as stack:
        advance = (
            stack.enter_context(
                place.progress.task(f"{entry.label}: baselines", len(waiting), "layers")
            )
            if len(waiting) > 1
            else lambda amount: None
        )
        for part in waiting:
            rows = layers_of(place.empty_rows if empty else place.rows, entry)[parts.index(part)]
            k = store.record(active_part(entry))
            short = short_options(entry, k, options.baseline_width)
            # Each part has a seed of its own, and the three short trainings the same.
            generator = torch.Generator().manual_seed(seed_of(options.seed, part))
            fit = fit_random_weights if empty else fit_rivals
            made = fit(rows, entry, short, generator, place.progress)
            store.save(part, scratch=True, tensors={part: tensors_of(made)},
                       records={part: record_of(made)})  # fmt: skip
            advance(1)
    device = place.read.subject.device
    return join_rivals([
        rivals_of(store.tensors(part), store.record(part), device) for part in parts
    ])  # fmt: skip
