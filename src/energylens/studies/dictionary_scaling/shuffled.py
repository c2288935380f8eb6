"""The null: dictionaries of the same sizes, of states whose coordinates were shuffled."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from energylens.activations.stream import ModelRows
from energylens.core.ports import Progress, Store
from energylens.features.evaluate import ReconstructionStats
from energylens.features.ordinary import Ordinary
from energylens.features.train import train
from energylens.features.training import TrainOptions
from energylens.stats.nulls import permute_columns
from energylens.studies.children import passing
from energylens.studies.dictionary_scaling import DictionaryScaling
from energylens.studies.dictionary_scaling.points import training
from energylens.studies.train_dictionary.material import Material, gather

Row = dict[str, Any]


def shuffled_rows(
    options: DictionaryScaling, store: Store, progress: Progress, say: Callable[[str], None]
) -> list[Row]:
    """FVU of a dictionary of every site, width and k on shuffled states, a row each.

    The states are those of the first seed's least text. Every column is dealt out among the tokens
    by itself: each coordinate keeps its distribution, and no two have anything in common, so there
    are no features to find. Massive activations are left out first, as everywhere; training is as
    of the real ones.
    """
    asked = training(options, options.widths, min(options.tokens), options.seeds[0])
    with passing(store, "states") as begin:
        material = gather(asked, begin, lambda line: None)
    say("training on shuffled states")
    states = [_states(material, options.memory_mb, held_out=held) for held in (False, True)]
    rows: list[Row] = []
    total = len(states[0]) * len(options.widths) * len(options.ks)
    with progress.task("shuffled states", total, "dictionary") as advance:
        for site, learned in states[0].items():
            generator = torch.Generator().manual_seed(options.seeds[0])
            usual = Ordinary.of(learned)
            learned, judged = (
                permute_columns(rows[usual.holds(rows)], generator)
                for rows in (learned, states[1][site])
            )
            for width in options.widths:
                for k in options.ks:
                    part = f"shuffled.{len(rows)}"
                    if not store.done(part):
                        row = _row(learned, judged, width, k, options)
                        store.save(part, records={part: row}, scratch=True)
                    rows.append({
                        "site": site, "width": width, "k": k, "seed": options.seeds[0],
                        **store.record(part),
                    })  # fmt: skip
                    advance(1)
    return rows


def _row(learned: Tensor, judged: Tensor, width: int, k: int, options: DictionaryScaling) -> Row:
    asked = TrainOptions(
        architecture=options.architecture, width=width, k=k, epochs=options.epochs,
        batch=options.batch, lr=options.lr or None,
    )  # fmt: skip
    dictionary, _ = train(learned, asked, torch.Generator().manual_seed(options.seeds[0]))
    found = ReconstructionStats(width=width)
    with torch.no_grad():
        found.update(judged, dictionary.encode(judged), dictionary.reconstruct(judged))
    result = found.result()
    return {"tokens": len(learned), "fvu": result.fvu, "l0": result.l0}


def _states(material: Material, memory_mb: int, *, held_out: bool) -> dict[str, Tensor]:
    """All states of the training text or of the held-out windows, by site, within the memory."""
    windows = (lambda: iter([material.held_out])) if held_out else material.windows
    source = ModelRows(material.subject, windows, material.sites, budget_mb=memory_mb / 4)
    found: dict[str, list[Tensor]] = {site: [] for site in source.sites}
    room = memory_mb * 1e6 / 4
    for batch in source.passes():
        for site, rows in source.rows(batch).items():
            found[site].append(rows)
            room -= rows.numel() * rows.element_size()
        if room < 0:
            break
    return {site: torch.cat(parts) for site, parts in found.items()}
