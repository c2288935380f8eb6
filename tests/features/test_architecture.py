"""What every architecture owes, whichever it is."""

import pytest
import torch

from energylens.features.architecture import ARCHITECTURES
from energylens.features.dictionary import Dictionary
from tests.common.compare import assert_close
from tests.features.planted import random_weights

NAMES = sorted(ARCHITECTURES)


def _dictionary(name: str, generator: torch.Generator) -> Dictionary:
    weights = random_weights(generator, width=48, d=9)
    return Dictionary(architecture=name, k=6, **weights)


def _permuted(dictionary: Dictionary, order: torch.Tensor) -> Dictionary:
    return Dictionary(
        architecture=dictionary.architecture,
        k=dictionary.k,
        W_enc=dictionary.W_enc[order],
        b_enc=dictionary.b_enc[order],
        W_dec=dictionary.W_dec[order],
        b_dec=dictionary.b_dec,
    )


@pytest.mark.parametrize("name", NAMES)
def test_renumbering_features_renumbers_code_and_gradients(name, generator):
    dictionary = _dictionary(name, generator)
    order = torch.randperm(48, generator=generator)
    other = _permuted(dictionary, order)
    x = torch.randn(30, 9, generator=generator, dtype=torch.float64)
    assert_close(other.encode(x).dense(), dictionary.encode(x).dense()[:, order])
    assert_close(other.reconstruct(x), dictionary.reconstruct(x))
    step, renumbered = (ARCHITECTURES[name].step(d, x, 1.0) for d in (dictionary, other))
    assert_close(renumbered.W_enc, step.W_enc[order])
    assert_close(renumbered.W_dec, step.W_dec[order])


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_encoded_each_on_its_own(name, generator):
    dictionary = _dictionary(name, generator)
    x = torch.randn(30, 9, generator=generator, dtype=torch.float64)
    order = torch.randperm(30, generator=generator)
    assert_close(dictionary.encode(x[order]).dense(), dictionary.encode(x).dense()[order])
    assert_close(dictionary.encode(x[:1]).dense(), dictionary.encode(x).dense()[:1])


@pytest.mark.parametrize("name", NAMES)
def test_code_has_at_most_k_positive_entries(name, generator):
    code = _dictionary(name, generator).encode(
        torch.randn(30, 9, generator=generator, dtype=torch.float64)
    )
    assert code.values.shape[1] == 6
    assert bool((code.values >= 0).all())


@pytest.mark.parametrize("name", NAMES)
def test_step_reports_the_code_and_what_it_leaves_over(name, generator):
    dictionary = _dictionary(name, generator)
    x = torch.randn(30, 9, generator=generator, dtype=torch.float64)
    step = ARCHITECTURES[name].step(dictionary, x, 2.0)
    assert_close(step.residual, x - dictionary.reconstruct(x))
    assert_close(step.code.dense(), dictionary.encode(x).dense())
    assert_close(step.loss, step.residual.square().sum(1).mean() / 2.0)
