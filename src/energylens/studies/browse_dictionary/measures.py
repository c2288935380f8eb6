"""What is worked out of a reading: labels, partners, neighbours, logits; each beside its null."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from energylens.activations.logit_effects import logit_effects
from energylens.core.ports import Progress, Store
from energylens.features.coactivation import firing, strongest_partners, together_of
from energylens.features.nearest import nearest_rows
from energylens.sources.token_classes import TOKEN_CLASSES, token_classes
from energylens.stats.association import expected_together, phi
from energylens.stats.class_areas import (
    best_class,
    dealt_out,
    enough_entries,
    holds,
    ranked_entries,
    turned,
)
from energylens.stats.multiplicity import benjamini_hochberg
from energylens.stats.nulls import random_unit_directions
from energylens.studies.browse_dictionary import BrowseDictionary
from energylens.studies.browse_dictionary.material import Material
from energylens.studies.browse_dictionary.reading import Reading, Sample
from energylens.studies.energy_lens.dictionaries import seed_of

# A first token is no row of a dictionary, and what is left over is no class to be named by.
CLASSES = tuple(name for name in TOKEN_CLASSES if name not in ("start of text", "other"))
LEVEL = 0.05
TOP_LOGITS, NEIGHBOURS, PARTNERS = 10, 6, 6
# A pair of features active on fewer tokens than this has a φ that one token decides.
FEWEST_ACTIVE = 10
RANDOM_DIRECTIONS = 256
LOGIT_ROWS = 256
NULL_QUANTILE = 0.95


def class_names(material: Material) -> list[tuple[str, str]]:
    """Every class with the family it is of: classes of tokens, and kinds of text."""
    kinds = sorted(set(material.windows.kinds))
    return [("token", name) for name in CLASSES] + [("text", kind) for kind in kinds]


def label(
    material: Material,
    reading: Reading,
    options: BrowseDictionary,
    store: Store,
    progress: Progress,
) -> dict[str, Tensor]:
    """The class that each feature tells apart best, where it does so beyond chance.

    Null: classes of tokens turned within each document, kinds of text dealt out among documents.
    """
    if not store.done("labels"):
        sample = reading.sample
        device = sample.row.device
        tokens, kinds, document = (t.to(device) for t in _classes_of(material, sample))
        n_kinds = len(set(material.windows.kinds))
        families = [(tokens, len(CLASSES)), (kinds, n_kinds)]
        entries = ranked_entries(
            sample.feature, sample.row, sample.value,
            width=material.dictionary.width, samples=len(sample.window),
        )  # fmt: skip
        with progress.task("labels", options.draws, "draws") as advance:

            def null(generator: torch.Generator) -> Sequence[Tensor]:
                advance(1)
                return (tokens[turned(document, generator)], dealt_out(kinds, document, generator))

            generator = torch.Generator().manual_seed(seed_of(options.seed, "labels"))
            found = best_class(entries, families, null, draws=options.draws, generator=generator)
        told = enough_entries(entries, document)
        shares = torch.cat([holds(entries, one, n) for one, n in families], dim=1)
        sizes = torch.cat([torch.bincount(one, minlength=n + 1)[:n] for one, n in families])
        best = found.label.clamp(min=0)[:, None]
        # BH holds for p of any resolution; too few draws only make it reject too little.
        store.save("labels", scratch=True, tensors={"labels": {
            "label": found.label, "auroc": found.auroc, "auroc_null": found.null_mean,
            "p": torch.where(told, found.p, torch.nan),
            "q": benjamini_hochberg(torch.where(told, found.p, torch.nan)),
            "null_label": found.drawn_label,
            "null_q": benjamini_hochberg(torch.where(told, found.drawn_p, torch.nan)),
            "share": shares.gather(1, best)[:, 0], "sizes": sizes,
            "samples": torch.tensor([len(sample.window), int(document.unique().numel())]),
        }})  # fmt: skip
    return store.tensors("labels")


def _classes_of(material: Material, sample: Sample) -> tuple[Tensor, Tensor, Tensor]:
    """Class of the token, kind of the text, and document of every row of the sample."""
    windows, words = material.windows, material.words
    kinds = sorted(set(windows.kinds))
    used = sample.window.unique().tolist()
    number_of = {name: number for number, name in enumerate(CLASSES)}
    of_token = torch.zeros(len(windows.ids), windows.ids.shape[1], dtype=torch.long)
    for window in used:
        kind = windows.kinds[int(windows.document[window])]
        told = token_classes([words[i] for i in windows.ids[window].tolist()], kind=kind)
        of_token[window] = torch.tensor([number_of.get(name, len(CLASSES)) for name in told])
    window = sample.window.cpu()
    document = windows.document[window]
    number = torch.tensor([kinds.index(kind) for kind in windows.kinds])
    return of_token[window, sample.position.cpu()], number[document], document


def pairs(
    material: Material, reading: Reading, options: BrowseDictionary, store: Store
) -> dict[str, Tensor]:
    """The features that are active on the same tokens, by φ.

    Null: the same, with all other features' tokens turned within each document.
    """
    if not store.done("pairs"):
        sample, width = reading.sample, material.dictionary.width
        n = len(sample.window)
        document = material.windows.document.to(sample.window.device)[sample.window]
        generator = torch.Generator().manual_seed(seed_of(options.seed, "pairs"))
        there = firing(sample.feature, sample.row, width=width, samples=n)
        source = turned(document, generator)
        elsewhere = firing(sample.feature, source[sample.row], width=width, samples=n)
        found = strongest_partners(there, there, phi, partners=PARTNERS, least=FEWEST_ACTIVE)
        chance = strongest_partners(there, elsewhere, phi, partners=1, least=FEWEST_ACTIVE)
        counts = there.counts
        other = counts[found.feature.clamp(min=0)]
        store.save("pairs", scratch=True, tensors={"pairs": {
            "feature": found.feature, "together": found.together, "phi": found.score,
            "expected": expected_together(counts[:, None], other, n),
            "turned": together_of(there, elsewhere, found.feature),
            "phi_null": chance.score[:, 0],
        }})  # fmt: skip
    return store.tensors("pairs")


@torch.no_grad()
def directions(
    material: Material,
    reading: Reading,
    options: BrowseDictionary,
    store: Store,
    progress: Progress,
) -> dict[str, Tensor]:
    """Nearest decoder rows, and the tokens whose logits each row raises and lowers.

    Null: random directions, among as many random directions.
    """
    if not store.done("directions"):
        rows = material.placed.directions
        generator = torch.Generator().manual_seed(seed_of(options.seed, "directions"))
        random = random_unit_directions(len(rows), rows.shape[1], generator, like=rows)
        near = nearest_rows(rows, NEIGHBOURS)
        among = random[:RANDOM_DIRECTIONS] @ random.T
        among[torch.arange(len(among)), torch.arange(len(among))] = -2.0
        found = {
            "norm": torch.linalg.vector_norm(rows, dim=1), "near": near.feature,
            "cosine": near.cosine, "cosine_null": among.amax(1),
            "site_norms": material.placed.site_norms, "stream_norm": near.cosine.new_full(
                (len(rows),), torch.nan),
        }  # fmt: skip
        if reading.mean_state is not None:
            found |= _logits(material, reading.mean_state, generator, progress)
        store.save("directions", scratch=True, tensors={"directions": found})
    return store.tensors("directions")


def _logits(
    material: Material, state: Tensor, generator: torch.Generator, progress: Progress
) -> dict[str, Tensor]:
    rows, subject = material.placed.to_stream, material.subject
    random = random_unit_directions(RANDOM_DIRECTIONS, rows.shape[1], generator, like=rows)
    kept: dict[str, list[Tensor]] = {name: [] for name in ("up", "up_at", "down", "down_at")}
    with progress.task("logits", len(rows), "features") as advance:
        for some in rows.split(LOGIT_ROWS):
            effect = logit_effects(subject, state, some)
            most = min(TOP_LOGITS, effect.shape[1])
            up, down = effect.topk(most), effect.topk(most, largest=False)
            for name, value in (("up", up.values), ("up_at", up.indices),
                                ("down", down.values), ("down_at", down.indices)):  # fmt: skip
                kept[name].append(value)
            advance(len(some))
    chance = logit_effects(subject, state, random)
    return {name: torch.cat(parts) for name, parts in kept.items()} | {
        "up_null": chance.amax(1), "stream_norm": torch.linalg.vector_norm(rows, dim=1),
    }  # fmt: skip


def record(
    material: Material,
    reading: Reading,
    labels: dict[str, Tensor],
    together: dict[str, Tensor],
    found: dict[str, Tensor],
) -> dict[str, Any]:
    """The dictionary as a whole, in one row."""
    seen = reading.seen
    dictionary = material.dictionary

    def quantile(values: Tensor | None) -> float:
        known = values[values.isfinite()] if values is not None else None
        return float(known.quantile(NULL_QUANTILE)) if known is not None and len(known) else (
            float("nan"))  # fmt: skip

    tested = labels["q"].isfinite()
    above = together["phi"][:, 0] > together["phi_null"].nan_to_num(0.0)
    return {
        "site": material.placed.site, "target": material.placed.target,
        "kind": material.placed.kind, "architecture": dictionary.architecture, "k": dictionary.k,
        "width": dictionary.width, "d_in": dictionary.d_in, "tokens": seen.tokens,
        "documents": len(material.windows.document_names), "windows": len(material.windows.ids),
        "sample_tokens": int(labels["samples"][0]), "sample_documents": int(labels["samples"][1]),
        "l0": float(seen.active.sum()) / seen.tokens, "dead": int((seen.active == 0).sum()),
        "first_rows": reading.first["rows"], "fvu": reading.first["fvu"],
        "fvu_random": reading.first["fvu_random"], "tested": int(tested.sum()),
        "labelled": int((labels["q"] <= LEVEL).sum()),
        "labelled_null": int((labels["null_q"] <= LEVEL).sum()),
        "paired": int(together["phi"][:, 0].isfinite().sum()),
        "paired_above": int(above.sum()),
        "phi_null": quantile(together["phi_null"]), "cosine_null": quantile(found["cosine_null"]),
        "logit_null": quantile(found.get("up_null")),
    }  # fmt: skip
