import math

import pytest
import torch

from energylens.core.errors import BadInput
from energylens.dynamics.order import Pattern, order_of_settling


def judged(steps, generator, censored=None, num_steps=2000, **options):
    settled = torch.tensor(steps, dtype=torch.float64)
    mark = settled.isnan() if censored is None else torch.tensor(censored)
    depth = torch.linspace(0, 1, len(steps))
    return order_of_settling(settled, mark, depth, num_steps, generator, **options)


@pytest.mark.parametrize("sites", [6, 12])
def test_planted_orders_are_found(sites, generator):
    steps = [100.0 * (i + 1) for i in range(sites)]
    assert judged(steps, generator).pattern == Pattern.BOTTOM_UP
    assert judged(steps[::-1], generator).pattern == Pattern.TOP_DOWN
    assert judged([500.0 + 5 * (i % 3) for i in range(sites)], generator).pattern == (
        Pattern.SIMULTANEOUS
    )


def test_no_order_is_not_simultaneous(generator):
    found = judged([900.0, 100, 1500, 300, 1100, 250], generator)
    assert found.p > 0.05 and abs(found.rho) < 0.3
    assert found.pattern == Pattern.UNCLEAR


def test_few_sites_cannot_be_told_apart(generator):
    found = judged([100.0, 500, 900, 1800], generator)
    assert found.rho == 1 and found.p == 2 / 24
    assert found.pattern == Pattern.UNCLEAR


def test_a_censored_site_settles_last_and_is_never_simultaneous(generator):
    steps = [100.0, 200, 300, 400, math.nan, math.nan]
    found = judged(steps, generator)
    assert found.pattern == Pattern.BOTTOM_UP and math.isnan(found.spread)
    assert judged([5.0, 5, 5, 5, 5, math.nan], generator).pattern == Pattern.UNCLEAR
    never = judged([math.nan] * 5, generator)
    assert never.pattern == Pattern.UNCLEAR and math.isnan(never.rho)


def test_all_at_one_step_are_simultaneous_though_rho_is_undefined(generator):
    found = judged([0.0] * 5, generator)
    assert math.isnan(found.rho) and found.spread == 0
    assert found.pattern == Pattern.SIMULTANEOUS


def test_chance_orders_are_called_so_one_time_in_twenty(generator):
    patterns = []
    for _ in range(400):
        steps = (2000 * torch.rand(9, generator=generator)).tolist()
        patterns.append(judged(steps, generator, draws=99).pattern)
    ordered = sum(p in (Pattern.BOTTOM_UP, Pattern.TOP_DOWN) for p in patterns) / 400
    assert 0.025 <= ordered <= 0.08
    assert Pattern.SIMULTANEOUS not in patterns


def test_bad_input_is_refused(generator):
    with pytest.raises(BadInput, match="0 steps"):
        judged([1.0, 2, 3], generator, num_steps=0)
