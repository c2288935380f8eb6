"""Selections that processes make together are those of torch on all numbers."""

import pytest
import torch

from energylens.core.ports import Solo
from energylens.features.selection import among_best, least_of_best, nth_largest
from tests.common.compare import assert_close


class Shard(Solo):
    """One of several processes, told beforehand what all of them gather."""

    def __init__(self, rank: int, everyone: list[torch.Tensor]) -> None:
        self.rank, self.world, self._everyone = rank, len(everyone), everyone

    def all_gather(self, value: torch.Tensor) -> torch.Tensor:
        assert torch.equal(value, self._everyone[self.rank])
        return torch.stack(self._everyone)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 2, 3000])
def test_the_nth_largest_is_that_of_sorting(generator, dtype, count):
    numbers = torch.randn(count, generator=generator).exp().to(dtype)
    numbers[count // 2 :] = numbers[: count - count // 2]  # equals
    ordered = numbers.sort(descending=True).values
    for n in {1, (count + 1) // 2, count}:
        assert_close(nth_largest(numbers, n), ordered[n - 1])


def test_numbers_of_any_size_are_told_apart():
    numbers = torch.tensor([1e-45, 3e38, 1.0, torch.inf, 1.0000001, 1e-20])
    ordered = numbers.sort(descending=True).values
    for n in range(1, 7):
        assert torch.equal(nth_largest(numbers, n), ordered[n - 1])


@pytest.mark.parametrize("k", [1, 4, 9])
def test_the_best_of_all_shards_are_those_of_all_scores(generator, k):
    scores = torch.randn(20, 12, generator=generator)
    scores[3] = 1.0  # all equal: still no more than k
    shards = list(scores.split(4, dim=1))
    kept = torch.cat([among_best(s, k, Shard(r, shards)) for r, s in enumerate(shards)], dim=1)
    assert kept.sum(1).tolist() == [k] * 20
    expected = torch.zeros(20, 12, dtype=torch.bool).scatter(1, scores.topk(k).indices, True)
    assert torch.equal(kept[4:], expected[4:])


def test_fewer_candidates_than_k_all_stay(generator):
    shards = [torch.randn(5, 2, generator=generator) for _ in range(2)]
    assert bool(among_best(shards[0], 7, Shard(0, shards)).all())


def test_the_least_of_the_best_counts_what_shards_lack(generator):
    own, other = torch.randn(6, 5, generator=generator), torch.randn(6, 1, generator=generator)
    filled = torch.cat([other, torch.full((6, 2), -torch.inf)], dim=1)
    shards = [own.topk(3, sorted=False).values, filled]
    expected = torch.cat([own, other], dim=1).topk(3).values[:, -1:]
    assert_close(least_of_best(own, 3, Shard(0, shards)), expected)
    assert_close(least_of_best(other, 3, Shard(1, shards)), expected)
    alone = least_of_best(own, 9, Solo())
    assert bool((alone == -torch.inf).all())
