"""Alignment of a dictionary's features with an energy, and what ablating one does.

The study `energy-lens` does the same for several sites at once, with every control.
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.activations.subject import Subject
from energylens.core.errors import BadInput
from energylens.energy.alignment import (
    ActivationSums,
    ForceSums,
    active_forces,
    alignment_with_every_direction,
    energy_feature_alignment,
)
from energylens.energy.descent import Slope
from energylens.energy.intervention import Step, measure_effects
from energylens.features.dictionary import Dictionary
from energylens.notebook.dictionaries import Trained
from energylens.results.record import Estimate
from energylens.results.show import Row, Shown, ShowsItself
from energylens.sources.windows import TokenWindows
from energylens.stats.nulls import permute_rows, random_unit_directions
from energylens.stats.robust import cluster_mean_interval
from energylens.studies.energy_lens.held import held
from energylens.studies.energy_lens.passes import Pass
from energylens.studies.energy_lens.scoring import Scored, pieces_of, score_piece
from energylens.studies.energy_lens.statistics import SiteScores, score_family, score_site
from energylens.studies.energy_lens.tally import HEADLINE, PERMUTED

# Features that are shown, the largest |t| first.
MOST_SHOWN = 8


@dataclass(frozen=True, kw_only=True, repr=False)
class Aligned(ShowsItself):
    """EFAS of every feature of one place with its null, and the permuted decoder beside it.

    Attributes:
        site: The place; a word of yours where states alone were scored.
        measured: What `ablate` goes on from; None where states alone were scored.
    """

    site: str
    scores: SiteScores
    permuted: SiteScores
    measured: Pass | None = None

    @property
    def efas(self) -> Float[Tensor, " feature"]:
        return self.scores.efas

    def top(self, count: int = 10) -> list[int]:
        """Features of largest |t|, those without enough evidence left out."""
        ranked = self.scores.t.abs().nan_to_num(-1).argsort(descending=True)
        return ranked[self.scores.scored[ranked]][:count].tolist()

    def table(self) -> pa.Table:
        """One row a feature: EFAS, interval, t, p by itself and family-wise."""
        names = ("efas", "low", "high", "t", "p", "q", "p_max_t", "attribution", "n_active")
        columns = {name: getattr(self.scores, name).numpy() for name in names}
        return pa.table({"feature": range(len(self.efas)), **columns})

    def plot(self, path: str | Path) -> Path:
        """EFAS against |t|, real features over permuted decoder rows, as SVG, PNG or PDF."""
        from energylens.report.sketch import volcano

        real, null = self.scores, self.permuted
        return volcano(
            Path(path), real.efas.numpy(), real.t.abs().numpy(), real.beyond.numpy(),
            null.efas.numpy(), null.t.abs().numpy(),
        )  # fmt: skip

    def shown(self) -> Shown:
        found, scored = int(self.scores.beyond.sum()), int(self.scores.scored.sum())
        chance = self.permuted.efas[self.permuted.scored].double()
        return Shown(
            caption=f"{self.site}: {found:,} of {scored:,} features beyond chance,"
            f" of the permuted decoder {int(self.permuted.beyond.sum()):,} of"
            f" {int(self.permuted.scored.sum()):,}",
            rows=[
                Estimate(
                    float(self.efas[f]), "", low=float(self.scores.low[f]),
                    high=float(self.scores.high[f]), null_mean=float(chance.mean()),
                    null_sd=float(chance.std()), p=float(self.scores.p_max_t[f]),
                    label=f"feature {f}",
                ).row()
                for f in self.top(MOST_SHOWN)
            ],
            one_scale=True,
            notes=[f"EFAS over {self.scores.documents:,} independent units (documents, trials …),"
                   " largest |t| first. Null: mean ± standard deviation over the features of the"
                   " permuted decoder. p: family-wise, the larger of two (signs flipped by unit,"
                   " directions dealt out)."],
        )  # fmt: skip


def align(
    subject: Subject,
    trained: Trained,
    windows: TokenWindows,
    *,
    draws: int = 10_000,
    memory_mb: float | int = 1500,
    seed: int = 0,
) -> Aligned:
    """EFAS for the downstream energy on held-out windows, with its null.

    Raises:
        InsufficientData: If there are too few documents.
    """
    benches = {trained.site: trained.bench}
    pieces = pieces_of(windows, model="notebook", size=40)
    found = Scored(pieces=[
        score_piece(subject, benches, piece, keep=True, budget_mb=memory_mb)
        for piece in pieces
    ])  # fmt: skip
    return Aligned(
        site=trained.site,
        scores=score_site(found, trained.site, trained.bench, HEADLINE, draws=draws, seed=seed),
        permuted=score_site(found, trained.site, trained.bench, PERMUTED, draws=draws, seed=seed),
        measured=Pass(benches=benches, pieces=pieces, scored=found),
    )


def align_states(
    states: Float[Tensor, "sample d"],
    slope: Slope,
    dictionary: Dictionary,
    unit: Int[Tensor, " row"],
    *,
    draws: int = 10_000,
    seed: int = 0,
    site: str = "states",
) -> Aligned:
    """EFAS of a dictionary's features for an energy of your own, with both nulls.

    Args:
        states: Rows that the dictionary reads and the energy is a function of.
        slope: Energies and gradients of states; `slope_of` makes one of any energy.
        unit: Index of the independent unit (document, trial …) that each row is from, 0, 1, 2 …;
            rows of one unit may resemble each other as they like.

    Raises:
        InsufficientData: If there are fewer than two units.
        BadInput: If a row lacks its unit, or the energy is not finite somewhere.
    """
    n_units = int(unit.max()) + 1 if len(unit) else 0
    if len(unit) != len(states) or len(unit.unique()) != n_units:
        raise BadInput(
            f"{len(states)} rows need a unit each, numbered 0, 1, 2 … without gaps; found"
            f" {len(unit)} entries with {len(unit.unique())} numbers up to {n_units - 1}"
        )
    energy, gradient = slope(states)
    if not bool(energy.isfinite().all() and gradient.isfinite().all()):
        raise BadInput("the energy or its gradient is not finite at some rows: leave them out")
    code = dictionary.encode(states)
    activation = ActivationSums.zeros(width=dictionary.width, n_units=n_units, device=states.device)
    activation.add_(code.indices, code.values, unit)
    generator = torch.Generator().manual_seed(seed)

    def scored(rows: Float[Tensor, "feature d"]) -> SiteScores:
        force = ForceSums.zeros(
            width=dictionary.width, d_model=states.shape[1], n_units=n_units, device=states.device
        )
        force.add_(
            code.indices, code.values, gradient, active_forces(code.indices, gradient, rows), unit
        )
        found = energy_feature_alignment(activation, force, rows)
        return score_family(
            {site: found},
            lambda _, chosen: alignment_with_every_direction(
                activation, force, rows[chosen], features=chosen
            ),
            draws=draws, generator=generator,
        )[site]  # fmt: skip

    return Aligned(
        site=site, scores=scored(dictionary.W_dec),
        permuted=scored(permute_rows(dictionary.W_dec, generator)),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, repr=False)
class Ablated(ShowsItself):
    """What ablating one feature did to the loss of windows where it is active, in nats.

    Attributes:
        predicted: By the gradient, to first order.
        measured: By running the rest of the network.
        random: Measured for a step of the same size along a random direction.
    """

    feature: int
    predicted: Float[Tensor, " window"]
    measured: Float[Tensor, " window"]
    random: Float[Tensor, " window"]

    def shown(self) -> Shown:
        def row(label: str, effect: Tensor) -> Row:
            mean = cluster_mean_interval(effect[:, None])
            return Estimate(
                float(mean.estimate), "nats", low=float(mean.low), high=float(mean.high),
                null_mean=float(self.random.double().mean()),
                null_sd=float(self.random.double().std() / len(self.random) ** 0.5),
                label=label,
            ).row()  # fmt: skip

        return Shown(
            caption=f"Feature {self.feature} ablated in {len(self.measured)} windows",
            rows=[row("measured", self.measured), row("predicted by the gradient", self.predicted)],
            one_scale=True,
            notes=["Change of a window's summed loss, mean over windows. Null: a step of the same"
                   " size along a random direction, mean ± its standard error."],
        )  # fmt: skip


def ablate(
    subject: Subject, aligned: Aligned, feature: int, *, windows: int = 12, seed: int = 0
) -> Ablated:
    """Set a feature to zero wherever it is active and run the rest of the network.

    Beside it, in the same windows, a step of the same size along one random direction.

    Raises:
        BadInput: If it is active in fewer than two of the windows kept for this, or the scores are
            of states alone.
    """
    if aligned.measured is None:
        raise BadInput(
            "these scores are of states alone, with no network to run: ablate what align returns"
        )
    site = aligned.site
    dictionary = aligned.measured.benches[site].dictionary
    here = held(aligned.measured.scored, aligned.measured.pieces, site, device=subject.device)
    activation = here.activation(feature)
    active = (activation > 0).any(1).nonzero()[:, 0][:windows]
    if len(active) < 2:
        raise BadInput(f"feature {feature} is active in {len(active)} windows: choose another")
    toward = dictionary.W_dec[feature]
    generator = torch.Generator().manual_seed(seed)
    astray = random_unit_directions(1, len(toward), generator, like=toward)[0]
    places = [activation[window].nonzero()[:, 0] for window in active.tolist()]
    steps = [
        Step(window=window, positions=at + 1, change=-activation[window, at], direction=direction)
        for direction in (toward, astray)
        for window, at in zip(active.tolist(), places, strict=True)
    ]
    predicted = [
        (step.change * (here.gradients[step.window, step.positions] @ toward)).sum()
        for step in steps[: len(active)]
    ]
    effects = measure_effects(subject, site, here.batch, here.states, steps).energy
    return Ablated(
        feature=feature, predicted=torch.stack(predicted), measured=effects[: len(active)],
        random=effects[len(active) :],
    )  # fmt: skip
