"""The pass over images that serves every layer, energy and control."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.activations.images import Places, as_positions
from energylens.core.ports import Progress, Store
from energylens.energy.energies.class_energy import class_energy, class_margin, class_slopes
from energylens.studies.energy_lens.bench import Bench
from energylens.studies.energy_lens.dictionaries import (
    TRAINED,
    bench_of,
    bench_part,
    kept_bench,
    save_bench,
    seed_of,
    train_bench,
)
from energylens.studies.energy_lens.passes import Kept
from energylens.studies.energy_lens.scoring import Scored
from energylens.studies.energy_lens.statistics import (
    RANDOM_WEIGHTS,
    Inference,
    SiteScores,
    agreement,
    score_sites,
)
from energylens.studies.energy_lens.tally import OTHER, PERMUTED, RANDOM, Tally
from energylens.studies.energy_lens_classifier.material import MOST_ROWS, Material

CLASS_ENERGY, MARGIN = "class_energy", "class_margin"
# The label's share of the energy, of a label that belongs to another image.
WRONG_LABELS = "labels of other images"
OTHER_IMAGE = "activations of another image"
IMAGES_PER_PASS = 128
PIECES = 4


@dataclass(frozen=True, kw_only=True)
class ImagePass:
    """One model's dictionaries and scores over held-out images.

    Attributes:
        half_b: Rows of the held-out images in which features are shown and intervened on; they
            are chosen on the others.
    """

    benches: Mapping[str, Bench]
    scored: Scored
    half_b: Int[Tensor, " image"]


def train_layers(
    material: Material, store: Store, *, model: str, seed: int, progress: Progress
) -> dict[str, Bench]:
    """One dictionary a layer, each saved when it is done."""
    subject = material.subject
    missing = [site for site in material.sites if not store.done(bench_part(model, site))]
    for site in missing:
        generator = torch.Generator().manual_seed(seed_of(seed, model, site))
        trained = train_bench(
            _rows(material, site, generator), material.dictionaries[site], generator,
            metadata={"hook_name": site, "model_name": subject.loaded.name},
            progress=progress, label=f"dictionary {site} ({model})",
        )  # fmt: skip
        save_bench(trained, store, model, site)
    return {
        site: bench_of(kept_bench(store, model, site), device=subject.device)
        for site in material.sites
    }


@torch.no_grad()
def _rows(material: Material, site: str, generator: torch.Generator) -> Float[Tensor, "sample d"]:
    """States at a layer over the training images, a random part of them where there are many."""
    parts = []
    for first in range(0, len(material.train), IMAGES_PER_PASS):
        batch = material.batch(material.train, slice(first, first + IMAGES_PER_PASS))
        with material.subject.capture(site, stop=True) as seen:
            material.subject.run(batch)
        parts.append(as_positions(seen[site], site).flatten(0, 1))
    rows = torch.cat(parts)
    if len(rows) <= MOST_ROWS:
        return rows
    return rows[torch.randperm(len(rows), generator=generator)[:MOST_ROWS].to(rows.device)]


def score_images(
    material: Material, store: Store, *, model: str, seed: int, progress: Progress
) -> ImagePass:
    """Dictionaries, then sums over the held-out images, in pieces that are kept when done."""
    real = model == TRAINED
    benches = train_layers(material, store, model=model, seed=seed, progress=progress)
    held_out = material.held_out
    # Dealt out once, over all pieces: an image may get the label of any other.
    generator = torch.Generator().manual_seed(seed_of(seed, "wrong labels"))
    wrong = held_out.labels[torch.randperm(len(held_out), generator=generator)]
    pieces = torch.arange(len(held_out)).tensor_split(PIECES)
    names = [f"score.{model}.{number}" for number in range(PIECES)]
    for number, (name, rows) in enumerate(zip(names, pieces, strict=True)):
        if not store.done(name):
            tensors = _score(material, benches, rows, wrong, keep=number % 2 == 1 and real,
                             controls=real, progress=progress, label=name)  # fmt: skip
            store.save(name, tensors={name: tensors}, scratch=True)
    scored = Scored(pieces=[Kept(store=store, name=name) for name in names])
    return ImagePass(benches=benches, scored=scored, half_b=torch.cat(pieces[1::2]))


def _score(
    material: Material,
    benches: Mapping[str, Bench],
    rows: Int[Tensor, " row"],
    wrong: Int[Tensor, " image"],
    *,
    keep: bool,
    controls: bool,
    progress: Progress,
    label: str,
) -> dict[str, Tensor]:
    subject, shares = material.subject, material.shares
    tally = Tally(benches, n_units=len(rows), keep=keep, controls=controls, headline=MARGIN)
    with progress.task(label, len(rows), "images") as advance:
        for here in torch.arange(len(rows)).split(IMAGES_PER_PASS):
            batch = material.batch(material.held_out, rows[here])
            foreign = wrong[rows[here]].to(batch.labels.device)
            energies = _energies(batch.labels, foreign, shares.to(batch.labels.device))
            found = class_slopes(subject, batch, list(benches), energies)
            tally.append("energy", class_energy(found.logits, batch.labels).double())
            tally.append("right", found.logits.argmax(1) == batch.labels)
            for site in benches:
                states = found.states[site]
                every = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
                places = Places(scored=every, document=here.to(states.device))
                counted = tally.site(site, places, states, found.gradients[MARGIN][site])
                for name in (CLASS_ENERGY, WRONG_LABELS):
                    tally.energy(site, name, counted, found.gradients[name][site])
                if keep:
                    slope = found.gradients[CLASS_ENERGY][site]
                    tally.append(f"{site}/{CLASS_ENERGY}/slope", slope)
            advance(len(here))
    return tally.tensors()


def _energies(
    labels: Tensor, wrong: Tensor, shares: Tensor
) -> dict[str, Callable[[Tensor], Tensor]]:
    return {
        CLASS_ENERGY: lambda logits: class_energy(logits, labels),
        MARGIN: lambda logits: class_margin(logits, labels, shares),
        WRONG_LABELS: lambda logits: class_margin(logits, wrong, shares),
    }


def infer_images(
    trained: ImagePass, control: ImagePass | None, *, draws: int, seed: int
) -> Inference:
    """Both energies and every control, each a family over all layers."""
    benches, scored = trained.benches, trained.scored

    def family(name: str, kind: str = "dictionary", *, code: str = "") -> dict[str, SiteScores]:
        return score_sites(benches, scored, name, kind, code=code, draws=draws, seed=seed)

    energies = {MARGIN: family(MARGIN), CLASS_ENERGY: family(CLASS_ENERGY)}
    controls = {
        PERMUTED: family(PERMUTED, "permuted"),
        RANDOM: family(RANDOM, "random", code=RANDOM),
        OTHER_IMAGE: family(OTHER, code=OTHER),
        WRONG_LABELS: family(WRONG_LABELS),
    }
    if control is not None:
        controls[RANDOM_WEIGHTS] = score_sites(
            control.benches, control.scored, MARGIN, "dictionary", draws=draws, seed=seed
        )
    return Inference(
        energies=energies, controls=controls, headline_name=MARGIN, unit="image",
        replicated=agreement(benches, scored, energies[MARGIN], MARGIN),
    )  # fmt: skip
