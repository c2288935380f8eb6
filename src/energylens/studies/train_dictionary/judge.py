"""How good the dictionaries are on documents that none was trained on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from energylens.activations.batch import Batch
from energylens.activations.stream import batches, rows_per_batch
from energylens.core.ports import Progress
from energylens.energy.energies.downstream import next_token_surprisal
from energylens.features.chance import random_dictionary_like
from energylens.features.dictionary import Dictionary
from energylens.features.evaluate import ReconstructionStats
from energylens.features.ordinary import Ordinary
from energylens.features.stream import Job
from energylens.stats.bootstrap import weighted_means_interval
from energylens.stats.interval import Interval
from energylens.stats.nulls import permute_rows
from energylens.studies.train_dictionary.material import Material

DRAWS = 2_000
_WINDOWS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A dictionary with what judging it takes.

    Attributes:
        mean: Mean of the ordinary rows that it writes, which takes their place in an ablation.
        ordinary: Which rows it was trained to make.
    """

    dictionary: Dictionary
    job: Job
    mean: Tensor
    ordinary: Ordinary

    @property
    def writes(self) -> str:
        """Where its reconstruction belongs."""
        return self.job.target or self.job.site


@torch.no_grad()
def judge(
    trained: Mapping[str, Trained],
    material: Material,
    *,
    memory_mb: float | int,
    generator: torch.Generator,
    progress: Progress,
) -> dict[str, dict[str, Any]]:
    """Measures of every dictionary on the held-out windows, a row each, beside a chance one."""
    subject, held = material.subject, material.held_out
    documents = len(held.document_names)
    at_chance = {name: _chance(one.dictionary, generator) for name, one in trained.items()}
    sums = {
        (name, kind): ReconstructionStats(width=one.dictionary.width, units=documents)
        for name, one in trained.items() for kind in ("trained", "chance")
    }  # fmt: skip
    has_loss = "loss" not in subject.lacks
    losses = {name: torch.zeros(2, documents, dtype=torch.float64) for name in trained}
    clean = torch.zeros(documents, dtype=torch.float64)
    massive = dict.fromkeys(trained, 0)
    size = rows_per_batch(
        subject, held.ids.shape[1], len(material.sites), budget_mb=memory_mb
    )  # fmt: skip
    size = min(size, _WINDOWS_AT_ONCE)
    with progress.task("held-out documents", documents, "documents") as advance:
        for batch in batches(held.ids, held.document, size, device=subject.device):
            with subject.capture(*material.sites, stop=not has_loss) as seen:
                logits = subject.run(batch)
            if has_loss and logits is not None:
                clean[batch.document.cpu()] = _loss(logits, batch)
                del logits
            for name, one in trained.items():
                states, unit = seen[one.job.site], batch.document[:, None].expand_as(batch.ids)
                goal = seen[one.writes]
                inside = one.ordinary.holds(goal.flatten(0, 1)).view(batch.ids.shape)
                massive[name] += int((batch.scored & ~inside).sum())
                places = batch.scored & inside
                rows, target = states[places], goal[places]
                for kind, dictionary in (("trained", one.dictionary), ("chance", at_chance[name])):
                    made = dictionary.reconstruct(rows)
                    sums[name, kind].update(target, dictionary.encode(rows), made, unit[places])
                if has_loss:
                    rebuilt = one.dictionary.reconstruct(rows)
                    for number, put in enumerate((one.mean.expand_as(rebuilt), rebuilt)):
                        changed = goal.clone()
                        changed[places] = put
                        with subject.edit({one.writes: partial(_put, changed)}):
                            loss = _loss(subject.forward(batch), batch)
                        losses[name][number, batch.document.cpu()] = loss
            advance(len(batch.ids))
    return {
        name: _row(one, sums[name, "trained"], sums[name, "chance"], generator, massive[name])
        | _recovered(clean, losses[name], generator, known=has_loss)
        for name, one in trained.items()
    }


def _put(instead: Tensor, value: Tensor) -> Tensor:
    return instead


def _loss(logits: Tensor, batch: Batch) -> Tensor:
    """Mean loss of each window, in nats a token."""
    loss = next_token_surprisal(logits, batch)
    return (loss.sum(1) / batch.has_next.sum(1)).double().cpu()


def _chance(dictionary: Dictionary, generator: torch.Generator) -> Dictionary:
    """Random directions of the same width and k; of a transcoder, its decoder rows dealt out."""
    if dictionary.subtracts_b_dec and dictionary.d_in == dictionary.d_out:
        return random_dictionary_like(dictionary, generator)
    return replace(dictionary, W_dec=permute_rows(dictionary.W_dec, generator))


def _row(
    one: Trained,
    stats: ReconstructionStats,
    chance: ReconstructionStats,
    generator: torch.Generator,
    massive: int,
) -> dict[str, Any]:
    found, null = stats.result(), chance.result()
    fvu = _interval(found.residual, found.total, generator)
    return {
        "fvu": float(fvu.estimate), "fvu_low": float(fvu.low), "fvu_high": float(fvu.high),
        "fvu_null": null.fvu, "l0": found.l0, "dead_share": found.dead_share,
        "dense_share": float((found.density > 0.1).double().mean()),
        "held_out_tokens": int(found.samples.sum()), "held_out_massive": massive,
        "documents": len(found.samples),
    }  # fmt: skip


def _recovered(
    clean: Tensor, losses: Tensor, generator: torch.Generator, *, known: bool
) -> dict[str, Any]:
    ablated, rebuilt = losses
    names = ("loss_recovered", "loss_recovered_low", "loss_recovered_high", "loss_clean",
             "loss_ablated", "loss_reconstructed")  # fmt: skip
    if not known or float((ablated - clean).sum()) <= 0:
        return dict.fromkeys(names, float("nan"))
    share = _interval(ablated - rebuilt, ablated - clean, generator)
    values = (share.estimate, share.low, share.high, clean.mean(), ablated.mean(), rebuilt.mean())
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _interval(sums: Tensor, counts: Tensor, generator: torch.Generator) -> Interval:
    return weighted_means_interval(sums.cpu(), counts.cpu(), draws=DRAWS, generator=generator)
