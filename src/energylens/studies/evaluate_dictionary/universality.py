"""Do two dictionaries do the same on the same text, whatever their models and tokenizers?"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.core.ports import Progress, Store
from energylens.features.ordinary import Ordinary
from energylens.sources.aligned import AlignedWindows, choose_passages, read_aligned
from energylens.studies.energy_lens.dictionaries import seed_of
from energylens.studies.energy_lens.material import MIN_DOCUMENTS
from energylens.studies.energy_lens_models.consistency import columns, consistency, side
from energylens.studies.energy_lens_models.measures import Bench, mean_by_cell
from energylens.studies.evaluate_dictionary import EvaluateDictionary
from energylens.studies.evaluate_dictionary.entries import Entry
from energylens.studies.evaluate_dictionary.material import Material

Row = dict[str, Any]
Aligned = Mapping[int, AlignedWindows]


def universality_rows(
    material: Material,
    ordinary: Mapping[str, Ordinary],
    options: EvaluateDictionary,
    store: Store,
    progress: Progress,
) -> list[Row]:
    """Partners by correlation of activations for any two dictionaries, beside two nulls.

    Args:
        ordinary: The rule of massive rows at the site each dictionary reads, by its label.

    Raises:
        BadInput: If too few passages can be read by all models.
    """
    pairs = list(combinations(material.entries, 2))
    if not pairs or not options.passages:
        return []
    aligned = _aligned(material, options)
    passages = sorted(set.intersection(*(set(found) for found in aligned.values())))
    if len(passages) < MIN_DOCUMENTS:
        raise BadInput(
            f"{len(passages)} passages of {options.passage} characters have {options.context}"
            f" tokens for every model and {MIN_DOCUMENTS} are needed: raise --passage, lower"
            " --context, or leave the comparison out with --passages 0"
        )
    with progress.task("activations on common passages", len(material.entries),
                       "dictionary") as advance:  # fmt: skip
        for entry in material.entries:
            if not store.done(f"seen.{entry.label}"):
                mean = _seen(entry, material, aligned[entry.model], passages, ordinary, options)
                store.save(f"seen.{entry.label}", scratch=True,
                           tensors={f"seen.{entry.label}": {"seen": mean}})  # fmt: skip
            advance(1)
    seen = {e.label: store.tensor(f"seen.{e.label}", "seen") for e in material.entries}
    usable = torch.stack([v.isfinite().all(2).all(1) for v in seen.values()]).all(0)
    rows = []
    for one, other in pairs:
        part = f"universality.{one.label}.{other.label}"
        if not store.done(part):
            row = _pair(one, other, seen, usable, options, part)
            store.save(part, scratch=True, records={part: row})
        row = {name: math.nan if value is None else value
               for name, value in store.record(part).items()}  # fmt: skip
        rows += [row] if row else []
    return rows


def _pair(
    one: Entry,
    other: Entry,
    seen: Mapping[str, Tensor],
    usable: Tensor,
    options: EvaluateDictionary,
    part: str,
) -> Row:
    """Nothing where a side has too few features that are active in several documents."""
    sides = [side(seen[entry.label][usable]) for entry in (one, other)]
    generator = torch.Generator().manual_seed(seed_of(options.seed, part))
    found = consistency(*sides, draws=max(99, options.match_draws), generator=generator)
    if found is None:
        return {}
    kept = {
        name: value
        for name, value in columns(found).items()
        if not name.startswith(("efas", "same")) and not name.endswith("_p")
    }
    return {"dictionary": one.label, "other": other.label, "model": one.model,
            "other_model": other.model, "features": len(sides[0].feature),
            "others": len(sides[1].feature), "mutual": int(found.matches.mutual.sum()),
            **kept}  # fmt: skip


def _aligned(material: Material, options: EvaluateDictionary) -> dict[str, Aligned]:
    """The same passages in each model's tokens; none is from a document that baselines, or the
    short trainings, were fitted on."""
    fitted = frozenset().union(*(read.fit.document_names for read in material.read.values()))
    passages = choose_passages(
        material.corpus, leave_out=fitted, count=options.passages, characters=options.passage,
        generator=torch.Generator().manual_seed(options.seed + 3),
    )  # fmt: skip
    found: dict[str, Aligned] = {}
    for model, read in material.read.items():
        assert read.subject.loaded.tokenizer is not None
        found[model] = read_aligned(passages, read.subject.loaded.tokenizer,
                                    options.context, segment=options.segment)  # fmt: skip
    return found


def _seen(
    entry: Entry,
    material: Material,
    aligned: Aligned,
    passages: Sequence[int],
    ordinary: Mapping[str, Ordinary],
    options: EvaluateDictionary,
) -> Tensor:
    """Mean activation of each feature by stretch of characters, [passage segment feature]."""
    subject = material.read[entry.model].subject
    segments = -(-options.passage // options.segment)
    windows = [aligned[index] for index in passages]
    counts = torch.tensor([len(w.ids) for w in windows])
    row = torch.arange(len(passages)).repeat_interleave(counts)
    segment = torch.cat([w.segment for w in windows])
    cell = torch.where(segment >= 0, row[:, None] * segments + segment, -1)
    dtype = next(subject.module.parameters()).dtype
    here = Bench(entry.seat, entry.dictionary.to(subject.device, dtype), ordinary[entry.label])
    ids = torch.cat([w.ids for w in windows])
    found = mean_by_cell(subject, {entry.label: here}, ids, cell, len(passages) * segments)
    return found[entry.label].view(len(passages), segments, -1)
