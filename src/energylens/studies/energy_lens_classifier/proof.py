"""Interventions on images: what ablating a feature does to the energies, classes and accuracy.

Features are chosen on half A of the held-out images and changed in half B.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.activations.images import ImageBatch
from energylens.core.ports import Progress, Store
from energylens.energy.class_intervention import (
    log_probabilities,
    measure_class_effects,
    without_features,
)
from energylens.energy.intervention import Step
from energylens.features.dictionary import Dictionary
from energylens.stats.nulls import random_unit_directions
from energylens.studies.energy_lens.behaviour import Member, choose_members
from energylens.studies.energy_lens.parts import part_of
from energylens.studies.energy_lens.proof import ABLATE, DOUBLE, KINDS, RANDOM, Choice, choose
from energylens.studies.energy_lens.scoring import Scored
from energylens.studies.energy_lens.statistics import score_half
from energylens.studies.energy_lens_classifier import EnergyLensClassifier
from energylens.studies.energy_lens_classifier.material import Material
from energylens.studies.energy_lens_classifier.scoring import (
    CLASS_ENERGY,
    IMAGES_PER_PASS,
    MARGIN,
    ImagePass,
)

ACCURACY = "accuracy"
# Energies whose change is predicted and measured beside the class energy.
OTHERS = (MARGIN,)


@dataclass(frozen=True, kw_only=True)
class ImagesHeld:
    """Half B as one layer sees it.

    Attributes:
        indices, values: Sparse code of every position.
        gradients: By energy.
    """

    images: ImageBatch
    indices: Int[Tensor, "image pos active"]
    values: Float[Tensor, "image pos active"]
    gradients: dict[str, Float[Tensor, "image pos d"]]

    def activation(self, feature: int) -> Float[Tensor, "image pos"]:
        """Activation of one feature at every position."""
        return (self.values * (self.indices == feature)).sum(-1)


def held_images(material: Material, trained: ImagePass, site: str) -> ImagesHeld:
    """Read half B of one layer back, onto the device of the model."""
    odd, device = trained.scored.pieces[1::2], material.subject.device

    def read(name: str) -> Tensor:
        return torch.cat([piece[f"{site}/{name}"] for piece in odd]).to(device)

    gradients = {MARGIN: read("gradients"), CLASS_ENERGY: read(f"{CLASS_ENERGY}/slope")}
    count, positions = gradients[MARGIN].shape[:2]
    return ImagesHeld(
        images=material.batch(material.held_out, trained.half_b),
        indices=read("indices").long().view(count, positions, -1),
        values=read("values").view(count, positions, -1), gradients=gradients,
    )  # fmt: skip


def prove_images(
    material: Material,
    trained: ImagePass,
    options: EnergyLensClassifier,
    store: Store,
    progress: Progress,
) -> None:
    """Ablate the chosen features of every layer in images where they are active; a part a layer."""
    for number, (site, bench) in enumerate(trained.benches.items()):
        part = part_of("proof", site)
        if store.done(part):
            continue
        generator = torch.Generator().manual_seed(options.seed + 100 + number)
        half_a = score_half(trained.scored, site, bench, half=0, energy=MARGIN)
        choices = choose(half_a, options.proof_features, generator)
        here = held_images(material, trained, site)
        steps, columns = _plan(bench.dictionary, here, choices, options.proof_images, generator)
        found = measure_class_effects(
            material.subject, site, here.images, steps, progress=progress, label=part
        )
        labels = here.images.labels[columns["window"].to(here.images.labels.device)]
        change = found.log_probability
        shares = material.shares.to(change.device)
        margin = change @ shares - change.gather(1, labels[:, None])[:, 0]
        others = torch.stack([columns.pop("slope"), margin.cpu()], dim=1)
        store.save(
            part,
            tensors={part: {
                **columns, "measured": found.energy.cpu(), "kl": found.divergence.cpu(),
                "lens": others, "classes": change.cpu(),
            }},
            records={part: {"choices": [[c.feature, c.chosen_by] for c in choices],
                            "energies": list(OTHERS)}},
        )  # fmt: skip


def _plan(
    dictionary: Dictionary,
    here: ImagesHeld,
    choices: Sequence[Choice],
    images: int,
    generator: torch.Generator,
) -> tuple[list[Step], dict[str, Tensor]]:
    """Ablation, doubling and a random step of the same size, all in the same images."""
    order = torch.randperm(len(here.images.labels), generator=generator)
    steps: list[Step] = []
    rows: list[list[float]] = []
    for choice in choices:
        activation = here.activation(choice.feature)
        active = (activation > 0).any(1).cpu()
        toward = dictionary.W_dec[choice.feature]
        for image in order[active[order]][:images].tolist():
            places = activation[image].nonzero()[:, 0]
            amount = activation[image, places]
            astray = random_unit_directions(1, len(toward), generator, like=toward)[0]
            for kind in (ABLATE, DOUBLE, RANDOM):
                direction = astray if kind == RANDOM else toward
                change = amount if kind == DOUBLE else -amount
                steps.append(Step(window=image, positions=places, change=change,
                                  direction=direction))  # fmt: skip
                slopes = [(change * (here.gradients[name][image, places] @ direction)).sum()
                          for name in (CLASS_ENERGY, *OTHERS)]  # fmt: skip
                rows.append([choice.feature, KINDS.index(kind), image, *map(float, slopes)])
    flat = torch.tensor(rows, dtype=torch.float64).view(-1, 4 + len(OTHERS))
    return steps, {
        "feature": flat[:, 0].long(), "kind": flat[:, 1].long(), "window": flat[:, 2].long(),
        "predicted": flat[:, 3].clone(), "slope": flat[:, 4].clone(),
    }  # fmt: skip


def change_accuracy(
    material: Material,
    trained: ImagePass,
    options: EnergyLensClassifier,
    store: Store,
    progress: Progress,
) -> None:
    """Ablate the strongest features, and others that match them, in all of half B: which images are
    still classified rightly, and at what energy."""
    if store.done(ACCURACY) or not options.accuracy_features:
        return
    members = _members(trained, options)
    images = material.batch(material.held_out, trained.half_b)
    right, energy = [], []
    with progress.task(ACCURACY, len(members) + 1, "features") as advance:
        for member in (None, *members):
            ablated = list(_classified(material, trained, images, member))
            right.append(torch.cat([hit for hit, _ in ablated]))
            energy.append(torch.cat([value for _, value in ablated]))
            advance(1)
    store.save(
        ACCURACY,
        tensors={ACCURACY: {"right": torch.stack(right), "energy": torch.stack(energy)}},
        records={ACCURACY: {"members": [[m.set, m.role, m.site, m.feature] for m in members]}},
    )  # fmt: skip


def _members(trained: ImagePass, options: EnergyLensClassifier) -> list[Member]:
    half_a = Scored(pieces=trained.scored.pieces[::2])
    scores, traits, largest = {}, {}, {}
    for site, bench in trained.benches.items():
        scores[site] = score_half(trained.scored, site, bench, half=0, energy=MARGIN)
        active = half_a.total(f"{site}/features/active")
        mean = half_a.total(f"{site}/features/total") / active
        traits[site] = torch.stack([active, mean], dim=1).log()
        largest[site] = trained.scored.largest(site, bench.dictionary.width)
    generator = torch.Generator().manual_seed(options.seed + 300)
    return choose_members(scores, traits, largest, options.accuracy_features, generator)


@torch.no_grad()
def _classified(
    material: Material, trained: ImagePass, images: ImageBatch, member: Member | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Whether each image is classified rightly, and its class energy, without a feature."""
    site = member.site if member else next(iter(trained.benches))
    dictionary = trained.benches[site].dictionary

    def encode(states: Tensor, features: Tensor) -> Tensor:
        return dictionary.encode(states).columns(features)

    move = None
    if member is not None:
        chosen = torch.tensor([member.feature], device=images.labels.device)
        move = without_features(encode, dictionary.W_dec, chosen)
    for rows in torch.arange(len(images.labels), device=images.labels.device).split(
        IMAGES_PER_PASS
    ):
        some = images.take(rows)
        log_p = log_probabilities(material.subject, some, site, move)
        energy = -log_p.gather(1, some.labels[:, None])[:, 0]
        yield (log_p.argmax(1) == some.labels).cpu(), energy.cpu()
