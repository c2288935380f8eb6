"""Token windows through a model, batch by batch, within a stated memory budget."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.activations.batch import Batch
from energylens.activations.subject import Subject
from energylens.core.errors import NoRoom
from energylens.core.ports import Progress, silence

MEGABYTE = 2**20


def rows_per_batch(
    subject: Subject, context: int, n_sites: int, *, budget_mb: float | int, grad: bool = False
) -> int:
    """How many sequences fit a forward pass (with `grad`, a backward one) in `budget_mb`.

    Counted a token: logits and what the loss keeps of them, captured sites, and with gradients
    some eighteen residual-stream-sized tensors that a block keeps for its backward pass (measured
    on llama shapes, sixteen: hidden activations of the MLP dominate).

    Raises:
        NoRoom: If not even one sequence fits; names the budget that would do.
    """
    loaded = subject.loaded
    d_model, vocab = loaded.d_model or 1, loaded.vocab_size or 1
    kept = n_sites + (18 * loaded.n_layers if grad else 12)
    per_token = 4 * (vocab * (3 if grad else 1) + d_model * kept)
    fits = int(budget_mb * MEGABYTE // (per_token * context))
    if fits < 1:
        needed = per_token * context / MEGABYTE
        raise NoRoom(
            f"one sequence of {context} tokens needs about {needed:.0f} MB for activations and the"
            f" budget is {budget_mb:.0f} MB: raise the memory budget or shorten the context"
        )
    return fits


def batches(
    ids: Int[Tensor, "window pos"],
    document: Int[Tensor, " window"],
    size: int,
    *,
    device: torch.device | str,
) -> Iterator[Batch]:
    """Windows in order, `size` at a time, on a device."""
    for first in range(0, len(ids), size):
        yield Batch.full(ids[first : first + size], document[first : first + size]).to(device)


@torch.no_grad()
def collect_rows(
    subject: Subject,
    ids: Int[Tensor, "window pos"],
    document: Int[Tensor, " window"],
    sites: Sequence[str],
    *,
    budget_mb: float | int,
    progress: Progress = silence,
    label: str = "activations",
) -> dict[str, Float[Tensor, "sample d_model"]]:
    """States at several sites from one pass over the windows, scored positions only.

    The pass ends at the last site, so what lies above it costs nothing. Rows of all sites are in
    the same order: row i of every site is the same token.

    Raises:
        NoRoom: If the rows and one batch do not fit the budget.
    """
    context = ids.shape[1]
    n_rows = len(ids) * max(context - 2, 0)
    width = subject.loaded.d_model or 1
    rows_mb = 4 * n_rows * width * len(sites) / MEGABYTE
    if rows_mb > 0.8 * budget_mb:
        raise NoRoom(
            f"{n_rows:,} rows at {len(sites)} sites take {rows_mb:.0f} MB and the budget is"
            f" {budget_mb:.0f} MB: ask for fewer tokens or sites, or raise the memory budget"
        )
    size = rows_per_batch(subject, context, len(sites), budget_mb=budget_mb - rows_mb)
    kept: dict[str, Tensor] = {}
    filled = 0
    with progress.task(label, len(ids) * context, "tokens") as advance:
        for batch in batches(ids, document, min(size, 8), device=subject.device):
            with subject.capture(*sites, stop=True) as seen:
                subject.run(batch)
            scored = batch.scored
            count = int(scored.sum())
            for site, value in seen.items():
                if site not in kept:
                    kept[site] = value.new_empty(n_rows, value.shape[-1])
                kept[site][filled : filled + count] = value[scored]
            filled += count
            advance(batch.ids.numel())
    return {site: rows[:filled] for site, rows in kept.items()}
