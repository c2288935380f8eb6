from itertools import product

import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.event_contrast import event_contrast
from tests.common.compare import assert_close

TRAININGS = 3_000


def trainings(events: int, quiet: int, when: str, generator: torch.Generator) -> torch.Tensor:
    """Changes [event window training] that fall as 1 / time and know nothing of events."""
    shape = (events, quiet + 1, TRAININGS)

    def drawn(*size: int) -> torch.Tensor:
        return torch.rand(*size, generator=generator, dtype=torch.float64)

    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    if when == "no trend":
        return noise
    time = 0.05 + 0.95 * drawn(events, 1, TRAININGS)
    others = {
        "the same time": (time + 0.1 * (drawn(events, quiet, TRAININGS) - 0.5)).clamp(min=0.01),
        "any time": 0.05 + 0.95 * drawn(events, quiet, TRAININGS),
        "later": time + (1.05 - time) * drawn(events, quiet, TRAININGS),
    }[when]
    return (0.5 * noise).exp() / torch.cat([time, others], dim=1)


def covers(interval, value: float) -> float:
    return float(((interval.low <= value) & (interval.high >= value)).double().mean())


@pytest.mark.parametrize(("events", "quiet"), [(3, 3), (5, 3), (8, 2)])
@pytest.mark.parametrize("when", ["no trend", "the same time", "any time"])
def test_the_level_is_kept_and_intervals_cover(events, quiet, when, generator):
    found = event_contrast(trainings(events, quiet, when, generator), generator=generator)
    assert 0.035 < (found.p <= 0.05).double().mean() < 0.065
    assert covers(found.difference, 0.0) > 0.93
    assert covers(found.superiority, 0.5) > (0.88 if events < 5 else 0.90)


def test_events_beside_later_windows_would_fail_here(generator):
    """The simulation can fail a test: early changes are larger whatever happens."""
    found = event_contrast(trainings(5, 3, "later", generator), generator=generator)
    assert (found.p <= 0.05).double().mean() > 0.3


def test_the_family_keeps_its_error(generator):
    families = trainings(5, 3, "the same time", generator).split(10, dim=2)[:150]
    rejected = [
        bool((event_contrast(some, generator=generator).p_adjusted <= 0.05).any())
        for some in families
    ]
    assert sum(rejected) / len(families) < 0.1  # a coin of .05, 150 times: 2.8 sd


def test_p_is_that_of_all_ways_one_by_one(generator):
    values = torch.randn(4, 3, 5, generator=generator, dtype=torch.float64)
    windows = torch.tensor([3, 2, 3, 2])
    values[1, 2] = values[3, 2] = 1e9  # not there, so it must not matter
    found = event_contrast(values, windows=windows, generator=generator)
    null = []
    for pick in product(*(range(n) for n in windows.tolist())):
        apart = []
        for event, chosen in enumerate(pick):
            mine = values[event, : windows[event]]
            others = [w for w in range(len(mine)) if w != chosen]
            apart.append(mine[chosen] - mine[others].mean(0))
        null.append(torch.stack(apart).mean(0))
    sums = torch.stack(null)
    assert found.patterns == len(null) == 36
    assert_close(found.p, (sums.abs() >= sums[0].abs() - 1e-9).double().mean(0))
    assert_close(found.difference.estimate, sums[0])
    assert_close(found.null_sd, sums.std(0, correction=0))


def test_a_planted_effect_is_found_in_either_direction(generator):
    values = 0.1 * torch.randn(4, 3, 3, generator=generator, dtype=torch.float64)
    values[:, 0, 0] += 1.0
    values[:, 0, 1] -= 1.0
    found = event_contrast(values, generator=generator)
    assert (found.p_adjusted[:2] <= 0.05).all() and found.p_adjusted[2] > 0.05
    assert_close(found.superiority.estimate[:2], [1.0, 0.0])
    assert found.difference.low[0] > 0.5 and found.difference.high[1] < -0.5


def test_undefined_changes_make_their_column_undefined(generator):
    values = torch.randn(5, 3, 3, generator=generator)
    values[2, 1, 0] = torch.nan
    values[..., 2] = 4.0
    found = event_contrast(values, generator=generator)
    assert found.p.isnan().tolist() == [True, False, True]
    assert found.superiority.estimate.isnan().tolist() == [True, False, False]
    assert found.superiority.estimate[2] == 0.5 and found.difference.estimate[2] == 0.0


def test_few_events_are_refused_in_words(generator):
    with pytest.raises(InsufficientData, match="at least 3 of them, found 2"):
        event_contrast(torch.rand(2, 9, 1), generator=generator)
    with pytest.raises(InsufficientData, match="8 ways, and a p of .05 needs 20"):
        event_contrast(torch.rand(3, 2, 1), generator=generator)
    with pytest.raises(BadInput, match="each set has 2"):
        event_contrast(torch.rand(3, 2, 1), windows=torch.tensor([2, 1, 2]), generator=generator)
