"""One pass over the held-out documents: reconstructions, and what the model makes of them."""

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
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
from energylens.features.ordinary import Ordinary
from energylens.sources.windows import TokenWindows

ALL, ORDINARY = "all", "ordinary"
MEAN, ZERO, CLEAN = "mean", "zero", "clean"
_WINDOWS_AT_ONCE = 8


@torch.no_grad()
def measure_rows(
    subject: Subject,
    windows: TokenWindows,
    sites: tuple[str, str],
    dictionaries: Mapping[str, Dictionary],
    ordinary: Ordinary,
    *,
    memory_mb: int,
    progress: Progress,
    label: str,
) -> dict[str, dict[str, Reconstruction]]:
    """Sums by document of each dictionary's reconstruction, over all rows and ordinary ones.

    Args:
        sites: Where dictionaries read, and where they write.
        ordinary: The rule of the target's rows.
    """
    read, write = sites
    units = len(windows.document_names)
    stats = {
        name: {kind: ReconstructionStats(width=d.width, units=units) for kind in (ALL, ORDINARY)}
        for name, d in dictionaries.items()
    }
    size = rows_per_batch(subject, windows.ids.shape[1], 2, budget_mb=memory_mb / 2)
    with progress.task(label, len(windows.ids), "windows") as advance:
        for batch in batches(windows.ids, windows.document, min(size, _WINDOWS_AT_ONCE),
                             device=subject.device):  # fmt: skip
            with subject.capture(*dict.fromkeys(sites), stop=True) as seen:
                subject.run(batch)
            rows, target = seen[read][batch.scored], seen[write][batch.scored]
            unit = batch.document[:, None].expand_as(batch.ids)[batch.scored]
            inside = ordinary.holds(target)
            for name, dictionary in dictionaries.items():
                code = dictionary.encode(rows)
                made = dictionary.decode(code)
                if dictionary.W_skip is not None:
                    made = made + rows @ dictionary.W_skip.T
                stats[name][ALL].update(target, code, made, unit)
                stats[name][ORDINARY].update(
                    target[inside], code.of_rows(inside), made[inside], unit[inside]
                )
            advance(len(batch.ids))
    return {name: {kind: one.result() for kind, one in kinds.items()}
            for name, kinds in stats.items()}  # fmt: skip


@torch.no_grad()
def substitution_losses(
    subject: Subject,
    windows: TokenWindows,
    sites: tuple[str, str],
    dictionaries: Mapping[str, Dictionary],
    ordinary: Ordinary,
    mean: Float[Tensor, " d_out"],
    *,
    memory_mb: int,
    progress: Progress,
    label: str,
) -> dict[str, Float[Tensor, "quantity window"]]:
    """Loss and KL to the model's own output, summed over each window, with something put in.

    Put in are the mean state, 0, and each dictionary's reconstruction. The first position and
    massive activations keep their own state in all of them: they are no part of what a dictionary
    is trained on, and without them nothing above works.

    Returns:
        By what was put in (and `clean` for nothing): loss, KL, and predictions summed over.
    """
    read, write = sites
    found: dict[str, list[Tensor]] = {}
    size = rows_per_batch(subject, windows.ids.shape[1], 6, budget_mb=memory_mb / 8)
    with progress.task(label, len(windows.ids), "windows") as advance:
        for batch in batches(windows.ids, windows.document, min(size, _WINDOWS_AT_ONCE),
                             device=subject.device):  # fmt: skip
            with subject.capture(*dict.fromkeys(sites)) as seen:
                clean = subject.forward(batch).log_softmax(-1)
            places = ordinary.holds(seen[write].flatten(0, 1)).view(batch.ids.shape)
            places = places & (batch.positions > 0) & batch.mask
            found.setdefault(CLEAN, []).append(_sums(clean, clean, batch))
            for name, put in _changes(seen[read], seen[write], places, dictionaries, mean):
                logits = _run_with(subject, write, put, batch)
                found.setdefault(name, []).append(_sums(clean, logits.log_softmax(-1), batch))
            advance(len(batch.ids))
    return {name: torch.cat(parts, dim=1).cpu() for name, parts in found.items()}


def _changes(
    states: Tensor,
    target: Tensor,
    places: Tensor,
    dictionaries: Mapping[str, Dictionary],
    mean: Tensor,
) -> Iterator[tuple[str, Tensor]]:
    yield MEAN, torch.where(places[..., None], mean, target)
    yield ZERO, torch.where(places[..., None], 0.0, target)
    for name, dictionary in dictionaries.items():
        put = target.clone()
        put[places] = dictionary.reconstruct(states[places])
        yield name, put


def _run_with(subject: Subject, site: str, states: Tensor, batch: Batch) -> Tensor:
    """Logits with the states at a site replaced; what lies below a residual stream is not run."""
    if site.endswith(("resid_post", "resid_pre")) and "suffix" not in subject.lacks:
        return run_from(subject, site, states, batch)
    with subject.edit({site: lambda value: states}):
        return subject.forward(batch)


def _sums(clean: Tensor, changed: Tensor, batch: Batch) -> Tensor:
    """Loss, KL and number of predictions of each window; both are log-probabilities."""
    loss = next_token_surprisal(changed, batch).sum(1)
    kl = kl_div(changed, clean, reduction="none", log_target=True).sum(-1) * batch.has_next
    return torch.stack([loss, kl.sum(1), batch.has_next.sum(1)]).double()
