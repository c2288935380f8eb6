"""Dictionaries at every site, from one pass over the training text."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.activations.batch import Batch
from energylens.activations.stream import collect_rows
from energylens.activations.subject import Subject
from energylens.activations.suffix import run_from
from energylens.core.ports import Progress, Store
from energylens.energy.energies.downstream import next_token_surprisal
from energylens.features.dictionary import Dictionary
from energylens.features.formats.saelens import from_tensors, tensors
from energylens.features.train import TrainOptions, train
from energylens.stats.nulls import (
    permute_rows,
    random_unit_directions,
    thresholds_matched_in_rate,
)
from energylens.studies.energy_lens.scoring import Bench, RandomDirections

RANDOM_DIRECTIONS = 1024
# Rows whose projections set the random directions' thresholds: enough for rates of one in a thousand.
THRESHOLD_ROWS = 16_384


def train_sites(
    subject: Subject,
    sites: Sequence[str],
    ids: Int[Tensor, "window pos"],
    document: Int[Tensor, " window"],
    options: TrainOptions,
    store: Store,
    *,
    model: str,
    seed: int,
    budget_mb: float,
    progress: Progress,
) -> dict[str, Bench]:
    """One trained dictionary a site, with the controls it will be scored beside.

    The model is run once for all sites that still miss a dictionary; each dictionary is saved when
    it is done.
    """
    missing = [site for site in sites if not store.done(_part(model, site))]
    if missing:
        rows = collect_rows(subject, ids, document, missing, budget_mb=budget_mb,
                            progress=progress, label=f"activations of the {model} model")  # fmt: skip
        for site in missing:
            _train_one(rows.pop(site), site, options, store, model=model, seed=seed,
                       progress=progress)  # fmt: skip
    return {site: _bench(store, _part(model, site)) for site in sites}


def _part(model: str, site: str) -> str:
    return f"dictionary.{model}.{site}"


def _train_one(
    rows: Float[Tensor, "sample d_model"],
    site: str,
    options: TrainOptions,
    store: Store,
    *,
    model: str,
    seed: int,
    progress: Progress,
) -> None:
    generator = torch.Generator().manual_seed(_seed(seed, model, site))
    dictionary, record = train(
        rows, options, generator, progress=progress, label=f"dictionary {site} ({model})"
    )
    counts = torch.zeros(dictionary.width, dtype=torch.long)
    for some in rows.split(4096):
        counts += dictionary.encode(some).column_counts().cpu()
    rate = counts / len(rows)
    random = random_unit_directions(RANDOM_DIRECTIONS, rows.shape[1], generator, like=rows)
    firing = rate[rate > 0]
    matched = firing[torch.randint(len(firing), (RANDOM_DIRECTIONS,), generator=generator)]
    some = rows[torch.randperm(len(rows), generator=generator)[:THRESHOLD_ROWS]]
    store.save(
        _part(model, site),
        tensors={_part(model, site): {
            **tensors(dictionary),
            "permuted": permute_rows(dictionary.W_dec, generator),
            "random_rows": random,
            "random_thresholds": thresholds_matched_in_rate(some @ random.T, matched),
            "mean_state": rows.mean(0),
        }},
        records={_part(model, site): {
            "steps": record.steps, "tokens": record.tokens, "seconds": record.seconds,
            "k": dictionary.k, "dead_share_training": float((rate == 0).float().mean()),
        }},
    )  # fmt: skip


def _seed(seed: int, *names: str) -> int:
    """One seed a part, so that a part is the same whichever parts were redone before it."""
    from hashlib import sha256

    return int.from_bytes(sha256(f"{seed}/{'/'.join(names)}".encode()).digest()[:6], "big")


def _bench(store: Store, part: str) -> Bench:
    kept, k = store.tensors(part), store.record(part)["k"]
    return Bench(
        dictionary=from_tensors(kept, k=k),
        permuted=kept["permuted"],
        random=RandomDirections(rows=kept["random_rows"], thresholds=kept["random_thresholds"]),
        mean_state=kept["mean_state"],
    )


@torch.no_grad()
def substitution_losses(
    subject: Subject, site: str, bench: Bench, batch: Batch, states: Float[Tensor, "batch pos d"]
) -> Float[Tensor, "kind batch"]:
    """Loss of each window as it is, with the site's mean state, and with reconstructions put in.

    The first position keeps its own state in all three: its massive activation is no part of what
    a dictionary is trained on, and without it nothing above works.
    """
    places = batch.mask & (batch.positions > 0)
    ablated = torch.where(places[..., None], bench.mean_state, states)
    rebuilt = states.clone()
    rebuilt[places] = bench.dictionary.reconstruct(states[places])
    losses = [
        next_token_surprisal(run_from(subject, site, put, batch), batch).sum(1)
        / batch.has_next.sum(1)
        for put in (states, ablated, rebuilt)
    ]
    return torch.stack(losses)
