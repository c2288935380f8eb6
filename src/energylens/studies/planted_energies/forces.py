"""EFAS where the truth is known: planted directions, directions that are pulled back, distractors.

A state is made of what the energy reads and of something beside it that the energy does not. A
distractor is active by what lies beside, and its row has one foot in what the energy reads: there
is a force along it, which knows nothing of its activation.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.energy.alignment import (
    ActivationSums,
    ForceSums,
    alignment_with_every_direction,
    energy_feature_alignment,
)
from energylens.energy.descent import slope_of
from energylens.stats.nulls import permute_rows, random_unit_directions
from energylens.studies.energy_lens.statistics import LEVEL, SiteScores, score_family
from energylens.studies.planted_energies.networks import Network, gaussian

Row = dict[str, Any]
KINDS = ("planted", "pulled back", "distractor")
PLANTED, PULLED, DISTRACTOR = KINDS
OWN, OTHER, PERMUTED = "own energy", "another network's energy", "permuted rows"
TRIALS, STATES = 40, 20
MOST_PULLED, DISTRACTORS = 8, 16
# How far states have gone towards what is planted, and how strong other directions are in them,
# in parts of the planted norm.
WAY, STRENGTH, OFTEN = (0.3, 0.9), (0.2, 0.6), 0.2
OFFSET, NOISE, THRESHOLD = 0.05, 0.2, 0.15


@dataclass(frozen=True, kw_only=True, eq=False)
class Code:
    """States written in features, and the gradient of an energy at them.

    Attributes:
        activation: Of each feature, not negative.
        gradient: Of the energy by the state; zero beside what the energy reads.
        move: The network's own move, which the force is made of in closed form.
        rows: The features' directions, of norm 1.
        unit: The trial that a state is from; states of one trial share an offset.
        kinds: What each feature is.
    """

    activation: Float[Tensor, "sample feature"]
    gradient: Float[Tensor, "sample d"]
    move: Float[Tensor, "sample d"]
    rows: Float[Tensor, "feature d"]
    unit: Int[Tensor, " sample"]
    kinds: tuple[str, ...]


def force_rows(
    network: Network, other: Network, *, draws: int, generator: torch.Generator
) -> list[Row]:
    """One row an analysis and kind of feature: EFAS, its null, and what is beyond it."""
    code, theirs = _encode(network, other, generator)
    analyses = {
        OWN: code, OTHER: replace(code, gradient=theirs),
        PERMUTED: replace(code, rows=permute_rows(code.rows, generator)),
    }  # fmt: skip
    error = _closed_form_error(code)
    rows = []
    for analysis, each in analyses.items():
        scores = _score(each, draws=draws, generator=generator)
        rows += [{"analysis": analysis, **row, "closed_form_error": error}
                 for row in _by_kind(scores, code.kinds)]  # fmt: skip
    return rows


def _encode(network: Network, other: Network, generator: torch.Generator) -> tuple[Code, Tensor]:
    """Noisy states on the way to what is planted, and another network's gradient at them."""
    planted = network.directions
    d = planted.shape[1]
    tokens = network.planted.shape[1] // d
    samples = TRIALS * STATES * tokens
    unit = torch.arange(TRIALS).repeat_interleave(STATES * tokens)
    pulled = _off(planted, generator) if network.keep == "nothing" else planted[:0]
    target = torch.randint(len(planted), (samples,), generator=generator)
    way = _uniform(samples, 1, WAY, generator)
    offset = OFFSET * gaussian(TRIALS, d, generator)[unit] / d**0.5
    noise = NOISE * gaussian(samples, d, generator) / d**0.5
    read = way * planted[target] + _sparse(samples, pulled, generator) + offset + noise
    size = float(torch.linalg.vector_norm(network.planted[0])) / tokens**0.5
    states = network.place((size * read).view(-1, tokens * d))
    gradient, theirs = (slope_of(n.energy)(states)[1].view(-1, d) for n in (network, other))
    read = states.view(-1, d) / size
    beside = torch.eye(DISTRACTORS, dtype=read.dtype)
    unread = _sparse(samples, beside, generator)
    foot = random_unit_directions(DISTRACTORS, d, generator, like=read)
    rows = torch.cat([_wide(planted, beside), _wide(pulled, beside),
                      torch.cat([foot, beside], dim=1) / 2**0.5])  # fmt: skip
    seen = torch.cat([read @ planted.T, read @ pulled.T, unread], dim=1)
    kinds = [PLANTED] * len(planted) + [PULLED] * len(pulled) + [DISTRACTOR] * DISTRACTORS
    code = Code(
        activation=(seen - THRESHOLD).relu(), gradient=_wide(gradient, beside),
        move=_wide(network.move(states).view(-1, d), beside), rows=rows, unit=unit,
        kinds=tuple(kinds),
    )  # fmt: skip
    return code, _wide(theirs, beside)


def _score(code: Code, *, draws: int, generator: torch.Generator) -> SiteScores:
    """EFAS with both nulls of energy-lens; trials stand in for documents."""
    width, d = code.rows.shape
    activation = ActivationSums.zeros(width=width, n_units=TRIALS)
    force = ForceSums.zeros(width=width, d_model=d, n_units=TRIALS)
    # Sums of the gradient's products are kept in the gradient's own precision.
    values, gradient = code.activation, code.gradient.float()
    activation.add_dense_(values, code.unit)
    force.add_dense_(values.float(), gradient, -gradient @ code.rows.T.float(), code.unit)
    found = energy_feature_alignment(activation, force, code.rows)
    return score_family(
        {"": found},
        lambda _, chosen: alignment_with_every_direction(
            activation, force, code.rows[chosen], features=chosen
        ),
        draws=draws, generator=generator,
    )[""]  # fmt: skip


def _by_kind(scores: SiteScores, kinds: tuple[str, ...]) -> Iterator[Row]:
    chance = (scores.efas / scores.t).abs()
    for kind in dict.fromkeys(kinds):
        mine = torch.tensor([one == kind for one in kinds])
        known = mine & scores.scored
        count = int(known.sum())
        row: Row = {
            "kind": kind, "features": int(mine.sum()), "undefined": int(mine.sum()) - count,
            "efas": float(scores.efas[known].mean()), "null_sd": float(chance[known].mean()),
        }  # fmt: skip
        for null, p in (("signs", scores.p_documents), ("rows", scores.p_rows),
                        ("both", scores.p_max_t)):  # fmt: skip
            for verdict, sign in (("attractors", 1), ("repulsors", -1)):
                found = known & (p <= LEVEL) & (scores.efas * sign > 0)
                row[f"{verdict}_{null}"] = float(found.sum()) / count if count else float("nan")
        row["any_both"] = float((scores.p_max_t[known] <= LEVEL).any())
        yield row


def _closed_form_error(code: Code) -> float:
    """Largest difference between EFAS of the lens and the correlation with the network's move."""
    width, d = code.rows.shape
    activation = ActivationSums.zeros(width=width, n_units=TRIALS)
    force = ForceSums.zeros(width=width, d_model=d, n_units=TRIALS)
    activation.add_dense_(code.activation, code.unit)
    exact = replace(force, gram=force.gram, cross=force.cross.double())
    exact.add_dense_(code.activation, code.gradient, -code.gradient @ code.rows.T, code.unit)
    efas = energy_feature_alignment(activation, exact, code.rows).efas
    along = code.move @ code.rows.T
    pairs = [torch.corrcoef(torch.stack(pair))[0, 1]
             for pair in zip(code.activation.T, along.T, strict=True)]  # fmt: skip
    return float((efas - torch.stack(pairs)).abs().nan_to_num(0).max())


def _off(planted: Tensor, generator: torch.Generator) -> Tensor:
    """Directions at right angles to what is planted and to each other."""
    count, d = planted.shape
    more = gaussian(min(MOST_PULLED, d - count), d, generator)
    return torch.linalg.qr(torch.cat([planted, more]).T).Q.T[count:]


def _sparse(samples: int, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Sums of few rows, each there now and then with a random strength."""
    strength = _uniform(samples, len(rows), STRENGTH, generator)
    there = torch.rand(samples, len(rows), generator=generator) < OFTEN
    return (strength * there) @ rows


def _uniform(
    rows: int, columns: int, ends: tuple[float, float], generator: torch.Generator
) -> Tensor:
    low, high = ends
    drawn = torch.rand(rows, columns, generator=generator, dtype=torch.float64)
    return low + (high - low) * drawn


def _wide(rows: Tensor, beside: Tensor) -> Tensor:
    return torch.cat([rows, rows.new_zeros(len(rows), len(beside))], dim=1)
