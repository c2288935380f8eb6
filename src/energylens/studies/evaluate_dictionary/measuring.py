"""One pass over the held-out documents: reconstructions, and what the model makes of them."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import kl_div

from energylens.activations.batch import Batch
from energylens.activations.stream import batches, rows_per_batch
from energylens.activations.subject import Subject
from energylens.activations.suffix import run_from
from energylens.core.ports import Progress
from energylens.energy.energies.downstream import next_token_surprisal
from energylens.features.dictionary import Dictionary
from energylens.features.evaluate import Reconstruction, ReconstructionStats
from energylens.features.layered import Layered
from energylens.features.ordinary import Ordinary
from energylens.features.seat import Seat
from energylens.sources.windows import TokenWindows

ALL, ORDINARY = "all", "ordinary"
MEAN, ZERO, CLEAN = "mean", "zero", "clean"
_WINDOWS_AT_ONCE = 8


class Rules(NamedTuple):
    """Which rows are ordinary, of what is read and of what is written.

    A row that is massive where it is read, and not where it is written, is no row that a transcoder
    was trained on, and what it makes of one can be of any size.
    """

    reads: Ordinary
    writes: Ordinary

    def hold(
        self, rows: Float[Tensor, "sample d_in"], target: Float[Tensor, "sample d_out"]
    ) -> Bool[Tensor, " sample"]:
        """Rows that are ordinary at both ends."""
        inside = self.writes.holds(target)
        return inside if self.reads is self.writes else inside & self.reads.holds(rows)


@torch.no_grad()
def measure_rows(
    subject: Subject,
    windows: TokenWindows,
    seat: Seat,
    dictionaries: Mapping[str, Dictionary | Layered],
    ordinary: Rules,
    *,
    memory_mb: int,
    progress: Progress,
    label: str,
) -> dict[str, dict[str, Reconstruction]]:
    """Sums by document of each dictionary's reconstruction, over all rows and ordinary ones; where
    several sites are written, also at each of them (ordinary rows).

    Args:
        seat: Where dictionaries read, and where they write.
    """
    units = len(windows.document_names)
    several = seat.writes if len(seat.writes) > 1 else ()
    stats = {
        name: {kind: ReconstructionStats(width=d.width, units=units)
               for kind in (ALL, ORDINARY, *several)}
        for name, d in dictionaries.items()
    }  # fmt: skip
    size = rows_per_batch(subject, windows.ids.shape[1], 2, budget_mb=memory_mb / 2)
    with progress.task(label, len(windows.ids), "windows") as advance:
        for batch in batches(windows.ids, windows.document, min(size, _WINDOWS_AT_ONCE),
                             device=subject.device):  # fmt: skip
            with subject.capture(*seat.sites, stop=True) as seen:
                subject.run(batch)
            here = {site: seen[site][batch.scored] for site in seat.sites}
            rows, target = seat.read(here), seat.written(here)
            unit = batch.document[:, None].expand_as(batch.ids)[batch.scored]
            inside = ordinary.hold(rows, target)
            for name, dictionary in dictionaries.items():
                code = dictionary.encode(rows)
                made = dictionary.decode(code)
                if isinstance(dictionary, Dictionary) and dictionary.W_skip is not None:
                    made = made + rows @ dictionary.W_skip.T
                stats[name][ALL].update(target, code, made, unit)
                kept = target[inside], code.of_rows(inside), made[inside], unit[inside]
                stats[name][ORDINARY].update(*kept)
                if several:
                    goals, parts = seat.apart(kept[0]), seat.apart(kept[2])
                    for site in several:
                        stats[name][site].update(goals[site], kept[1], parts[site], kept[3])
            advance(len(batch.ids))
    return {name: {kind: one.result() for kind, one in kinds.items()}
            for name, kinds in stats.items()}  # fmt: skip


@torch.no_grad()
def substitution_losses(
    subject: Subject,
    windows: TokenWindows,
    seat: Seat,
    dictionaries: Mapping[str, Dictionary | Layered],
    ordinary: Rules,
    mean: Float[Tensor, " d_out"],
    *,
    memory_mb: int,
    progress: Progress,
    label: str,
) -> dict[str, Float[Tensor, "quantity window"]]:
    """Loss and KL to the model's own output, summed over each window, with something put in.

    Put in are the mean state, 0, and each dictionary's reconstruction. The first position and
    massive activations keep their own state in all of them: they are no part of what a dictionary
    is trained on, and without them nothing above works. Where several sites are written, all are
    changed at once, with what is made of the model's own states; those of the residual stream by
    turns, and the sums are means over these.

    Returns:
        By what was put in (and `clean` for nothing): loss, KL, and predictions summed over.
    """
    found: dict[str, list[Tensor]] = {}
    size = rows_per_batch(subject, windows.ids.shape[1], 6, budget_mb=memory_mb / 8)
    with progress.task(label, len(windows.ids), "windows") as advance:
        for batch in batches(windows.ids, windows.document, min(size, _WINDOWS_AT_ONCE),
                             device=subject.device):  # fmt: skip
            with subject.capture(*seat.sites) as seen:
                clean = subject.forward(batch).log_softmax(-1)
            states, target = seat.read(seen), seat.written(seen)
            places = ordinary.hold(states.flatten(0, 1), target.flatten(0, 1))
            places = places.view(batch.ids.shape)
            places = places & (batch.positions > 0) & batch.mask
            found.setdefault(CLEAN, []).append(_sums(clean, clean, batch))
            for name, put in _changes(states, target, places, dictionaries, mean):
                apart = seat.apart(put)
                sums = [
                    _sums(clean, _run_with(subject, {s: apart[s] for s in turn}, batch), batch)
                    for turn in seat.turns
                ]
                found.setdefault(name, []).append(torch.stack(sums).mean(0))
            advance(len(batch.ids))
    return {name: torch.cat(parts, dim=1).cpu() for name, parts in found.items()}


def _changes(
    states: Tensor,
    target: Tensor,
    places: Tensor,
    dictionaries: Mapping[str, Dictionary | Layered],
    mean: Tensor,
) -> Iterator[tuple[str, Tensor]]:
    yield MEAN, torch.where(places[..., None], mean, target)
    yield ZERO, torch.where(places[..., None], 0.0, target)
    for name, dictionary in dictionaries.items():
        put = target.clone()
        put[places] = dictionary.reconstruct(states[places])
        yield name, put


def _run_with(subject: Subject, states: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Log-probabilities with the states at some sites replaced; what lies below a residual stream,
    where that is the only one, is not run."""
    (site, *more), one = states, next(iter(states.values()))
    if not more and site.endswith(("resid_post", "resid_pre")) and "suffix" not in subject.lacks:
        return run_from(subject, site, one, batch).log_softmax(-1)
    with subject.edit({name: partial(_put, put) for name, put in states.items()}):
        return subject.forward(batch).log_softmax(-1)


def _put(instead: Tensor, value: Tensor) -> Tensor:
    return instead


def _sums(clean: Tensor, changed: Tensor, batch: Batch) -> Tensor:
    """Loss, KL and number of predictions of each window; both are log-probabilities."""
    loss = next_token_surprisal(changed, batch).sum(1)
    kl = kl_div(changed, clean, reduction="none", log_target=True).sum(-1) * batch.has_next
    return torch.stack([loss, kl.sum(1), batch.has_next.sum(1)]).double()
