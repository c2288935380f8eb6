"""Dictionaries at every site, from one pass over the training text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.activations.stream import collect_rows
from energylens.activations.subject import Subject
from energylens.activations.suffix import run_from
from energylens.core.ports import Progress, Store, silence
from energylens.energy.energies.downstream import next_token_surprisal
from energylens.energy.energies.tuned import Translator
from energylens.energy.translators import TranslatorOptions, fit_translator
from energylens.features.chance import random_dictionary_like
from energylens.features.dictionary import Dictionary
from energylens.features.evaluate import fvu
from energylens.features.formats import saelens
from energylens.features.ordinary import Ordinary
from energylens.features.train import train
from energylens.features.training import TrainOptions
from energylens.stats.nulls import (
    permute_rows,
    random_unit_directions,
    thresholds_matched_in_rate,
)
from energylens.studies.energy_lens.bench import Bench, RandomDirections
from energylens.studies.energy_lens.held import Held
from energylens.studies.energy_lens.parts import file_name, part_of

TRAINED = "trained"
RANDOM_DIRECTIONS = 1024
SUBSTITUTED_WINDOWS = 4
# Rows whose projections set the random directions' thresholds: rates of one in a thousand.
THRESHOLD_ROWS = 16_384
# Least squares leave little; each further step costs three products with the vocabulary.
TRANSLATORS = TranslatorOptions(steps=8)


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
    missing = [site for site in sites if not store.done(bench_part(model, site))]
    if missing:
        store.require_room(len(missing) * _bytes_of_a_bench(subject, options))
        # The tuned lens is trained to the model's own output, which the last block decides.
        last = [f"blocks.{subject.n_layers - 1}.resid_post"] if model == TRAINED else []
        rows = collect_rows(
            subject, ids, document, list(dict.fromkeys([*missing, *last])), budget_mb=budget_mb,
            progress=progress, label=f"activations, {model} model",
        )  # fmt: skip
        final = rows[last[0]] if last else None
        for site in missing:
            here = rows[site] if site in last else rows.pop(site)
            trained = train_bench(
                here, options, torch.Generator().manual_seed(seed_of(seed, model, site)),
                metadata={"hook_name": site, "model_name": subject.loaded.name},
                progress=progress, label=f"dictionary {site} ({model})",
            )  # fmt: skip
            if final is not None:
                generator = torch.Generator().manual_seed(seed_of(seed, "translator", site))
                trained = replace(trained, translator=_translator(
                    subject, site, here, final, trained, generator, progress
                ))  # fmt: skip
            save_bench(trained, store, model, site)
    return {site: bench_of(kept_bench(store, model, site), device=subject.device) for site in sites}


def _translator(
    subject: Subject,
    site: str,
    rows: Float[Tensor, "sample d_model"],
    final: Float[Tensor, "sample d_model"],
    trained: "TrainedBench",
    generator: torch.Generator,
    progress: Progress,
) -> Translator:
    """The tuned lens of a site, from the rows its dictionary was trained on."""
    if rows is final:  # the last block's own output: the lens is the model
        eye = torch.eye(rows.shape[1]).to(rows)
        return Translator(A=eye, b=torch.zeros_like(eye[0]), kl=0.0, kl_untuned=0.0)
    inside = bench_of(trained, device=rows.device).ordinary.holds(rows)
    return fit_translator(
        rows[inside], final[inside], subject.final_norm, subject.unembed, TRANSLATORS,
        generator=generator, progress=progress, label=f"tuned lens {site}",
    )  # fmt: skip


def kept_bench(store: Store, model: str, site: str) -> "TrainedBench":
    """The dictionary of a site as `save_bench` left it."""
    part = bench_part(model, site)
    controls, record = store.tensors(part), store.record(part)
    translator = None
    if "translator_A" in controls:
        translator = Translator(
            A=controls.pop("translator_A"), b=controls.pop("translator_b"),
            kl=record["kl_tuned"], kl_untuned=record["kl_raw"],
        )  # fmt: skip
    return TrainedBench(
        dictionary=saelens.load(store.folder(_folder(model, site))), controls=controls,
        record=record, translator=translator,
    )  # fmt: skip


def bench_part(model: str, site: str) -> str:
    """The part that holds the dictionary of a site."""
    return part_of(f"dictionary.{model}", site)


def _folder(model: str, site: str) -> str:
    folder = file_name(site)
    return f"dictionaries/{folder}" if model == TRAINED else f"dictionaries/{model}/{folder}"


def _bytes_of_a_bench(subject: Subject, options: TrainOptions) -> int:
    """Encoder, decoder and permuted decoder of one site, float32, and a tenth more."""
    return round(1.1 * 4 * 3 * options.width * (subject.loaded.d_model or 1))


def save_bench(trained: "TrainedBench", store: Store, model: str, site: str) -> None:
    """Dictionaries of the trained model are kept as folders that SAELens reads; those of a
    control only until the run is done."""
    part, folder = bench_part(model, site), _folder(model, site)
    written = saelens.files(trained.dictionary)
    tensors, record = dict(trained.controls), dict(trained.record)
    if (lens := trained.translator) is not None:
        tensors |= {"translator_A": lens.A, "translator_b": lens.b}
        record |= {"kl_tuned": lens.kl, "kl_raw": lens.kl_untuned}
    store.save(
        part, tensors={part: tensors}, records={part: record},
        files={f"{folder}/{name}": write for name, write in written.items()},
        scratch=model != TRAINED,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainedBench:
    """A trained dictionary with the controls it will be scored beside, as a store keeps them."""

    dictionary: Dictionary
    controls: Mapping[str, Tensor]
    record: Mapping[str, Any]
    translator: Translator | None = None


def train_bench(
    rows: Float[Tensor, "sample d_model"],
    options: TrainOptions,
    generator: torch.Generator,
    *,
    metadata: Mapping[str, Any] | None = None,
    progress: Progress = silence,
    label: str = "dictionary",
) -> TrainedBench:
    """Train a dictionary and draw the controls it will be scored beside."""
    dictionary, trained = train(rows, options, generator, progress=progress, label=label)
    counts = torch.zeros(dictionary.width, dtype=torch.long)
    for some in rows.split(4096):
        counts += dictionary.encode(some).column_counts().cpu()
    rate = counts / len(rows)
    random = random_unit_directions(RANDOM_DIRECTIONS, rows.shape[1], generator, like=rows)
    firing = rate[rate > 0]
    matched = firing[torch.randint(len(firing), (RANDOM_DIRECTIONS,), generator=generator)]
    ordinary = Ordinary.of(rows, times=options.massive)
    inside = rows[ordinary.holds(rows)]
    some = rows[torch.randperm(len(rows), generator=generator)[:THRESHOLD_ROWS]]
    controls = {
        "permuted": permute_rows(dictionary.W_dec, generator),
        "random_rows": random,
        "random_thresholds": thresholds_matched_in_rate(some @ random.T, matched),
        "mean_state": inside.mean(0),
        "center": ordinary.center,
        "radius": torch.tensor([ordinary.radius], dtype=torch.float64),
    }
    chance = _chance_fvu(dictionary, inside[:4096], generator)
    return TrainedBench(
        dictionary=replace(dictionary, metadata=dict(metadata or {})), controls=controls,
        record={
            "steps": len(trained.loss), "tokens": trained.tokens, "rows": trained.rows,
            "massive_rows": trained.massive_rows, "architecture": dictionary.architecture,
            "k": dictionary.k, "fvu_random": chance,
        },
    )  # fmt: skip


def _chance_fvu(
    dictionary: Dictionary, rows: Float[Tensor, "sample d_model"], generator: torch.Generator
) -> float:
    """FVU of random directions with the same k: what sparsity reconstructs for nothing."""
    chance = random_dictionary_like(dictionary, generator)
    return float(fvu(rows, chance.reconstruct(rows)))


def seed_of(seed: int, *names: str) -> int:
    """One seed a part, so that a part is the same whichever parts were redone before it."""
    from hashlib import sha256

    return int.from_bytes(sha256(f"{seed}/{'/'.join(names)}".encode()).digest()[:6], "big")


def bench_of(trained: TrainedBench, *, device: torch.device | str) -> Bench:
    """What a site is scored with, on the device of the model."""
    kept = {name: tensor.to(device) for name, tensor in trained.controls.items()}
    return Bench(
        dictionary=trained.dictionary.to(device),
        permuted=kept["permuted"],
        random=RandomDirections(rows=kept["random_rows"], thresholds=kept["random_thresholds"]),
        mean_state=kept["mean_state"],
        ordinary=Ordinary(center=kept["center"], radius=float(kept["radius"])),
        translator=trained.translator.to(device) if trained.translator else None,
    )


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
            rows = torch.arange(first, min(first + 4, count), device=here.ids.device)
            batch, states = here.batch.take(rows), here.states[rows]
            ordinary = bench.ordinary.holds(states.flatten(0, 1)).view(batch.ids.shape)
            places = ordinary & (batch.positions > 0)
            ablated = torch.where(places[..., None], bench.mean_state, states)
            rebuilt = states.clone()
            rebuilt[places] = bench.dictionary.reconstruct(states[places])
            changed = [next_token_surprisal(run_from(subject, site, put, batch), batch)
                       for put in (ablated, rebuilt)]  # fmt: skip
            summed = torch.stack([loss.sum(1) for loss in (here.loss[rows], *changed)])
            losses.append(summed / batch.has_next.sum(1))
            advance(len(rows))
    return torch.cat(losses, dim=1)
