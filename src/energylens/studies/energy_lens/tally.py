"""Running sums of one piece of text, by site: what every energy and control is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from energylens.activations.batch import Batch
from energylens.activations.images import Places
from energylens.activations.subject import Subject
from energylens.energy.alignment import ActivationSums, ForceSums, active_forces
from energylens.features.code import SparseCode
from energylens.features.dictionary import Dictionary
from energylens.studies.energy_lens.bench import Bench, RandomDirections
from energylens.studies.energy_lens.lens import RAW, TUNED, read_energies

HEADLINE = "downstream"
# The activations on the places where each lens energy is scored.
CODE_OF = {**dict.fromkeys(RAW, "raw lens"), TUNED: "tuned lens"}
PERMUTED = "permuted decoder"
OTHER = "activations of another document"
RANDOM = "matched random directions"

# Lens energies are scored on every so many places: each product with the vocabulary costs as much
# as eight blocks of SmolLM2. The raw lens, shown for comparison, on fewer.
LENS_STRIDE = {**dict.fromkeys(RAW, 8), TUNED: 4}
# Groups of lens energies; what is read through one lens shares its products.
Lenses = Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What of a batch enters the statistics of one site.

    Attributes:
        scored: Which places those are.
        unit: Index of the unit of each.
    """

    scored: Bool[Tensor, "batch pos"]
    rows: Float[Tensor, "sample d_model"]
    code: SparseCode
    unit: Int[Tensor, " sample"]


class Tally:
    """Running sums of one piece, by site; units are the piece's documents, or images."""

    def __init__(
        self,
        benches: Mapping[str, Bench],
        *,
        n_units: int,
        keep: bool,
        controls: bool,
        headline: str = HEADLINE,
    ) -> None:
        self.benches, self.n_units = benches, n_units
        self.keep, self.controls, self.headline = keep, controls, headline
        self.sums: dict[str, ActivationSums | ForceSums] = {}
        self.lists: dict[str, list[Tensor]] = {}

    def loss(self, batch: Batch, surprisal: Tensor) -> None:
        self.append("loss", surprisal)
        self.append("unit", batch.document)

    def site(self, site: str, batch: Batch | Places, states: Tensor, gradients: Tensor) -> Counted:
        """Sums of the headline energy and of its controls; returns what entered them."""
        bench, scored = self.benches[site], batch.scored
        unit = batch.document[:, None].expand_as(scored)[scored]
        everything = states[scored]
        ordinary = bench.ordinary.holds(everything)
        code = bench.dictionary.encode(everything)
        self._keep(site, code.indices, code.values * ordinary[:, None], ordinary, states, gradients)
        scored = scored.masked_scatter(scored, ordinary)
        rows, gradient, unit = everything[ordinary], gradients[scored], unit[ordinary]
        code = code.of_rows(ordinary)
        self._reconstruction(site, bench.dictionary, rows, code, unit)
        self._activation(f"{site}/features", code, unit)
        directions = bench.dictionary.W_dec
        self._force(f"{site}/{self.headline}", code, gradient, directions, unit)
        self.append(f"{site}/norms", states.norm(dim=-1))
        if self.controls:
            self._force(f"{site}/{PERMUTED}", code, gradient, bench.permuted, unit)
            self._other_document(site, batch, scored, code, gradients, directions, unit)
            self._random_directions(site, bench.random, rows, gradient, unit)
        return Counted(scored=scored, rows=rows, code=code, unit=unit)

    def energy(self, site: str, name: str, found: Counted, gradients: Tensor) -> None:
        """Sums of one more energy on the same places."""
        directions = self.benches[site].dictionary.W_dec
        gradient = gradients[found.scored]
        self._force(f"{site}/{name}", found.code, gradient, directions, found.unit)

    def lenses(
        self, subject: Subject, site: str, batch: Batch, found: Counted, lens: Lenses
    ) -> None:
        """Sums of the energies that are read through a lens."""
        for names in lens:
            some = batch.positions[found.scored] % LENS_STRIDE[names[0]] == 1
            next_ids = batch.next_ids[found.scored][some]
            self._lens(subject, site, names, found.rows[some], next_ids,
                       found.code.of_rows(some), found.unit[some])  # fmt: skip

    def _keep(
        self,
        site: str,
        indices: Tensor,
        values: Tensor,
        ordinary: Tensor,
        states: Tensor,
        gradients: Tensor,
    ) -> None:
        self.append(f"{site}/massive", ~ordinary)
        if self.keep:
            self.append(f"{site}/indices", indices.int())
            self.append(f"{site}/values", values)
            self.append(f"{site}/states", states)
            self.append(f"{site}/gradients", gradients)

    def _activation(self, name: str, code: SparseCode, unit: Tensor) -> None:
        sums = self._activation_sums(name, code.width, code.values)
        sums.add_(code.indices, code.values, unit)

    def _activation_sums(self, name: str, width: int, like: Tensor) -> ActivationSums:
        if name not in self.sums:
            self.sums[name] = ActivationSums.zeros(
                width=width, n_units=self.n_units, device=like.device
            )
        sums = self.sums[name]
        assert isinstance(sums, ActivationSums)
        return sums

    def _force_sums(self, name: str, width: int, gradient: Tensor) -> ForceSums:
        if name not in self.sums:
            self.sums[name] = ForceSums.zeros(
                width=width, d_model=gradient.shape[1], n_units=self.n_units,
                device=gradient.device,
            )  # fmt: skip
        sums = self.sums[name]
        assert isinstance(sums, ForceSums)
        return sums

    def _force(
        self, name: str, code: SparseCode, gradient: Tensor, directions: Tensor, unit: Tensor
    ) -> None:
        force = active_forces(code.indices, gradient, directions)
        self._force_sums(name, len(directions), gradient).add_(
            code.indices, code.values, gradient, force, unit
        )

    def _other_document(
        self,
        site: str,
        batch: Batch | Places,
        scored: Tensor,
        code: SparseCode,
        gradients: Tensor,
        directions: Tensor,
        unit: Tensor,
    ) -> None:
        """Each window's activations beside the next window's gradients: nothing to be found.

        The next window is another document, and of the same kind of text where there is one.

        Positions stay what they are; a neighbour from the same document is left out.
        """
        name = f"{site}/{OTHER}"
        foreign = gradients.roll(-1, dims=0)[scored]
        apart = (batch.document.roll(-1) != batch.document)[:, None].expand_as(scored)[scored]
        code = code.of_rows(apart)
        self._activation(f"{name}/features", code, unit[apart])
        self._force(name, code, foreign[apart], directions, unit[apart])

    def _random_directions(
        self, site: str, random: RandomDirections, rows: Tensor, gradient: Tensor, unit: Tensor
    ) -> None:
        values = (rows @ random.rows.T - random.thresholds).relu_()
        name, width = f"{site}/{RANDOM}", len(random.rows)
        self._activation_sums(f"{name}/features", width, rows).add_dense_(values, unit)
        force = -(gradient @ random.rows.T)
        self._force_sums(name, width, gradient).add_dense_(values, gradient, force, unit)

    def _reconstruction(
        self, site: str, dictionary: Dictionary, rows: Tensor, code: SparseCode, unit: Tensor
    ) -> None:
        residual = (rows - dictionary.decode(code)).double().square().sum(1)
        wide = rows.double()
        self._add(f"{site}/residual", residual, unit)
        self._add(f"{site}/square", wide.square().sum(1), unit)
        self._add(f"{site}/sum", wide, unit)

    def _lens(
        self,
        subject: Subject,
        site: str,
        names: Sequence[str],
        rows: Tensor,
        next_ids: Tensor,
        code: SparseCode,
        unit: Tensor,
    ) -> None:
        """Energies of the lens, on some of the places: two or three products with the vocabulary
        a site are as much as all else together."""
        bench = self.benches[site]
        energies = read_energies(subject, bench.translator, rows, next_ids, names)
        self._activation(f"{site}/{CODE_OF[names[0]]}/features", code, unit)
        for name in names:
            self._force(f"{site}/{name}", code, energies.gradient[name], bench.dictionary.W_dec,
                        unit)  # fmt: skip
            self._add(f"{site}/mean/{name}", energies.value[name].double(), unit)

    def _add(self, name: str, values: Tensor, unit: Tensor) -> None:
        if name not in self.lists:
            self.lists[name] = [values.new_zeros(self.n_units, *values.shape[1:])]
        self.lists[name][0].index_add_(0, unit, values)

    def append(self, name: str, values: Tensor) -> None:
        self.lists.setdefault(name, []).append(values)

    def tensors(self) -> dict[str, Tensor]:
        flat = {name: torch.cat(parts).cpu() for name, parts in self.lists.items()}
        for name, sums in self.sums.items():
            flat |= {f"{name}/{field}": value.cpu() for field, value in asdict(sums).items()}
        return flat
