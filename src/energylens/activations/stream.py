"""Token windows through a model, batch by batch, within a stated memory budget."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from energylens.activations.batch import Batch
from energylens.activations.subject import Subject
from energylens.core.errors import BadInput, InsufficientData, NoRoom
from energylens.core.ports import Progress, silence
from energylens.sources.windows import TokenWindows

MEGABYTE = 2**20
# More windows a pass bring nothing on a CPU, and fewer waste little of a GPU.
_WINDOWS_AT_ONCE = 8


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
    size = min(size, _WINDOWS_AT_ONCE)
    kept: dict[str, Tensor] = {}
    filled = 0
    with progress.task(label, len(ids) * context, "tokens") as advance:
        for batch in batches(ids, document, size, device=subject.device):
            found = scored_rows(subject, batch, sites)
            for site, rows in found.items():
                if site not in kept:
                    kept[site] = rows.new_empty(n_rows, rows.shape[-1])
                kept[site][filled : filled + len(rows)] = rows
            filled += len(rows)
            advance(batch.ids.numel())
    return {site: rows[:filled] for site, rows in kept.items()}


@torch.no_grad()
def scored_rows(
    subject: Subject,
    batch: Batch,
    sites: Sequence[str],
    *,
    without: Int[Tensor, " special"] | None = None,
) -> dict[str, Float[Tensor, "sample d_model"]]:
    """States at scored positions of one pass, which ends at the last site.

    Args:
        without: Token ids whose positions are left out too.
    """
    with subject.capture(*sites, stop=True) as seen:
        subject.run(batch)
    keep = scored_places(batch, without=without)
    return {site: value[keep] for site, value in seen.items()}


def scored_places(
    batch: Batch, *, without: Int[Tensor, " special"] | None = None
) -> Bool[Tensor, "batch pos"]:
    """Which places give the rows of `scored_rows`, in their order."""
    if without is None or not len(without):
        return batch.scored
    return batch.scored & ~torch.isin(batch.ids, without.to(batch.ids.device))


class ModelRows:
    """States of a model on a stream of windows, in blocks of one pass: a `buffer.RowSource`.

    Only positions that `Batch.scored` names give rows, and of these none that holds a special
    token. The order is that of the text.

    Args:
        windows: Called whenever the stream is to begin again; every call must give the same
            windows, or nothing that is resumed is what it was.
        sites: Places whose states are wanted; a wildcard names several.
        budget_mb: For the activations of a pass.
        dtype: Of the rows; None: as the model computes them.

    Raises:
        NoRoom: If the pass of one window does not fit the budget.
        InsufficientData: If there is no window.
        BadInput: If the dtype is not one of floating-point numbers.
    """

    total: int | None = None

    def __init__(
        self,
        subject: Subject,
        windows: Callable[[], Iterable[TokenWindows]],
        sites: Sequence[str],
        *,
        budget_mb: float | int,
        dtype: torch.dtype | None = None,
    ) -> None:
        if dtype is not None and not dtype.is_floating_point:
            raise BadInput(f"rows of {dtype} were asked for: name a floating-point type")
        self.subject, self._windows, self._dtype = subject, windows, dtype
        self.sites = tuple(dict.fromkeys(name for site in sites for name in subject.expand(site)))
        first = next(iter(windows()), None)
        if first is None:
            raise InsufficientData("no window of tokens was given: give text, or more of it")
        self.context = first.ids.shape[1]
        fits = rows_per_batch(subject, self.context, len(self.sites), budget_mb=budget_mb)
        self.windows_per_pass = min(fits, _WINDOWS_AT_ONCE)
        self.largest = self.windows_per_pass * max(self.context - 2, 0)
        self._special = torch.tensor(sorted(subject.loaded.special_ids), dtype=torch.long)
        trial = Batch.full(first.ids[:1]).to(subject.device)
        self.layout = {site: rows[:0].clone() for site, rows in self.rows(trial).items()}

    def passes(self) -> Iterator[Batch]:
        """All windows in order, as many at a time as a pass takes."""
        ids = torch.empty(0, self.context, dtype=torch.long)
        document = torch.empty(0, dtype=torch.long)
        documents, size = 0, self.windows_per_pass
        for windows in self._windows():
            if windows.ids.shape[1] != self.context:
                raise BadInput(
                    f"windows of {windows.ids.shape[1]} tokens came after windows of"
                    f" {self.context}: give windows of one length"
                )
            ids = torch.cat([ids, windows.ids])
            document = torch.cat([document, windows.document + documents])
            documents += len(windows.document_names)
            whole = len(ids) - len(ids) % size
            yield from batches(ids[:whole], document[:whole], size, device=self.subject.device)
            ids, document = ids[whole:], document[whole:]
        yield from batches(ids, document, size, device=self.subject.device)

    def rows(self, batch: Batch) -> dict[str, Float[Tensor, "sample width"]]:
        """The rows of one pass."""
        found = scored_rows(self.subject, batch, self.sites, without=self._special)
        return {site: found[site].to(self._dtype or found[site].dtype) for site in self.sites}

    def blocks(self, seed: int, first: int) -> Iterator[Mapping[str, Tensor]]:
        """Rows pass by pass, from pass `first` on; the passes before it are not computed."""
        return map(self.rows, islice(self.passes(), first, None))
