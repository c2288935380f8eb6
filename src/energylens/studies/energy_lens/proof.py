"""Interventions: what ablating a feature does, beside what its slope predicted.

Features are chosen on half A of the documents and intervened on in half B.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.activations.subject import Subject
from energylens.core.ports import Progress, Store
from energylens.energy.energies.free_energy import free_energy
from energylens.energy.energies.surprisal import surprisal
from energylens.energy.intervention import Step, measure_effects
from energylens.energy.lens_gradients import lens_energies
from energylens.features.dictionary import Dictionary
from energylens.stats.nulls import random_unit_directions
from energylens.studies.energy_lens.held import Held
from energylens.studies.energy_lens.statistics import SiteScores

ABLATE, DOUBLE, RANDOM = "ablate", "double", "random direction"
KINDS = (ABLATE, DOUBLE, RANDOM)
# Doubling and the random direction are drawn beside the ablation, in a third of the windows.
SHARE_OF_OTHERS = 3


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A feature to intervene on, and by which rule it was chosen."""

    feature: int
    chosen_by: str


def choose(scores: SiteScores, count: int, generator: torch.Generator) -> list[Choice]:
    """Features from half A: by |attribution|, by |t| of EFAS, and at random, a third each.

    The random third keeps calibration honest: large effects alone would flatter it.
    """
    eligible = scores.scored.nonzero()[:, 0]
    rules = {
        "attribution": eligible[scores.attribution[eligible].abs().argsort(descending=True)],
        "efas": eligible[scores.t[eligible].abs().argsort(descending=True)],
        "random": eligible[torch.randperm(len(eligible), generator=generator)],
    }
    chosen: dict[int, str] = {}
    for number, (rule, ranked) in enumerate(rules.items(), start=1):
        quota = round(count * number / len(rules))
        for feature in ranked.tolist():
            if len(chosen) >= quota:
                break
            chosen.setdefault(feature, rule)
    return [Choice(feature=feature, chosen_by=rule) for feature, rule in chosen.items()]


def prove_site(
    subject: Subject,
    site: str,
    dictionary: Dictionary,
    here: Held,
    choices: Sequence[Choice],
    store: Store,
    *,
    contexts: int,
    generator: torch.Generator,
    progress: Progress,
) -> None:
    """Measure every choice in up to `contexts` windows where it is active, and save the effects."""
    part = f"proof.{site}"
    if store.done(part):
        return
    steps, table = _plan(dictionary, here, choices, contexts=contexts, generator=generator)
    effects = measure_effects(
        subject, site, here.batch, here.states, steps, progress=progress, label=f"proof {site}"
    )
    lens = _lens_changes(subject, here, steps) if steps else torch.zeros(0, 4)
    store.save(
        part,
        tensors={part: {
            **table, "measured": effects.energy, "surprisal": effects.surprisal,
            "kl": effects.divergence, "lens": lens,
            "first": torch.tensor([int(step.positions.min()) for step in steps]),
        }},
        records={part: {"choices": [[c.feature, c.chosen_by] for c in choices]}},
    )  # fmt: skip


def _plan(
    dictionary: Dictionary,
    here: Held,
    choices: Sequence[Choice],
    *,
    contexts: int,
    generator: torch.Generator,
) -> tuple[list[Step], dict[str, Tensor]]:
    # One random order of windows for all features: frequent ones share windows, and baselines.
    order = torch.randperm(len(here.ids), generator=generator)
    steps: list[Step] = []
    rows: list[list[float]] = []
    for choice in choices:
        activation = here.activation(choice.feature)
        active = (activation > 0).any(1)
        windows = order[active[order]][:contexts]
        toward = dictionary.W_dec[choice.feature]
        astray = random_unit_directions(1, len(toward), generator, like=toward)[0]
        for rank, window in enumerate(windows.tolist()):
            places = activation[window].nonzero()[:, 0]
            amount = activation[window, places]
            kinds = KINDS if rank % SHARE_OF_OTHERS == 0 else (ABLATE,)
            for kind in kinds:
                direction = astray if kind == RANDOM else toward
                change = amount if kind == DOUBLE else -amount
                steps.append(Step(window=window, positions=places + 1, change=change,
                                  direction=direction))  # fmt: skip
                slope = here.gradients[window, places + 1] @ direction
                rows.append([choice.feature, KINDS.index(kind), window,
                             float((change * slope).double().sum())])  # fmt: skip
    flat = torch.tensor(rows, dtype=torch.float64).view(-1, 4)
    return steps, {
        "feature": flat[:, 0].long(), "kind": flat[:, 1].long(),
        "window": flat[:, 2].long(), "predicted": flat[:, 3].clone(),
    }  # fmt: skip


def _lens_changes(
    subject: Subject, here: Held, steps: Sequence[Step]
) -> Float[Tensor, "step quantity"]:
    """Change of the two lens energies at the changed positions, summed over them.

    Columns: predicted surprisal, predicted free energy, measured surprisal, measured free energy.
    """
    changes = torch.full((len(steps), 4), torch.nan, dtype=torch.float64)
    for number, step in enumerate(steps):
        before = here.states[step.window, step.positions]
        moved = step.change[:, None] * step.direction
        targets = here.ids[step.window, step.positions + 1]
        old = lens_energies(before, targets, subject.final_norm, subject.unembed)
        with torch.no_grad():
            new = (surprisal(before + moved, targets, subject.lens),
                   free_energy(before + moved, subject.lens))  # fmt: skip
        changes[number] = torch.stack([
            (moved * old.surprisal_gradient).double().sum(),
            (moved * old.free_energy_gradient).double().sum(),
            (new[0] - old.surprisal).double().sum(),
            (new[1] - old.free_energy).double().sum(),
        ])  # fmt: skip
    return changes
