import math

import numpy as np
import pytest
import torch

from energylens.dynamics.original import (
    convergence_order,
    coordination,
    critical_increments,
    falling_loss_share,
    first_quiet_window,
    global_z_jumps,
    jump_types,
    layer_index,
    phase_category,
    speeds,
)
from tests.common.compare import assert_close
from tests.oracles import original_ndt as oracle


def _series(kind: str, samples: int = 120) -> torch.Tensor:
    """Six series: constant up to rounding, as the original's, or an ordinary walk."""
    walk = np.random.default_rng(3).normal(size=(6, samples)).cumsum(axis=1)
    if kind == "walk":
        return torch.from_numpy(20 + walk)
    size = np.array([1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0])[:, None] * (30 + walk) ** 2
    return torch.from_numpy(size / (size + 1e-10))


@pytest.mark.parametrize("kind", ["walk", "nearly constant"])
def test_every_definition_agrees_with_its_oracle(kind: str) -> None:
    values = _series(kind)
    rows = values.tolist()
    loss = torch.from_numpy(np.random.default_rng(4).normal(size=120))
    hits = global_z_jumps(values)
    critical = critical_increments(values)
    for found, row in zip(hits, rows, strict=True):
        assert found.nonzero()[:, 0].tolist() == oracle.jumps(row)
    for order in (1, 2):
        for found, row in zip(critical_increments(values, order=order), rows, strict=True):
            assert found.nonzero()[:, 0].tolist() == oracle.critical(row, order)
    assert_close(
        speeds(values),
        torch.tensor([[oracle.speed(row, i) for i in range(119)] for row in rows]).double(),
    )
    assert first_quiet_window(values).tolist() == [oracle.first_quiet(row) for row in rows]
    steps = [found.nonzero()[:, 0].tolist() for found in critical]
    assert coordination(critical).tolist() == oracle.coordination(steps, 120)
    assert falling_loss_share(critical, loss) == pytest.approx(
        oracle.falling_share(steps, loss.tolist()), abs=1e-14
    )


def test_counts_on_values_constant_up_to_rounding_are_those_of_the_single_series() -> None:
    values = _series("nearly constant", samples=400)
    alone = torch.cat([global_z_jumps(row[None]) for row in values])
    assert torch.equal(global_z_jumps(values), alone)
    assert int(alone.sum()) > 0


def test_gaussian_noise_without_a_jump_fires_at_its_tail() -> None:
    noise = torch.randn(400, 401, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fired = global_z_jumps(noise).double().mean().item()
    # Increments of white noise are Gaussian too.
    assert fired == pytest.approx(math.erfc(math.sqrt(2)), abs=0.002)


def test_the_deviation_is_that_of_the_increments_themselves() -> None:
    steps = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.3, 0.3, 1.0]]).double().cumsum(1)
    # 2.07 of their deviations from the mean, and 1.89 of an estimate with one degree less.
    assert global_z_jumps(steps).nonzero()[:, 1].tolist() == [5]


def test_a_constant_series_an_undefined_one_and_a_short_one_have_no_jump() -> None:
    undefined = torch.randn(1, 30, dtype=torch.float64)
    undefined[0, 7] = torch.nan
    for values in (torch.ones(2, 30), undefined, torch.tensor([[0.0, 9.0]])):
        assert not global_z_jumps(values).any()


def test_a_quiet_window_at_the_very_end_is_never_seen() -> None:
    loud = torch.tensor([1.0, 9.0]).repeat(20)
    ending = torch.cat([loud, torch.full((20,), 5.0)])
    assert first_quiet_window(ending[None]).item() != 40
    assert first_quiet_window(torch.ones(1, 20)).item() == -1
    assert first_quiet_window(torch.ones(1, 21)).item() == 0


@pytest.mark.parametrize(
    ("stabilised", "pattern"),
    [
        ([0, 10, 20, 30], "bottom-up"),
        ([30, 20, 10, 0], "top-down"),
        ([0, 0, 0, 0], "unclear"),
        ([-1, -1, 5, 9], "simultaneous"),
        ([10, 0, 30, 20], "unclear"),
    ],
)
def test_the_order_of_layers_is_named_as_the_original_named_it(
    stabilised: list[int], pattern: str
) -> None:
    names = [f"network.{2 * k}" for k in range(4)]
    assert convergence_order(names, torch.tensor(stabilised)).pattern == pattern


def test_correlation_of_the_order_is_that_of_the_oracle() -> None:
    names = [f"network.{k}" for k in (0, 10, 2, 4, 6, 8)]
    stabilised = [5, 80, 3, 3, 40, 12]
    found = convergence_order(names, torch.tensor(stabilised))
    assert found.rho == pytest.approx(oracle.spearman([layer_index(n) for n in names], stabilised))
    every_transformer_layer = [f"transformer.layers.{k}.linear1" for k in range(4)]
    assert math.isnan(convergence_order(every_transformer_layer, torch.arange(4)).rho)


def test_phases_are_cut_at_a_third_and_two_thirds() -> None:
    assert [phase_category(p) for p in (0.3299, 0.33, 0.6699, 0.67)] == [
        "early", "mid", "mid", "late",
    ]  # fmt: skip


def test_types_grow_by_tens_of_jumps_up_to_five() -> None:
    generator = torch.Generator().manual_seed(1)
    for jumps, types in ((1, 1), (9, 1), (10, 2), (29, 3), (200, 5)):
        features = torch.rand(3, jumps, generator=generator, dtype=torch.float64)
        assert jump_types(*features).unique().tolist() == list(range(types))
    assert jump_types(*torch.zeros(3, 0)).tolist() == []


def test_types_come_from_phase_size_and_speed_on_equal_scales() -> None:
    phase = torch.tensor([0.01] * 20 + [0.9] * 20, dtype=torch.float64)
    tiny = torch.linspace(1e-12, 1.1e-12, 40, dtype=torch.float64)
    types = jump_types(phase, tiny, tiny.flip(0))
    assert set(types[:20].tolist()).isdisjoint(types[20:].tolist())
