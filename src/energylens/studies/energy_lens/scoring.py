"""The one pass over held-out text that serves every site, energy and control.

For each piece of the text: states and exact gradients at all sites from one forward and one
backward pass, the two lens energies, sparse codes, and the sums that alignments are made of. A
piece is saved when it is done, so a killed run loses at most one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from energylens.activations.batch import Batch
from energylens.activations.stream import batches, rows_per_batch
from energylens.activations.subject import Subject
from energylens.core.ports import Progress, silence
from energylens.energy.alignment import (
    ActivationSums,
    Alignment,
    ForceSums,
    active_forces,
    alignment_with_every_direction,
    energy_feature_alignment,
    join,
)
from energylens.energy.energies.downstream import downstream_gradients
from energylens.energy.lens_gradients import LensEnergies, lens_energies
from energylens.features.code import SparseCode
from energylens.features.dictionary import Dictionary
from energylens.sources.windows import TokenWindows

HEADLINE = "downstream"
LENS = ("surprisal", "free_energy")
PERMUTED = "permuted decoder"
OTHER = "activations of another document"
RANDOM = "matched random directions"


@dataclass(frozen=True, kw_only=True)
class RandomDirections:
    """Unit directions that fire as often as the dictionary's features do.

    Attributes:
        rows: Unit directions, encoder and decoder at once.
        thresholds: Projection above which a direction counts as active.
    """

    rows: Float[Tensor, "direction d_model"]
    thresholds: Float[Tensor, " direction"]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What one site is scored with.

    Attributes:
        permuted: Decoder rows dealt out among the features, none to its own.
        mean_state: Mean of the training rows.
        center: Median of the training rows; states farther than `radius` from it are massive
            activations, which no statistic counts.
    """

    dictionary: Dictionary
    permuted: Float[Tensor, "feature d_model"]
    random: RandomDirections
    mean_state: Float[Tensor, " d_model"]
    center: Float[Tensor, " d_model"]
    radius: float

    def ordinary(self, rows: Float[Tensor, "sample d_model"]) -> Bool[Tensor, " sample"]:
        """Rows that are no massive activations, by the rule the dictionary was trained under."""
        return (rows - self.center).norm(dim=1) <= self.radius


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
    document = windows.document
    documents = document.unique()
    count = max(2, 2 * round(len(documents) / size / 2))
    pieces = []
    for number, members in enumerate(torch.tensor_split(documents, count)):
        here = torch.isin(document, members).nonzero()[:, 0]
        unit = torch.searchsorted(members, document[here])
        # Windows of one document apart from each other, so that neighbours are of two documents.
        within = torch.stack([(unit[:i] == u).sum() for i, u in enumerate(unit)])
        order = torch.argsort(within, stable=True)
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
    lens: bool,
    keep: bool,
    budget_mb: float | int,
    progress: Progress = silence,
) -> dict[str, Tensor]:
    """Sums and, with `keep`, codes, states and gradients of one piece, by `site/quantity`.

    Args:
        lens: Whether to score the two lens energies too.
        keep: Whether the piece's features will be shown and intervened on.
        budget_mb: Memory for one batch's activations.
    """
    tally = _Tally(benches, n_units=piece.n_units, lens=lens, keep=keep)
    rows = min(8, rows_per_batch(subject, piece.ids.shape[1], len(benches), budget_mb=budget_mb,
                                 grad=True))  # fmt: skip
    device = str(next(subject.module.parameters()).device)
    with progress.task(piece.name, piece.ids.numel(), "tokens") as advance:
        for batch in batches(piece.ids, piece.unit, rows, device=device):
            states, gradients, surprisal = downstream_gradients(subject, batch, list(benches))
            tally.loss(batch, surprisal)
            for site in benches:
                tally.site(subject, site, batch, states[site], gradients[site])
            advance(batch.ids.numel())
    return tally.tensors()


class _Tally:
    """Running sums of one piece, by site; units are the piece's documents."""

    def __init__(
        self, benches: Mapping[str, Bench], *, n_units: int, lens: bool, keep: bool
    ) -> None:
        self.benches, self.n_units, self.lens, self.keep = benches, n_units, lens, keep
        self.sums: dict[str, ActivationSums | ForceSums] = {}
        self.lists: dict[str, list[Tensor]] = {}

    def loss(self, batch: Batch, surprisal: Tensor) -> None:
        self._append("loss", surprisal)
        self._append("unit", batch.document)

    def site(
        self, subject: Subject, site: str, batch: Batch, states: Tensor, gradients: Tensor
    ) -> None:
        bench, scored = self.benches[site], batch.scored
        unit = batch.document[:, None].expand_as(scored)[scored]
        everything = states[scored]
        ordinary = bench.ordinary(everything)
        code = bench.dictionary.encode(everything)
        self._keep(site, code.indices, code.values * ordinary[:, None], ordinary, states, gradients)
        scored = scored.masked_scatter(scored, ordinary)
        rows, gradient, unit = everything[ordinary], gradients[scored], unit[ordinary]
        code = SparseCode(indices=code.indices[ordinary], values=code.values[ordinary],
                          width=code.width)  # fmt: skip
        self._reconstruction(site, bench.dictionary, rows, code, unit)
        self._activation(f"{site}/features", code.indices, code.values, unit, code.width)
        directions = bench.dictionary.W_dec
        by_energy = {HEADLINE: gradient}
        if self.lens:
            energies = lens_energies(
                rows, batch.next_ids[scored], subject.final_norm, subject.unembed
            )
            by_energy |= {"surprisal": energies.surprisal_gradient,
                          "free_energy": energies.free_energy_gradient}  # fmt: skip
            self._lens_means(site, energies, unit)
        for energy, g in by_energy.items():
            self._force(f"{site}/{energy}", code.indices, code.values, g, directions, unit)
        self._force(f"{site}/{PERMUTED}", code.indices, code.values, gradient, bench.permuted, unit)
        self._other_document(
            site, batch, scored, code.indices, code.values, gradients, directions, unit
        )
        self._random_directions(site, bench.random, rows, gradient, unit)
        self._append(f"{site}/norms", states.norm(dim=-1))

    def _keep(
        self,
        site: str,
        indices: Tensor,
        values: Tensor,
        ordinary: Tensor,
        states: Tensor,
        gradients: Tensor,
    ) -> None:
        self._append(f"{site}/massive", ~ordinary)
        if self.keep:
            self._append(f"{site}/indices", indices.int())
            self._append(f"{site}/values", values)
            self._append(f"{site}/states", states)
            self._append(f"{site}/gradients", gradients)

    def _activation(
        self, name: str, indices: Tensor, values: Tensor, unit: Tensor, width: int
    ) -> None:
        if name not in self.sums:
            self.sums[name] = ActivationSums.zeros(
                width=width, n_units=self.n_units, device=values.device
            )
        sums = self.sums[name]
        assert isinstance(sums, ActivationSums)
        sums.add_(indices, values, unit)

    def _force(
        self,
        name: str,
        indices: Tensor,
        values: Tensor,
        gradient: Tensor,
        directions: Tensor,
        unit: Tensor,
        force: Tensor | None = None,
    ) -> None:
        if name not in self.sums:
            self.sums[name] = ForceSums.zeros(
                width=len(directions), d_model=gradient.shape[1], n_units=self.n_units,
                device=gradient.device,
            )  # fmt: skip
        if force is None:
            force = active_forces(indices, gradient, directions)
        sums = self.sums[name]
        assert isinstance(sums, ForceSums)
        sums.add_(indices, values, gradient, force, unit)

    def _other_document(
        self,
        site: str,
        batch: Batch,
        scored: Tensor,
        indices: Tensor,
        values: Tensor,
        gradients: Tensor,
        directions: Tensor,
        unit: Tensor,
    ) -> None:
        """Each window's activations beside the next window's gradients: nothing to be found.

        Positions stay what they are; a neighbour from the same document is left out.
        """
        name = f"{site}/{OTHER}"
        foreign = gradients.roll(-1, dims=0)[scored]
        apart = (batch.document.roll(-1) != batch.document)[:, None].expand_as(scored)[scored]
        indices, values, unit = indices[apart], values[apart], unit[apart]
        self._activation(f"{name}/features", indices, values, unit, len(directions))
        self._force(name, indices, values, foreign[apart], directions, unit)

    def _random_directions(
        self, site: str, random: RandomDirections, rows: Tensor, gradient: Tensor, unit: Tensor
    ) -> None:
        values = (rows @ random.rows.T - random.thresholds).relu_()
        every = torch.arange(len(random.rows), device=rows.device).expand(len(rows), -1)
        name = f"{site}/{RANDOM}"
        self._activation(f"{name}/features", every, values, unit, len(random.rows))
        force = -(gradient @ random.rows.T)
        self._force(name, every, values, gradient, random.rows, unit, force)

    def _reconstruction(
        self, site: str, dictionary: Dictionary, rows: Tensor, code: SparseCode, unit: Tensor
    ) -> None:
        residual = (rows - dictionary.decode(code)).double().square().sum(1)
        wide = rows.double()
        self._add(f"{site}/residual", residual, unit)
        self._add(f"{site}/square", wide.square().sum(1), unit)
        self._add(f"{site}/sum", wide, unit)

    def _lens_means(self, site: str, energies: LensEnergies, unit: Tensor) -> None:
        self._add(f"{site}/mean/surprisal", energies.surprisal.double(), unit)
        self._add(f"{site}/mean/free_energy", energies.free_energy.double(), unit)

    def _add(self, name: str, values: Tensor, unit: Tensor) -> None:
        if name not in self.lists:
            self.lists[name] = [values.new_zeros(self.n_units, *values.shape[1:])]
        self.lists[name][0].index_add_(0, unit, values)

    def _append(self, name: str, values: Tensor) -> None:
        self.lists.setdefault(name, []).append(values)

    def tensors(self) -> dict[str, Tensor]:
        flat = {name: torch.cat(parts).cpu() for name, parts in self.lists.items()}
        for name, sums in self.sums.items():
            flat |= {f"{name}/{field}": value.cpu() for field, value in asdict(sums).items()}
        return flat


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
