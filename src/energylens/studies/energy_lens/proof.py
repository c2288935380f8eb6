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
from energylens.energy.energies.tuned import Translator
from energylens.energy.intervention import Step, measure_effects
from energylens.features.dictionary import Dictionary
from energylens.stats.nulls import random_unit_directions
from energylens.studies.energy_lens.bench import Bench
from energylens.studies.energy_lens.held import Held
from energylens.studies.energy_lens.lens import LENS, read_energies, read_values
from energylens.studies.energy_lens.statistics import SiteScores

ABLATE, DOUBLE, RANDOM = "ablate", "double", "random direction"
KINDS = (ABLATE, DOUBLE, RANDOM)
# How features are chosen, a third each.
RULES = ("attribution", "efas", "random")
# Doubling and the random direction stand beside the ablation in every fifth window.
SHARE_OF_OTHERS = 5
# Steps whose changed states exist at one time.
STEPS_AT_ONCE = 64


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
    ranked_by = {
        "attribution": eligible[scores.attribution[eligible].abs().argsort(descending=True)],
        "efas": eligible[scores.t[eligible].abs().argsort(descending=True)],
        "random": eligible[torch.randperm(len(eligible), generator=generator)],
    }
    chosen: dict[int, str] = {}
    for number, rule in enumerate(RULES, start=1):
        quota = round(count * number / len(RULES))
        for feature in ranked_by[rule].tolist():
            if len(chosen) >= quota:
                break
            chosen.setdefault(feature, rule)
    return [Choice(feature=feature, chosen_by=rule) for feature, rule in chosen.items()]


def prove_site(
    subject: Subject,
    site: str,
    bench: Bench,
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
    steps, table = _plan(bench.dictionary, here, choices, contexts=contexts, generator=generator)
    effects = measure_effects(
        subject, site, here.batch, here.states, steps, progress=progress, label=f"proof {site}"
    )
    assert bench.translator is not None
    lens = (
        _lens_changes(subject, bench.translator, here, steps)
        if steps else torch.zeros(0, 2 * len(LENS))
    )  # fmt: skip
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
    order = torch.randperm(len(here.ids), generator=generator).to(here.ids.device)
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
    subject: Subject, translator: Translator, here: Held, steps: Sequence[Step]
) -> Float[Tensor, "step quantity"]:
    """Change of the lens energies at the changed positions, summed over them.

    Columns: predicted change of each energy of `LENS`, then the measured one of each.
    """
    width = here.ids.shape[1]
    places = [step.window * width + step.positions for step in steps]
    # Many steps change the same place: its energies and gradients are computed once.
    unique = torch.cat(places).unique()
    states = here.states.flatten(0, 1)
    targets = here.ids.roll(-1, dims=1).flatten()
    old = read_energies(subject, translator, states[unique], targets[unique], LENS)
    changes = torch.zeros(len(steps), 2 * len(LENS), dtype=torch.float64, device=states.device)
    for first in range(0, len(steps), STEPS_AT_ONCE):
        group = range(first, min(first + STEPS_AT_ONCE, len(steps)))
        place = torch.cat([places[n] for n in group])
        of = torch.cat([torch.full_like(places[n], n) for n in group])
        moved = torch.cat([steps[n].change[:, None] * steps[n].direction for n in group])
        at = torch.searchsorted(unique, place)
        new = read_values(subject, translator, states[place] + moved, targets[place], LENS)
        predicted = [torch.linalg.vecdot(moved, old.gradient[name][at]) for name in LENS]
        measured = [new[name] - old.value[name][at] for name in LENS]
        columns = torch.stack([*predicted, *measured], dim=1).double()
        changes.index_add_(0, of, columns)
    return changes
