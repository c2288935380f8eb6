"""The one pass over held-out text that serves every site, energy and control.

For each piece of the text: states and exact gradients at all sites from one forward and one
backward pass, the two lens energies, sparse codes, and the sums that alignments are made of. A
piece is saved when it is done, so a killed run loses at most one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.activations.stream import batches, rows_per_batch
from energylens.activations.subject import Subject
from energylens.core.ports import Progress, silence
from energylens.energy.alignment import (
    ActivationSums,
    Alignment,
    ForceSums,
    alignment_with_every_direction,
    energy_feature_alignment,
    join,
)
from energylens.energy.energies.downstream import downstream_gradients
from energylens.energy.precision import EXACT, Precision
from energylens.sources.windows import TokenWindows
from energylens.studies.energy_lens.bench import Bench
from energylens.studies.energy_lens.tally import Lenses, Tally

DOCUMENTS_PER_PIECE = 28


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A share of the held-out windows; no document has windows in two pieces.

    Attributes:
        unit: Which of the piece's documents each window is from, counted from 0.
        document: The same, counted over all held-out documents.
        starts: Where each window starts in its document, in tokens.
    """

    name: str
    ids: Int[Tensor, "window pos"]
    unit: Int[Tensor, " window"]
    document: Int[Tensor, " window"]
    starts: Int[Tensor, " window"]

    @property
    def n_units(self) -> int:
        return int(self.unit.max()) + 1


def pieces_of(windows: TokenWindows, *, model: str, size: int) -> list[Piece]:
    """Pieces of about `size` documents, an even number of them: even and odd are the halves."""
    document, names = windows.document, sorted(set(windows.kinds))
    documents = document.unique()
    count = max(2, 2 * round(len(documents) / size / 2))
    pieces = []
    for number, members in enumerate(torch.tensor_split(documents, count)):
        here = torch.isin(document, members).nonzero()[:, 0]
        unit = torch.searchsorted(members, document[here])
        # Windows of one document apart from each other, those of one kind of text together, so
        # that a neighbour is another document of the same kind: the control that is hardest.
        within = torch.stack([(unit[:i] == u).sum() for i, u in enumerate(unit)])
        kind = torch.tensor([names.index(windows.kinds[d]) for d in document[here].tolist()])
        order = torch.argsort(within * len(names) + kind, stable=True)
        name = f"score.{model}.{number}"
        chosen = here[order]
        pieces.append(Piece(
            name=name, ids=windows.ids[chosen], unit=unit[order], document=document[chosen],
            starts=windows.starts[chosen],
        ))  # fmt: skip
    return pieces


def score_piece(
    subject: Subject,
    benches: Mapping[str, Bench],
    piece: Piece,
    *,
    lens: Lenses = (),
    keep: bool,
    controls: bool = True,
    budget_mb: float | int,
    precision: Precision = EXACT,
    progress: Progress = silence,
) -> dict[str, Tensor]:
    """Sums and, with `keep`, codes, states and gradients of one piece, by `site/quantity`.

    Args:
        lens: Groups of lens energies to score too.
        keep: Whether the piece's features will be shown and intervened on.
        controls: Whether to score permuted decoders, another document and random directions too.
        budget_mb: Memory for one batch's activations.
    """
    tally = Tally(benches, n_units=piece.n_units, keep=keep, controls=controls)
    fit = min(8, rows_per_batch(subject, piece.ids.shape[1], len(benches), budget_mb=budget_mb,
                                grad=True))  # fmt: skip
    rows = -(-len(piece.ids) // -(-len(piece.ids) // fit))  # batches of like size
    with progress.task(piece.name, piece.ids.numel(), "tokens") as advance:
        for batch in batches(piece.ids, piece.unit, rows, device=subject.device):
            with precision.passes(subject.device):
                states, gradients, surprisal = downstream_gradients(subject, batch, list(benches))
            tally.loss(batch, surprisal)
            for site in benches:
                found = tally.site(site, batch, states[site], gradients[site])
                tally.lenses(subject, site, batch, found, lens)
            advance(batch.ids.numel())
    return tally.tensors()


def bytes_kept(benches: Mapping[str, Bench], piece: Piece, *, controls: bool) -> int:
    """About what `score_piece` returns for all sites."""
    return sum(
        bytes_of_piece(bench.dictionary.width, bench.dictionary.d_in, bench.dictionary.k,
                       tokens=piece.ids.numel(), units=piece.n_units, controls=controls)
        for bench in benches.values()
    )  # fmt: skip


def bytes_of_piece(
    width: int, d_model: int, k: int, *, tokens: int, units: int, controls: bool
) -> int:
    """Of one site: sums by unit, cross products, states and gradients."""
    sums = 4 * width * d_model + 3 * 8 * width * units
    return 5 * sums + tokens * (8 * d_model + 8 * k) if controls else sums


@runtime_checkable
class Tensors(Protocol):
    """Tensors by name, in memory or on a disk."""

    def __getitem__(self, key: str, /) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Pieces of one model's pass, read back; pieces of even number are half A, odd are half B."""

    pieces: Sequence[Tensors]

    def alignment(
        self, name: str, directions: Tensor, *, features: str = "", half: int | None = None
    ) -> Alignment:
        """EFAS of one (site, energy or control), over all documents or one half of them."""
        activation, force = self._sums(name, features, half)
        return energy_feature_alignment(activation, force, directions.double().cpu())

    def pairs(
        self, name: str, directions: Tensor, chosen: Tensor, *, features: str = ""
    ) -> Float[Tensor, "chosen chosen"]:
        """EFAS of each chosen feature with the direction of each; the diagonal is their own."""
        activation, force = self._sums(name, features, None)
        own = directions.cpu()[chosen]
        return alignment_with_every_direction(activation, force, own, features=chosen)

    def _sums(self, name: str, features: str, half: int | None) -> tuple[ActivationSums, ForceSums]:
        site = name.split("/")[0]
        chosen = [p for i, p in enumerate(self.pieces) if half is None or i % 2 == half]
        activation = join([_read(ActivationSums, p, features or f"{site}/features")
                           for p in chosen])  # fmt: skip
        return activation, join([_read(ForceSums, p, name) for p in chosen])

    @property
    def half_b(self) -> "Scored":
        """The half of the documents that is shown, and the only one with lens energies."""
        return Scored(pieces=self.pieces[1::2])

    def all(self, name: str) -> Tensor:
        return torch.cat([piece[name] for piece in self.pieces])

    def total(self, name: str) -> Tensor:
        """Sums over all documents."""
        return self.all(name).sum(0)

    def largest(self, site: str, width: int) -> Float[Tensor, " feature"]:
        """Largest activation of each feature in half B, whose codes are kept."""
        strongest = torch.zeros(width)
        for piece in self.pieces[1::2]:
            indices, values = piece[f"{site}/indices"].long(), piece[f"{site}/values"]
            strongest.scatter_reduce_(0, indices.flatten(), values.flatten(), "amax")
        return strongest

    def loss_by_unit(self) -> Float[Tensor, " unit"]:
        """Mean next-token loss of each document, nats per token."""
        means = []
        for piece in self.pieces:
            unit, loss = piece["unit"], piece["loss"][:, :-1].double()
            n = torch.bincount(unit).double()
            means.append(torch.zeros_like(n).index_add(0, unit, loss.mean(1)) / n)
        return torch.cat(means)


SumsKind = TypeVar("SumsKind", ActivationSums, ForceSums)


def _read(kind: type[SumsKind], piece: Tensors, name: str) -> SumsKind:
    return kind(**{field.name: piece[f"{name}/{field.name}"] for field in fields(kind)})
