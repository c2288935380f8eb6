import pytest
import torch

from energylens.dynamics.battery import Series, nulls, planted, score
from tests.common.compare import assert_close


def _truth(*jumps, samples=50, tolerance=3.0):
    places = torch.tensor([jumps], dtype=torch.float64)
    values = torch.zeros(1, samples, dtype=torch.float64)
    return Series(values=values, jumps=places, tolerance=tolerance)


def _marks(*places, samples=50):
    marks = torch.zeros(1, samples, dtype=torch.bool)
    marks[0, list(places)] = True
    return marks


MATCHES = (
    ((10, 30), 2, 0), ((13, 33), 2, 0), ((14, 30), 1, 1), ((9, 10, 11, 30), 2, 2), ((), 0, 0),
    ((45,), 0, 1),
)  # fmt: skip


@pytest.mark.parametrize(("places", "found", "false"), MATCHES)
def test_matching_is_one_to_one_within_the_tolerance(places, found, false):
    scored = score(_marks(*places), _truth(10, 30))
    assert (scored.found.tolist(), scored.false.tolist()) == ([found], [false])


def test_every_mark_of_a_null_is_false():
    scored = score(_marks(1, 2, 40), _truth())
    assert (scored.found.tolist(), scored.false.tolist()) == ([0], [3])


@pytest.mark.parametrize("name", list(planted()))
def test_planted_series_jump_where_they_say(name, generator):
    drawn = planted()[name](300, generator)
    assert drawn.values.shape == (300, 400) and drawn.values.isfinite().all()
    assert bool((drawn.jumps.diff(dim=1) > 20).all())
    assert drawn.jumps.min() > 40 and drawn.jumps.max() < 360
    reach = int(drawn.tolerance) + 5
    place = drawn.jumps[:, :1].long()
    around = place + torch.arange(-reach, reach)
    near = drawn.values.gather(1, around)
    rise = near[:, reach:].mean(1) - near[:, :reach].mean(1)
    assert rise.mean() > 2  # sizes are five or more


def test_nulls_are_what_they_are_called(generator):
    drawn = {name: draw(300, generator).values for name, draw in nulls().items()}
    assert all(draw(2, generator).jumps.shape == (2, 0) for draw in nulls().values())
    for name, phi in (("noise", 0.0), ("ar1_60", 0.6), ("ar1_90", 0.9)):
        x = drawn[name]
        assert_close(
            (x[:, 1:] * x[:, :-1]).mean() / x.square().mean(), torch.tensor(phi), atol=0.02
        )
        assert abs(x.square().mean().item() - 1) < 0.1
    early, late = drawn["heteroscedastic"][:, :5].std(), drawn["heteroscedastic"][:, -50:].std()
    assert 4 < early / late < 6
    assert drawn["transient"][:, 0].mean() > 9 > 1 > drawn["transient"][:, -50:].mean()
    assert_close(drawn["drift"][:, -1].mean() - drawn["drift"][:, 0].mean(), torch.tensor(100 / 3),
                 atol=0.4)  # fmt: skip


def test_one_seed_gives_one_battery():
    a, b = (planted()["steps"](3, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a.values, b.values) and torch.equal(a.jumps, b.jumps)
