"""Dictionaries at every site, from one pass over the training text."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.activations.stream import collect_rows
from energylens.activations.subject import Subject
from energylens.activations.suffix import run_from
from energylens.core.ports import Progress, Store, silence
from energylens.energy.energies.downstream import next_token_surprisal
from energylens.features.chance import random_dictionary_like
from energylens.features.dictionary import Dictionary
from energylens.features.evaluate import fvu
from energylens.features.train import TrainOptions, train
from energylens.stats.nulls import (
    permute_rows,
    random_unit_directions,
    thresholds_matched_in_rate,
)
from energylens.studies.energy_lens.held import Held
from energylens.studies.energy_lens.scoring import Bench, RandomDirections

WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")
RANDOM_DIRECTIONS = 1024
SUBSTITUTED_WINDOWS = 12
# Rows whose projections set the random directions' thresholds: rates of one in a thousand.
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
    budget_mb: float | int,
    progress: Progress,
) -> dict[str, Bench]:
    """One trained dictionary a site, with the controls it will be scored beside.

    The model is run once for all sites that still miss a dictionary; each dictionary is saved when
    it is done.
    """
    missing = [site for site in sites if not store.done(_part(model, site))]
    if missing:
        rows = collect_rows(subject, ids, document, missing, budget_mb=budget_mb,
                            progress=progress, label=f"activations, {model} model")  # fmt: skip
        for site in missing:
            _train_one(rows.pop(site), site, options, store, model=model, seed=seed,
                       progress=progress)  # fmt: skip
    parts = {site: _part(model, site) for site in sites}
    return {site: bench_of(store.tensors(part), store.record(part)) for site, part in parts.items()}


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
    kept, record = train_bench(
        rows, options, generator, progress=progress, label=f"dictionary {site} ({model})"
    )
    part = _part(model, site)
    store.save(part, tensors={part: kept}, records={part: record})


def train_bench(
    rows: Float[Tensor, "sample d_model"],
    options: TrainOptions,
    generator: torch.Generator,
    *,
    progress: Progress = silence,
    label: str = "dictionary",
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train a dictionary and draw the controls it will be scored beside; plain tensors and values,
    to be kept by a store and read by `bench_of`."""
    dictionary, trained = train(rows, options, generator, progress=progress, label=label)
    counts = torch.zeros(dictionary.width, dtype=torch.long)
    for some in rows.split(4096):
        counts += dictionary.encode(some).column_counts().cpu()
    rate = counts / len(rows)
    random = random_unit_directions(RANDOM_DIRECTIONS, rows.shape[1], generator, like=rows)
    firing = rate[rate > 0]
    matched = firing[torch.randint(len(firing), (RANDOM_DIRECTIONS,), generator=generator)]
    center = rows.median(0).values
    distance = (rows - center).norm(dim=1)
    radius = options.massive * distance.median()
    some = rows[torch.randperm(len(rows), generator=generator)[:THRESHOLD_ROWS]]
    kept = {
        **{name: getattr(dictionary, name) for name in WEIGHTS},
        "permuted": permute_rows(dictionary.W_dec, generator),
        "random_rows": random,
        "random_thresholds": thresholds_matched_in_rate(some @ random.T, matched),
        "mean_state": rows[distance <= radius].mean(0),
        "center": center,
        "radius": radius[None],
    }
    chance = _chance_fvu(dictionary, rows[distance <= radius][:4096], generator)
    return kept, {
        "steps": len(trained.loss), "tokens": trained.tokens, "rows": trained.rows,
        "massive_rows": trained.massive_rows, "architecture": dictionary.architecture,
        "k": dictionary.k, "fvu_random": chance,
    }  # fmt: skip


def _chance_fvu(
    dictionary: Dictionary, rows: Float[Tensor, "sample d_model"], generator: torch.Generator
) -> float:
    """FVU of random directions with the same k: what sparsity reconstructs for nothing."""
    chance = random_dictionary_like(dictionary, generator)
    return float(fvu(rows, chance.reconstruct(rows)))


def _seed(seed: int, *names: str) -> int:
    """One seed a part, so that a part is the same whichever parts were redone before it."""
    from hashlib import sha256

    return int.from_bytes(sha256(f"{seed}/{'/'.join(names)}".encode()).digest()[:6], "big")


def bench_of(kept: Mapping[str, Tensor], record: Mapping[str, Any]) -> Bench:
    """A trained dictionary with its controls, from what `train_bench` returned."""
    return Bench(
        dictionary=Dictionary(
            architecture=record["architecture"], k=record["k"],
            W_enc=kept["W_enc"], b_enc=kept["b_enc"], W_dec=kept["W_dec"], b_dec=kept["b_dec"],
        ),
        permuted=kept["permuted"],
        random=RandomDirections(rows=kept["random_rows"], thresholds=kept["random_thresholds"]),
        mean_state=kept["mean_state"],
        center=kept["center"],
        radius=float(kept["radius"]),
    )  # fmt: skip


@torch.no_grad()
def losses_by_window(
    subject: Subject, site: str, bench: Bench, here: Held, *, progress: Progress
) -> Float[Tensor, "kind window"]:
    """Mean loss of some held-out windows: as they are, with the site's mean state put in, and with
    the dictionary's reconstruction put in.

    Massive activations (the first position's above all) keep their own state in all three: they
    are no part of what a dictionary is trained on, and without them nothing above works.
    """
    count = min(SUBSTITUTED_WINDOWS, len(here.ids))
    losses = []
    with progress.task(f"substitution {site}", count, "windows") as advance:
        for first in range(0, count, 4):
            rows = torch.arange(first, min(first + 4, count))
            batch, states = here.batch.take(rows), here.states[rows]
            ordinary = bench.ordinary(states.flatten(0, 1)).view(batch.ids.shape)
            places = ordinary & (batch.positions > 0)
            ablated = torch.where(places[..., None], bench.mean_state, states)
            rebuilt = states.clone()
            rebuilt[places] = bench.dictionary.reconstruct(states[places])
            losses.append(torch.stack([
                next_token_surprisal(run_from(subject, site, put, batch), batch).sum(1)
                / batch.has_next.sum(1)
                for put in (states, ablated, rebuilt)
            ]))  # fmt: skip
            advance(len(rows))
    return torch.cat(losses, dim=1)
