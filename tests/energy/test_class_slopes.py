"""The margin, its null, and the slopes of classifiers against finite differences."""

import torch

from energylens.activations.images import ImageBatch
from energylens.activations.subject import Subject
from energylens.energy.class_intervention import log_probabilities, measure_class_effects
from energylens.energy.energies.class_energy import class_energy, class_margin, class_slopes
from energylens.energy.intervention import Step
from energylens.sources.model import load_classifier
from energylens.sources.small_classifiers import small_classifier
from tests.common.compare import assert_close


def subject_and_batch(generator: torch.Generator) -> tuple[Subject, ImageBatch]:
    module = small_classifier("cnn", (1, 6, 6), 4, generator).double()
    batch = ImageBatch(
        pixels=torch.randn(5, 1, 6, 6, generator=generator, dtype=torch.float64),
        labels=torch.tensor([0, 3, 1, 2, 3]), document=torch.arange(5),
    )  # fmt: skip
    return Subject(loaded=load_classifier(module), sites={}), batch


def test_slopes_are_those_of_finite_differences(generator):
    subject, batch = subject_and_batch(generator)
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    energies = {
        "class": lambda logits: class_energy(logits, batch.labels),
        "margin": lambda logits: class_margin(logits, batch.labels, shares),
    }
    for site in ("conv1:out", "hidden1:out"):
        found = class_slopes(subject, batch, [site], energies)
        way = torch.randn(found.states[site].shape, generator=generator, dtype=torch.float64)
        up, down = (
            log_probabilities(subject, batch, site, lambda h, s=s, way=way: h + s * 1e-6 * way)
            for s in (1, -1)
        )
        for name, energy in energies.items():
            slope = (found.gradients[name][site] * way).sum((1, 2))
            assert_close((energy(up) - energy(down)) / 2e-6, slope, rtol=1e-5, atol=1e-8)


def test_the_margin_has_mean_zero_over_labels_dealt_out(generator):
    logits = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    shares = torch.bincount(labels).double() / 6
    every = torch.stack([class_margin(logits, labels.roll(k), shares) for k in range(6)])
    assert_close(every.mean(0), torch.zeros(6, dtype=torch.float64), atol=1e-12)


def test_an_effect_is_the_difference_of_two_runs(generator):
    subject, batch = subject_and_batch(generator)
    toward = torch.randn(16, generator=generator, dtype=torch.float64)
    step = Step(window=2, positions=torch.tensor([4, 9]), direction=toward,
                change=torch.tensor([0.5, -2.0], dtype=torch.float64))  # fmt: skip
    found = measure_class_effects(subject, "conv1:out", batch, [step, step], rows=1)

    def by_hand(states: torch.Tensor) -> torch.Tensor:
        states = states.clone()
        states[0, 4] += 0.5 * toward
        states[0, 9] -= 2.0 * toward
        return states

    one = batch.take(torch.tensor([2]))
    before = log_probabilities(subject, one, "conv1:out")
    after = log_probabilities(subject, one, "conv1:out", by_hand)
    assert_close(found.log_probability[1:], after - before, rtol=1e-9)
    assert_close(found.energy[0], (before - after)[0, 1])
    kl = (before.exp() * (before - after)).sum()
    assert_close(found.divergence[0], kl)
    assert measure_class_effects(subject, "conv1:out", batch, []).energy.shape == (0,)
