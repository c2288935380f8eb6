import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.dynamics.selectivity import (
    class_d_prime,
    class_selectivity,
    class_variance_share,
    selectivity_test,
)
from tests.common.compare import assert_close
from tests.oracles import mechanisms as oracle

ALL = {"index": class_selectivity, "d_prime": class_d_prime, "eta": class_variance_share}


def made(generator, samples=60, neurons=7, classes=4):
    labels = torch.randint(classes, (samples,), generator=generator)
    x = torch.randn(samples, neurons, generator=generator, dtype=torch.float64).square()
    x[:, 0] += 3.0 * (labels == 2)
    return x, labels


def test_all_are_those_of_slow_loops(generator):
    x, labels = made(generator)
    expected = oracle.selectivity(x.numpy(), labels.numpy())
    for name, selectivity in ALL.items():
        assert_close(selectivity(x, labels), expected[name])


def test_a_neuron_for_one_class_alone_is_at_the_end():
    labels = torch.arange(3).repeat_interleave(4)
    x = (labels == 1).double()[:, None]
    assert_close(class_selectivity(x, labels), [1.0])
    assert_close(class_variance_share(x, labels), [1.0])
    assert class_d_prime(x, labels).isnan()  # no spread to measure it in


def test_d_prime_of_two_normals_is_their_distance(generator):
    labels = torch.arange(2).repeat_interleave(50_000)
    x = torch.randn(100_000, 1, generator=generator, dtype=torch.float64) * 2 + 100
    x[:, 0] += 3.0 * labels
    assert_close(class_d_prime(x, labels), [1.5], rtol=0.02)


def test_what_does_not_matter_does_not(generator):
    x, labels = made(generator)
    order = torch.randperm(len(x), generator=generator)
    renamed = torch.tensor([40, 7, -3, 11])[labels]
    for selectivity in ALL.values():
        assert_close(selectivity(5 * x[order], renamed[order]), selectivity(x, labels))
    for selectivity in (class_d_prime, class_variance_share):
        assert_close(selectivity(x + 1e4, labels), selectivity(x, labels), rtol=1e-5)


def test_permuted_labels_give_the_known_mean_and_keep_the_level(generator):
    labels = torch.arange(5).repeat_interleave(8)
    x = torch.randn(40, 600, generator=generator).exp()
    test = selectivity_test(class_variance_share, x, labels, draws=199, generator=generator)
    assert_close(test.null_mean.mean(), 4 / 39, rtol=0.01)
    for selectivity in ALL.values():
        p = selectivity_test(selectivity, x, labels, draws=199, generator=generator).p
        assert 0.03 < (p <= 0.05).double().mean() < 0.075  # 600 neurons: ± 2.5 sd


def test_a_selective_neuron_is_found_among_others(generator):
    x, labels = made(generator, samples=200, neurons=20)
    for selectivity in ALL.values():
        p = selectivity_test(selectivity, x, labels, draws=199, generator=generator).p
        assert p[0] == 1 / 200 and (p[1:] <= 0.05).sum() <= 4


def test_neurons_that_never_fire_are_undefined_in_all(generator):
    x, labels = made(generator)
    x[:, 3] = 0
    for selectivity in ALL.values():
        test = selectivity_test(selectivity, x, labels, draws=20, generator=generator)
        assert test.observed[3].isnan() and test.p[3].isnan()
        assert test.p.isfinite().sum() == 6
    x[:, 3] = 1e8 + 1e-8 * x[:, 4]  # constant up to rounding
    assert class_variance_share(x, labels)[3].isnan()


def test_negative_activations_have_no_index(generator):
    x, labels = made(generator)
    assert class_selectivity(x - 1, labels).isnan().all()


def test_labels_that_do_not_fit_are_refused(generator):
    x, labels = made(generator)
    with pytest.raises(BadInput, match="60 samples came with 59 labels"):
        class_selectivity(x, labels[1:])
    with pytest.raises(InsufficientData, match="found 1 classes"):
        class_d_prime(x, torch.zeros_like(labels))
    with pytest.raises(InsufficientData, match="the smallest of 1"):
        class_variance_share(x, torch.tensor([1] + [0] * 59))
