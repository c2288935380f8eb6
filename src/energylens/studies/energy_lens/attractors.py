"""Attractors: where states run to when they go down the entropy of the tuned lens.

Entropy, because it is blind to what the softmax is blind to and has a floor: the free energy of a
lens can be lowered without end by moving all logits together, and its descent leaves every state
that the model knows. The ends are certain about one token; which ends are in one basin is decided
by what the lens reads there, not by where they lie: the floor is flat, and every state of it is an
end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.activations.subject import Subject
from energylens.core.errors import InsufficientData
from energylens.core.ports import Progress, Store
from energylens.energy.basins import angle, find_basins
from energylens.energy.descent import barrier, descend
from energylens.energy.energies.tuned import Translator
from energylens.stats.nulls import random_unit_directions, states_alike
from energylens.studies.energy_lens.bench import Bench
from energylens.studies.energy_lens.held import Held
from energylens.studies.energy_lens.lens import tuned_distribution, tuned_entropy
from energylens.studies.energy_lens.proof import Choice

SOURCES = ("text", "random state", "feature", "feature ablated", "random step")
TEXT, STATE, FEATURE, ABLATED, STEP = range(len(SOURCES))
MOST_STARTS = 200
NULL_PER_START = 1
STARTS_PER_FEATURE = 3
# Ends that make a basin, random states among them.
FEWEST = 4
# First step, as a share of the squared norm: about a tenth of a radian.
FIRST_STEP = 1e-3
TOLERANCE, MOST_STEPS = 1e-2, 100
# Tokens around the map of a site.
ON_THE_WHEEL = 8
# Tokens that an end reads with less than this are told apart from no other end by it.
READ = 1e-3


@dataclass(frozen=True, kw_only=True)
class Starts:
    """States to run down from, and what each of them is.

    Attributes:
        source: Index into `SOURCES`.
        window, place: Where in half B the state is from; of a random state, whose norm it has.
        feature: The feature that is changed; −1 for none.
    """

    states: Float[Tensor, "start d_model"]
    source: Int[Tensor, " start"]
    window: Int[Tensor, " start"]
    place: Int[Tensor, " start"]
    feature: Int[Tensor, " start"]


def attract_site(
    subject: Subject,
    site: str,
    bench: Bench,
    here: Held,
    choices: Sequence[Choice],
    store: Store,
    *,
    generator: torch.Generator,
    progress: Progress,
) -> None:
    """Run one state a document down, random states beside them, and the states that features are
    active in with and without the feature; save where they end."""
    assert bench.translator is not None
    text = _one_place_a_document(here, bench, generator)
    starts = _joined([
        text, _random_states(here, bench, text, generator),
        *_feature_starts(here, bench, choices, generator),
    ])  # fmt: skip
    slope = tuned_entropy(subject, bench.translator)
    found = descend(
        slope, starts.states, keep="norm", tolerance=TOLERANCE, max_steps=MOST_STEPS,
        first_step=FIRST_STEP, progress=progress, label=f"attractors {site}",
    )  # fmt: skip
    read = _Readings.of(subject, bench.translator, starts, found.ends)
    ends = read.ends[starts.source <= STATE]
    basins = find_basins(ends, fewest=FEWEST)
    basin = torch.full_like(starts.source, -1)
    basin[starts.source <= STATE] = basins.basin
    part = f"attractors.{site}"
    store.save(part, tensors={part: {
        "source": starts.source, "window": starts.window, "place": starts.place,
        "feature": starts.feature, "converged": found.converged, "diverged": found.diverged,
        "steps": found.steps, "energy": found.energy, "start_energy": found.start_energy,
        "turned": angle(starts.states, found.ends), "basin": basin,
        "token": read.token, "start_token": read.start_token,
        "basin_token": read.tokens[basins.centers.argmax(1)],
        "map": read.wheel(starts.source == TEXT),
        **_shifts(subject, bench.translator, starts, found.ends, read),
    }})  # fmt: skip


def _one_place_a_document(here: Held, bench: Bench, generator: torch.Generator) -> Starts:
    """One ordinary state of each document, at random: documents are the units."""
    scored = here.states[:, 1:-1]
    ordinary = bench.ordinary.holds(scored.flatten(0, 1)).view(scored.shape[:2]).nonzero()
    order = ordinary[torch.randperm(len(ordinary), generator=generator).to(ordinary.device)]
    first: dict[int, int] = {}
    for row, document in enumerate(here.document[order[:, 0]].tolist()):
        first.setdefault(document, row)
    kept = order[list(first.values())[:MOST_STARTS]]
    if len(kept) < 2 * FEWEST:
        raise InsufficientData(
            f"basins need states of {2 * FEWEST} documents, found {len(kept)}: give more text"
        )
    return _starts(scored[kept[:, 0], kept[:, 1]], TEXT, kept)


def _random_states(here: Held, bench: Bench, text: Starts, generator: torch.Generator) -> Starts:
    rows = here.states[:, 1:-1].flatten(0, 1)
    rows = rows[bench.ordinary.holds(rows)]
    where = torch.stack([text.window, text.place], dim=1).repeat(NULL_PER_START, 1)
    sizes = torch.linalg.vector_norm(text.states, dim=1).repeat(NULL_PER_START)
    return _starts(states_alike(rows, sizes, generator), STATE, where)


def _feature_starts(
    here: Held, bench: Bench, choices: Sequence[Choice], generator: torch.Generator
) -> list[Starts]:
    """States in which a chosen feature is active, without it, and moved as far at random."""
    scored, kept = here.states[:, 1:-1], []
    for choice in choices:
        activation = here.activation(choice.feature)
        peaks = activation.max(1)
        windows = (peaks.values > 0).nonzero()[:, 0]
        chosen = windows[torch.randperm(len(windows), generator=generator).to(windows.device)]
        chosen = chosen[:STARTS_PER_FEATURE]
        if not len(chosen):
            continue
        where = torch.stack([chosen, peaks.indices[chosen]], dim=1)
        toward = bench.dictionary.W_dec[choice.feature]
        astray = random_unit_directions(1, len(toward), generator, like=toward)[0]
        states, amount = scored[where[:, 0], where[:, 1]], peaks.values[chosen][:, None]
        kept += [
            _starts(changed, source, where, choice.feature)
            for changed, source in ((states, FEATURE), (states - amount * toward, ABLATED),
                                    (states - amount * astray, STEP))
        ]  # fmt: skip
    return kept


def _starts(states: Tensor, source: int, where: Tensor, feature: int = -1) -> Starts:
    like = where[:, 0]
    return Starts(
        states=states, source=torch.full_like(like, source), window=like, place=where[:, 1],
        feature=torch.full_like(like, feature),
    )  # fmt: skip


def _joined(parts: Sequence[Starts]) -> Starts:
    return Starts(**{
        field.name: torch.cat([getattr(part, field.name) for part in parts])
        for field in fields(Starts)
    })  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Readings:
    """What the lens reads at the starts and at the ends: square roots of probabilities.

    The cosine of two rows is the Bhattacharyya coefficient of the two distributions. Columns are
    the tokens that some end reads, and the rest together: rows are of unit norm.
    """

    tokens: Int[Tensor, " column"]
    starts: Float[Tensor, "start column"]
    ends: Float[Tensor, "start column"]
    token: Int[Tensor, " start"]
    start_token: Int[Tensor, " start"]

    @classmethod
    def of(
        cls, subject: Subject, translator: Translator, starts: Starts, ends: Tensor
    ) -> "_Readings":
        last = tuned_distribution(subject, translator, ends)
        tokens = (last.amax(0) > READ).nonzero()[:, 0]
        first = tuned_distribution(subject, translator, starts.states)
        nothing = tokens.new_full((1,), -1)
        return cls(
            tokens=torch.cat([tokens, nothing]), starts=_roots(first, tokens),
            ends=_roots(last, tokens), token=last.argmax(1), start_token=first.argmax(1),
        )  # fmt: skip

    def wheel(self, drawn: Tensor) -> Float[Tensor, "start 4"]:
        """Starts and ends on a map, x, y, x, y: the tokens that most of the drawn ends read stand
        around a circle, and a state is at their mean weighted by what the lens reads there. What
        reads other tokens is near the centre."""
        read, count = self.token[drawn].unique(return_counts=True)
        read, count = (part[torch.isin(read, self.tokens)] for part in (read, count))
        heaviest = read[count.argsort(descending=True, stable=True)[:ON_THE_WHEEL]]
        turn = torch.arange(len(heaviest), dtype=torch.float64) * (2 * torch.pi / ON_THE_WHEEL)
        corner = torch.stack([turn.sin(), turn.cos()], dim=1).to(self.ends.device)
        column = torch.searchsorted(self.tokens[:-1], heaviest)
        return torch.cat([
            rows[:, column].double().square() @ corner for rows in (self.starts, self.ends)
        ], dim=1)  # fmt: skip


def _roots(probability: Tensor, tokens: Tensor) -> Tensor:
    read = probability[:, tokens]
    rest = (1 - read.sum(1, keepdim=True)).clamp_min(0)
    return torch.cat([read, rest], dim=1).sqrt()


def _shifts(
    subject: Subject, translator: Translator, starts: Starts, ends: Tensor, read: _Readings
) -> dict[str, Tensor]:
    """How far the end moves when a feature is ablated, and when it is a random step."""
    base, ablated, step = (starts.source == kind for kind in (FEATURE, ABLATED, STEP))
    slope = tuned_entropy(subject, translator)
    return {
        "shift_feature": starts.feature[base], "shift_window": starts.window[base],
        "shift_angle": angle(ends[base], ends[ablated]),
        "shift_angle_random": angle(ends[base], ends[step]),
        "shift_switched": read.token[base] != read.token[ablated],
        "shift_switched_random": read.token[base] != read.token[step],
        "shift_barrier": barrier(slope, ends[base], ends[ablated]),
    }  # fmt: skip
