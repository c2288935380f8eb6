import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.dynamics.jumps import JumpOptions, find_jumps
from tests.common.compare import assert_close

SAMPLES = 160
STEPS = 10 * torch.arange(SAMPLES)
AT = 90
QUICK = JumpOptions(draws=99)


def _series(*sizes):
    """White noise, with a step of each size at sample 90."""
    g = torch.Generator().manual_seed(1)
    noise = torch.randn(len(sizes), SAMPLES, generator=g, dtype=torch.float64)
    return noise + torch.tensor(sizes)[:, None] * (torch.arange(SAMPLES) >= AT)


def _found(values, seed=0, **options):
    g = torch.Generator().manual_seed(seed)
    return find_jumps(values, STEPS, g, options=QUICK, **options)


def test_a_step_is_dated_in_training_steps_with_its_size():
    found = _found(_series(6.0, 0.0, -8.0))
    assert found.series.tolist() == [0, 2] and found.kind.tolist() == [0, 0]
    assert bool((found.low <= 10 * AT).all() and (found.high >= 10 * AT).all())
    assert bool(((found.step - 10 * AT).abs() <= 20).all())
    assert_close(found.amplitude, torch.tensor([6.0, -8.0]), atol=1.0)
    assert bool((found.p < 1e-3).all() and (found.q < 0.01).all())
    assert_close(found.q, found.series_q[found.series])
    assert found.undefined == 0


def test_the_unit_of_a_series_and_a_line_do_not_matter():
    values = _series(6.0, 5.0)
    found = _found(values)
    other = _found(1e-4 * values + 3 + 2e-3 * torch.arange(SAMPLES))
    assert found.step.tolist() == other.step.tolist()
    assert_close(other.amplitude, 1e-4 * found.amplitude, rtol=1e-3)
    assert bool(((other.p / found.p).log().abs() < 0.3).all())


def test_single_precision_is_enough():
    values = _series(6.0) + 100
    assert _found(values.float()).step.tolist() == _found(values).step.tolist()


def test_the_same_generator_gives_the_same():
    values = _series(3.0, 0.0)
    assert_close(_found(values).series_p, _found(values).series_p)
    assert not torch.equal(_found(values, seed=1).series_p, _found(values).series_p)


def test_what_cannot_be_judged_is_undefined_and_counted():
    values = _series(6.0, 0.0, 0.0, 0.0, 0.0)
    values[1, 7] = torch.nan
    values[2] = 4.0
    values[3] = 1 + torch.exp(-torch.arange(SAMPLES, dtype=torch.float64) / 30)  # smooth
    values[4, 3] = torch.inf
    found = _found(values)
    assert found.series.tolist() == [0]
    assert found.series_p.isnan().tolist() == [False, True, True, True, True]
    assert found.correlation.isnan().tolist() == [False, True, True, True, True]
    assert found.undefined == 4


def test_where_nothing_can_be_judged_there_is_nothing():
    found = _found(torch.ones(2, SAMPLES))
    assert len(found.series) == 0 and found.undefined == 2
    empty = _found(torch.empty(0, SAMPLES))
    assert len(empty.step) == 0 and empty.undefined == 0


def test_a_step_without_noise_is_found():
    values = torch.zeros(1, SAMPLES, dtype=torch.float64)
    values[0, AT:] = 1
    found = _found(values)
    assert found.step.tolist() == [10 * AT]
    assert_close(found.amplitude, torch.tensor([1.0]), atol=1e-2)


def test_a_rise_has_its_width():
    away = torch.arange(SAMPLES) - AT
    rise = 30 * torch.sigmoid(away / 5.0)  # 22 samples from 10 to 90 %
    found = _found(_series(0.0) + rise)
    assert len(found.step) == 1 and 150 <= found.width[0] <= 320
    assert found.low[0] <= 10 * AT <= found.high[0]


def test_a_change_of_slope_is_one_of_slope():
    bent = 0.4 * (torch.arange(SAMPLES) - AT).clamp(min=0)
    found = _found(_series(0.0) + bent)
    assert 1 in found.kind.tolist()
    slope = found.amplitude[found.kind == 1][0].item()
    assert 0.02 < slope < 0.06  # a training step is a tenth of a sample
    without = find_jumps(_series(0.0) + bent, STEPS, torch.Generator(),
                         options=JumpOptions(draws=99, slopes=False))  # fmt: skip
    assert 1 not in without.kind.tolist()


def test_a_jump_must_exceed_the_noise_of_the_measurement():
    values = _series(6.0, 6.0)
    found = _found(values, noise=torch.tensor([1.0, 5.0]))
    assert found.series.tolist() == [0]


def test_each_family_has_its_own_false_discoveries():
    values = _series(*[0.0] * 8)
    one = _found(values)
    each = _found(values, families=torch.arange(8))
    assert_close(each.series_q, each.series_p)
    assert bool((one.series_q >= one.series_p).all())
    halves = _found(values, families=torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]))
    assert bool((halves.series_q <= one.series_q.amax()).all())


def test_bad_input_is_refused_in_a_sentence():
    g = torch.Generator()
    with pytest.raises(InsufficientData, match="40 samples or more, got 39"):
        find_jumps(torch.ones(1, 39), torch.arange(39), g)
    with pytest.raises(BadInput, match="as many steps, got 159"):
        find_jumps(_series(0.0), STEPS[1:], g)
    with pytest.raises(BadInput, match="ascend"):
        find_jumps(_series(0.0), STEPS.flip(0), g)
