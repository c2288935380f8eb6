import pytest
import torch

from energylens.core.errors import InsufficientData
from energylens.stats.permutation import permutation_test
from tests.common.compare import assert_close


def covariance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return ((x - x.mean()) * (y - y.mean())).sum()


def test_the_level_holds_where_nothing_is_shared():
    fired = 0
    for seed in range(400):
        g = torch.Generator().manual_seed(seed)
        x, y = torch.randn(2, 12, generator=g)
        found = permutation_test(
            covariance(x, y), lambda g: covariance(x, y[torch.randperm(12, generator=g)]),
            draws=39, generator=g,
        )  # fmt: skip
        fired += bool(found.p <= 0.05)
    assert 10 <= fired <= 32  # 5 % of 400 is 20


def test_mean_spread_and_p_are_those_of_the_draws():
    drawn = iter([torch.tensor([float(i), torch.nan if i % 2 else 1.0]) for i in range(20)])
    found = permutation_test(
        torch.tensor([17.5, 5.0]), lambda g: next(drawn), draws=20, generator=torch.Generator()
    )
    known = torch.arange(20, dtype=torch.float64)
    assert_close(found.null_mean, torch.tensor([known.mean(), 1.0], dtype=torch.float64))
    assert_close(found.null_sd, torch.tensor([known.std(), 0.0], dtype=torch.float64))
    assert_close(found.p, torch.tensor([3 / 21, 1 / 11], dtype=torch.float64))


def test_what_is_undefined_has_no_p():
    found = permutation_test(
        torch.tensor(torch.nan), lambda g: torch.rand((), generator=g), draws=20,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert found.p.isnan()


def test_too_few_draws_are_refused():
    with pytest.raises(InsufficientData, match="20 draws, got 5"):
        permutation_test(torch.tensor(0.0), lambda g: torch.tensor(0.0), draws=5,
                         generator=torch.Generator())  # fmt: skip
