import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.dynamics.jump_types import _silhouette, jump_types
from tests.common.compare import assert_close
from tests.oracles import events as oracle


def planted(each, generator):
    """Early, large and fast ones near the output, and late, small and slow ones near the input."""
    kinds = torch.tensor([[0.05, 2.0, 0.1, 0.9], [0.8, 0.1, 0.001, 0.1]])
    x = kinds.repeat_interleave(each, dim=0)
    return x * (0.15 * torch.randn(x.shape, generator=generator)).exp()


def correlated(number, generator):
    """No types: the fast ones are large, smoothly."""
    size = torch.randn(number, generator=generator)
    speed = 0.9 * size + 0.3 * torch.randn(number, generator=generator)
    phase, depth = torch.rand(2, number, generator=generator)
    return torch.stack([phase, size.exp(), speed.exp(), depth], dim=1)


def test_planted_types_are_found_and_told_by_their_centroids(generator):
    found = jump_types(planted(30, generator), generator, draws=19, samples=3)
    assert found.beyond_chance and found.sizes == (30, 30)
    assert found.label.tolist() == [0] * 30 + [1] * 30
    early, late = found.descriptions
    assert early.startswith("early (5 %") and "large (2" in early and "near the output" in early
    assert late.startswith("late (") and "small (0.1)" in late and "slow" in late
    assert_close(found.centroids[0], [0.05, 2.0, 0.1, 0.9], rtol=0.15)
    assert found.stability.min() > 0.95 and found.agreement > 0.95


def test_the_numbers_of_clusters_mean_nothing(generator):
    x = planted(30, generator)
    found = jump_types(x.flip(0), generator, draws=19, samples=2)
    assert found.label.tolist() == [1] * 30 + [0] * 30


def test_what_is_merely_correlated_has_no_types(generator):
    """Dealing the features out anew alone would call it two types nearly always."""
    found = [jump_types(correlated(60, generator), generator, most=3, draws=19, samples=1)
             for _ in range(8)]  # fmt: skip
    assert sum(types.p <= 0.05 for types in found) >= 6
    assert sum(types.beyond_chance for types in found) <= 2


def test_silhouettes_are_those_of_the_definition(generator):
    x = torch.randn(25, 4, generator=generator, dtype=torch.float64)
    clusters = torch.randint(0, 3, (25,), generator=generator)
    clusters[7] = 3  # alone
    slow = oracle.silhouette(x.numpy(), clusters.tolist())
    assert_close(_silhouette(torch.cdist(x, x), clusters), slow)


def test_a_jump_that_lacks_a_feature_has_no_type(generator):
    x = planted(15, generator)
    x[3, 1], x[20, 2] = torch.nan, 0.0
    found = jump_types(x, generator, draws=19, samples=2)
    assert (found.label == -1).nonzero()[:, 0].tolist() == [3, 20]
    assert sum(found.sizes) == 28


def test_bad_input_is_refused(generator):
    with pytest.raises(InsufficientData, match="got 10 and 99"):
        jump_types(planted(5, generator), generator)
    with pytest.raises(BadInput, match="phase, size, speed, depth, got 3 columns"):
        jump_types(torch.ones(30, 3), generator)
