"""The order of the parts; each is saved when done, so a killed run resumes."""

from collections.abc import Callable
from dataclasses import replace

import torch

from energylens.activations.subject import Subject
from energylens.core.ports import Progress, Store
from energylens.results.record import Summary
from energylens.sources.model import random_weights_like
from energylens.studies.energy_lens.dictionaries import TRAINED
from energylens.studies.energy_lens_classifier import EnergyLensClassifier
from energylens.studies.energy_lens_classifier.finding import summarise
from energylens.studies.energy_lens_classifier.material import Material, gather
from energylens.studies.energy_lens_classifier.proof import change_accuracy, prove_images
from energylens.studies.energy_lens_classifier.scoring import (
    ImagePass,
    infer_images,
    score_images,
)
from energylens.studies.energy_lens_classifier.tables import image_tables

RANDOM_WEIGHTS = "random_weights"


def run(
    options: EnergyLensClassifier, *, store: Store, progress: Progress, say: Callable[[str], None]
) -> Summary:
    """Energy-lens of a classifier: dictionaries, energies, alignment, proof, controls."""
    torch.set_num_threads(options.threads or torch.get_num_threads())
    material = gather(options, store, progress, say)
    say(f"scoring {len(material.held_out):,} held-out images at {', '.join(material.sites)}")
    trained = score_images(material, store, model=TRAINED, seed=options.seed, progress=progress)
    prove_images(material, trained, options, store, progress)
    change_accuracy(material, trained, options, store, progress)
    control = _control(material, options, store, progress) if options.random_weights else None
    say("testing every feature against its nulls")
    inference = infer_images(trained, control, draws=options.draws, seed=options.seed)
    tables = image_tables(material, trained, control, inference, store, options)
    summary = summarise(material, inference, tables, options)
    store.save("tables", tables=tables)
    return summary


def _control(
    material: Material, options: EnergyLensClassifier, store: Store, progress: Progress
) -> ImagePass:
    """The same scoring on a network that has learned nothing, on half of the images."""
    generator = torch.Generator().manual_seed(options.seed + 3)
    empty = random_weights_like(material.subject.loaded, generator)
    half = torch.arange(0, len(material.train), 2)
    held_half = torch.arange(0, len(material.held_out), 2)
    control = replace(
        material, subject=Subject(loaded=empty, sites={}), train=material.train.take(half),
        held_out=material.held_out.take(held_half),
    )  # fmt: skip
    return score_images(control, store, model=RANDOM_WEIGHTS, seed=options.seed, progress=progress)
