"""How good the dictionaries are on documents that none was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from energylens.activations.batch import Batch
from energylens.activations.stream import batches, rows_per_batch
from energylens.activations.subject import Subject
from energylens.core.ports import Progress
from energylens.energy.energies.downstream import next_token_surprisal
from energylens.features.chance import random_dictionary_like
from energylens.features.code import SparseCode
from energylens.features.course import Sight
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.crosscoder import Crosscoder
from energylens.features.dictionary import Dictionary
from energylens.features.evaluate import Reconstruction, ReconstructionStats
from energylens.features.formats.recognise import Loaded
from energylens.features.frame import unfold
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
    """What was trained, with what judging it takes.

    Attributes:
        made: The dictionary, of one site or of several.
        reads: Which of the rows that it reads are ordinary, side by side if they are of several.
        sight: How the rows that it makes were seen, side by side where they are of several sites.
    """

    made: Loaded
    job: Job
    reads: Ordinary
    sight: Sight

    @property
    def map(self) -> str:
        """From what to what it maps."""
        if isinstance(self.made, Crosscoder):
            return "crosscoder"
        if isinstance(self.made, CrossLayerTranscoder):
            return "cross-layer transcoder"
        skip = "" if self.made.W_skip is None else "skip "
        return f"{skip}transcoder" if self.job.writes else "autoencoder"

    @property
    def makes(self) -> tuple[str, ...]:
        """Where its reconstructions belong."""
        return self.job.writes or self.job.reads

    @property
    def means(self) -> dict[str, Tensor]:
        """Mean of the ordinary rows of each place that it makes, which an ablation puts there."""
        widths = [len(ball.center) for ball in self.sight.ordinary.balls]
        return dict(zip(self.makes, self.sight.frame.center.split(widths), strict=True))


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
    judged = {
        name: _Judged(one=one, chance=_chance(one, generator), documents=documents)
        for name, one in trained.items()
    }
    has_loss = "loss" not in subject.lacks
    clean = torch.zeros(documents, dtype=torch.float64)
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
            for its in judged.values():
                its.see(seen, batch, subject if has_loss else None)
            advance(len(batch.ids))
    return {name: its.rows(clean if has_loss else None, generator) for name, its in judged.items()}


@dataclass(kw_only=True, eq=False)
class _Judged:
    """Sums over held-out documents, of what was trained and of what is there by chance.

    Attributes:
        sums: By place and by which of the two.
        losses: Of each document with the mean of a place put there, and with what is rebuilt.
        massive: Rows left out.
    """

    one: Trained
    chance: Loaded
    documents: int
    sums: dict[tuple[str, str], ReconstructionStats] = field(default_factory=dict)
    losses: dict[str, Tensor] = field(default_factory=dict)
    massive: int = 0

    def see(self, seen: Mapping[str, Tensor], batch: Batch, subject: Subject | None) -> None:
        """Add a batch; without a subject no loss is measured."""
        one, unit = self.one, batch.document[:, None].expand_as(batch.ids)
        goal = torch.cat([seen[site] for site in one.makes], dim=-1)
        inside = one.sight.ordinary.holds(goal.flatten(0, 1))
        if one.job.writes:  # what is made of a massive row is no row that training has seen
            read = torch.cat([seen[site] for site in one.job.reads], dim=-1)
            inside &= one.reads.holds(read.flatten(0, 1))
        inside = inside.view(batch.ids.shape)
        self.massive += int((batch.scored & ~inside).sum())
        places = batch.scored & inside
        rows = {site: seen[site][places] for site in one.job.places}
        for kind, made in (("trained", one.made), ("chance", self.chance)):
            for site, (code, rebuilt) in rebuild(made, one.job, rows).items():
                if (site, kind) not in self.sums:
                    self.sums[site, kind] = ReconstructionStats(
                        width=code.width, units=self.documents
                    )
                self.sums[site, kind].update(rows[site], code, rebuilt, unit[places])
                if subject is not None and kind == "trained":
                    self._put_in(subject, site, seen[site], places, rebuilt, batch)

    def _put_in(
        self,
        subject: Subject,
        site: str,
        states: Tensor,
        places: Tensor,
        rebuilt: Tensor,
        batch: Batch,
    ) -> None:
        """The model's loss with this place changed alone."""
        losses = self.losses.setdefault(site, torch.zeros(2, self.documents, dtype=torch.float64))
        mean = self.one.means[site].to(rebuilt)
        for number, put in enumerate((mean.expand_as(rebuilt), rebuilt)):
            changed = states.clone()
            changed[places] = put
            with subject.edit({site: partial(_put, changed)}):
                losses[number, batch.document.cpu()] = _loss(subject.forward(batch), batch)

    def rows(self, clean: Tensor | None, generator: torch.Generator) -> dict[str, Any]:
        """Measures of all places together and, where there are several, of each."""
        makes = self.one.makes
        apart = makes if len(makes) > 1 else ()
        return {
            "whole": self._row(makes, clean, generator),
            "sites": {site: self._row((site,), clean, generator) for site in apart},
        }

    def _row(
        self, sites: Sequence[str], clean: Tensor | None, generator: torch.Generator
    ) -> dict[str, Any]:
        found, null = (
            [self.sums[site, kind].result() for site in sites] for kind in ("trained", "chance")
        )
        losses = None if clean is None else torch.stack([self.losses[s] for s in sites]).mean(0)
        return {
            **_kept_of(found, null, generator), "held_out_massive": self.massive,
            **_recovered(clean, losses, generator),
        }  # fmt: skip


def rebuild(
    made: Loaded, job: Job, rows: Mapping[str, Tensor]
) -> dict[str, tuple[SparseCode, Tensor]]:
    """The code that each place is made of, and what is made, by the place.

    Args:
        rows: Of each place that the job reads.
    """
    if isinstance(made, Crosscoder):
        code = made.encode({site: rows[site] for site in job.reads})
        return {site: (code, rebuilt) for site, rebuilt in made.decode(code).items()}
    if isinstance(made, CrossLayerTranscoder):
        read = dict(zip(made.layers, job.reads, strict=True))
        codes = made.encode({layer: rows[site] for layer, site in read.items()})
        found = made.decode(codes)
        return {
            site: (codes[layer], found[layer])
            for layer, site in zip(made.layers, job.writes, strict=True)
        }
    (site,) = job.writes or job.reads
    states = rows[job.reads[0]]
    return {site: (made.encode(states), made.reconstruct(states))}


def _put(instead: Tensor, value: Tensor) -> Tensor:
    return instead


def _loss(logits: Tensor, batch: Batch) -> Tensor:
    """Mean loss of each window, in nats a token."""
    loss = next_token_surprisal(logits, batch)
    return (loss.sum(1) / batch.has_next.sum(1)).double().cpu()


def _chance(one: Trained, generator: torch.Generator) -> Loaded:
    """Random directions of the same width and k, drawn where sites count alike if there are
    several; of what writes elsewhere than it reads, its decoder rows dealt out."""
    made = one.made
    if isinstance(made, Crosscoder):
        whole = made.dictionary
        centred = replace(whole, b_dec=torch.zeros_like(whole.b_dec))
        at_random = random_dictionary_like(centred, generator)
        return replace(made, dictionary=unfold(at_random, one.sight.frame))
    if isinstance(made, CrossLayerTranscoder):
        return made.with_parts(tuple(_dealt_out(part, generator) for part in made.parts))
    if made.subtracts_b_dec and made.d_in == made.d_out:
        return random_dictionary_like(made, generator)
    return _dealt_out(made, generator)


def _dealt_out(dictionary: Dictionary, generator: torch.Generator) -> Dictionary:
    return replace(dictionary, W_dec=permute_rows(dictionary.W_dec, generator))


def _kept_of(
    found: Sequence[Reconstruction], null: Sequence[Reconstruction], generator: torch.Generator
) -> dict[str, Any]:
    """How much is kept of one place, or of several that count alike: FVU is the mean of theirs."""
    whole = [float(one.total.sum()) if len(found) > 1 else 1.0 for one in found]
    residual, total = (
        torch.stack([part / share for part, share in zip(parts, whole, strict=True)]).sum(0)
        for parts in ([one.residual for one in found], [one.total for one in found])
    )
    fvu = _interval(residual, total, generator)
    return {
        "fvu": float(fvu.estimate), "fvu_low": float(fvu.low), "fvu_high": float(fvu.high),
        "fvu_null": fmean(one.fvu for one in null), "l0": fmean(one.l0 for one in found),
        "dead_share": fmean(one.dead_share for one in found),
        "dense_share": fmean(one.dense_share for one in found),
        "held_out_tokens": int(found[0].samples.sum()), "documents": len(found[0].samples),
    }  # fmt: skip


def _recovered(
    clean: Tensor | None, losses: Tensor | None, generator: torch.Generator
) -> dict[str, Any]:
    """Of several places, each changed alone: the share of what all of that costs."""
    names = ("loss_recovered", "loss_recovered_low", "loss_recovered_high", "loss_clean",
             "loss_ablated", "loss_reconstructed")  # fmt: skip
    if clean is None or losses is None or float((losses[0] - clean).sum()) <= 0:
        return dict.fromkeys(names, float("nan"))
    ablated, rebuilt = losses
    share = _interval(ablated - rebuilt, ablated - clean, generator)
    values = (share.estimate, share.low, share.high, clean.mean(), ablated.mean(), rebuilt.mean())
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _interval(sums: Tensor, counts: Tensor, generator: torch.Generator) -> Interval:
    return weighted_means_interval(sums.cpu(), counts.cpu(), draws=DRAWS, generator=generator)
