"""Tuned lens: gradients, and translators that are known in advance."""

import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.energy.energies.tuned import Translator, tuned
from energylens.energy.lens_gradients import lens_energies
from energylens.energy.translators import (
    TranslatorOptions,
    divergences,
    fit_translator,
    least_squares,
)
from tests.activations.models import subject, tokens
from tests.common.compare import assert_close

STEP = 1e-5


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_tuned_gradients_are_those_of_finite_differences():
    found, targets = subject(), tokens(7)
    translator = Translator(A=drawn(32, 32) / 6, b=drawn(32, seed=1))
    states, direction = drawn(7, 32, seed=2), drawn(7, 32, seed=3)
    energy = lambda h: tuned(h, targets, found.lens, translator)
    read = lens_energies(translator(states), targets, found.final_norm, found.unembed,
                         names=("surprisal",))  # fmt: skip
    assert_close(read.value["surprisal"], energy(states), rtol=1e-12)
    along = (translator.pull(read.gradient["surprisal"]) * direction).sum(1)
    expected = (energy(states + STEP * direction) - energy(states - STEP * direction)) / (2 * STEP)
    assert_close(along, expected, rtol=1e-6, atol=1e-8)


def test_a_linear_network_is_translated_exactly():
    found, hidden = subject(), drawn(400, 32)
    A, b = drawn(32, 32, seed=1), drawn(32, seed=2)
    final = hidden @ A.T + b
    options = TranslatorOptions(ridge=1e-12, steps=0)
    fitted = fit_translator(hidden, final, found.final_norm, found.unembed, options,
                            generator=torch.Generator())  # fmt: skip
    assert_close(fitted.A, A, atol=1e-6)
    assert_close(fitted.b, b, atol=1e-6)
    assert fitted.kl < 1e-9 < fitted.kl_untuned


def test_steps_bring_the_lens_closer_to_the_model():
    # Rows of very unequal size: least squares serves the large ones, the lens reads all alike.
    found, hidden = subject(), drawn(1200, 32) * drawn(1200, 1, seed=3).exp()
    final = torch.relu(hidden @ drawn(32, 32, seed=1).T)
    kl = [
        fit_translator(hidden, final, found.final_norm, found.unembed,
                       TranslatorOptions(steps=steps, lr=0.003),
                       generator=torch.Generator().manual_seed(0)).kl
        for steps in (0, 60)
    ]  # fmt: skip
    assert kl[1] < 0.9 * kl[0]


def test_least_squares_is_the_textbook_solution():
    x, y = drawn(60, 5), drawn(60, 5, seed=1)
    fitted = least_squares(x, y, ridge=0.0)
    design = torch.cat([x, torch.ones(60, 1, dtype=torch.float64)], dim=1)
    expected = torch.linalg.lstsq(design, y).solution.T
    assert_close(torch.cat([fitted.A, fitted.b[:, None]], dim=1), expected, atol=1e-10)


def test_divergence_of_the_model_from_itself_is_zero():
    found, final = subject(), drawn(20, 32)
    same = Translator(A=torch.eye(32, dtype=torch.float64), b=torch.zeros(32, dtype=torch.float64))
    other = Translator(A=2 * same.A, b=same.b + 1)
    kl = divergences([same, other, same], final, final, found.final_norm, found.unembed)
    assert_close(kl[::2], [0.0, 0.0], atol=1e-12)
    assert kl[1] > 0.01


def test_too_few_rows_and_unequal_ones_are_refused():
    found = subject()
    rest = {"options": TranslatorOptions(steps=0), "generator": torch.Generator()}
    with pytest.raises(InsufficientData, match="72 rows"):
        fit_translator(drawn(50, 32), drawn(50, 32), found.final_norm, found.unembed, **rest)
    with pytest.raises(BadInput, match="same tokens"):
        fit_translator(drawn(80, 32), drawn(70, 32), found.final_norm, found.unembed, **rest)
