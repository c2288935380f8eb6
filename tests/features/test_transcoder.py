"""Dictionaries that write something else than they read."""

import pytest
import torch
from torch.nn.functional import normalize

from energylens.core.errors import BadInput
from energylens.features.evaluate import fvu
from energylens.features.recovery import mean_matched_cosine
from energylens.features.train import train
from energylens.features.training import TrainOptions
from tests.common.compare import assert_close

SMALL = {"width": 96, "k": 3, "epochs": 12, "batch": 256}
NAMES = ("topk", "batchtopk", "standard", "gated", "jumprelu")


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.fixture
def planted(generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows and targets made of the same few features, read and written in two spaces; what the
    features write."""
    read, written = (normalize(torch.randn(64, d, generator=generator), dim=1) for d in (32, 20))
    chosen = torch.rand(8000, 64, generator=generator).topk(3, dim=1).indices
    strength = 1 + torch.rand(8000, 3, generator=generator)
    code = torch.zeros(8000, 64).scatter(1, chosen, strength)
    return code @ read + 2.0, 5 * code @ written - 1.0, written


@pytest.mark.parametrize("name", NAMES)
def test_what_planted_features_write_is_found(name, planted):
    rows, target, written = planted
    options = TrainOptions(architecture=name, **SMALL)
    dictionary, record = train(rows[:7000], options, _seeded(), target=target[:7000])
    assert not dictionary.subtracts_b_dec and dictionary.d_out == 20
    made = dictionary.reconstruct(rows[7000:])
    assert float(fvu(target[7000:], made)) < (0.6 if name == "standard" else 0.25)  # it shrinks
    assert float(mean_matched_cosine(written, dictionary.W_dec)) > 0.9
    assert abs(record.fvu[-1] - float(fvu(target[7000:], made))) < 0.1


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("name", ["topk", "gated", "jumprelu"])
def test_units_of_either_side_do_not_matter(name, skip, planted):
    x, y = (p.double() for p in planted[:2])
    options = TrainOptions(architecture=name, width=64, k=3, epochs=2, batch=128, skip=skip)
    one, _ = train(x, options, _seeded(), target=y)
    other, _ = train(100 * x + 7, options, _seeded(), target=y / 50 - 3)
    assert_close(other.W_dec, one.W_dec, rtol=1e-4, atol=1e-6)
    expected = one.reconstruct(x) / 50 - 3
    assert_close(other.reconstruct(100 * x + 7), expected, rtol=1e-4, atol=1e-4)


def test_a_skip_takes_what_is_linear(planted, generator):
    rows, target, _ = planted
    linear = rows @ torch.randn(32, 20, generator=generator)
    both = target + 3 * linear
    left = {}
    for skip in (False, True):
        options = TrainOptions(skip=skip, **SMALL)
        dictionary, _ = train(rows[:7000], options, _seeded(), target=both[:7000])
        left[skip] = float(fvu(both[7000:], dictionary.reconstruct(rows[7000:])))
    assert left[True] < 0.5 * left[False]


def test_targets_that_do_not_fit_are_refused(planted):
    rows, target, _ = planted
    options = TrainOptions(**SMALL)
    with pytest.raises(BadInput, match="8000 rows and 10 targets"):
        train(rows, options, _seeded(), target=target[:10])
    with pytest.raises(BadInput, match="skip was asked for without a target"):
        train(rows, TrainOptions(skip=True, **SMALL), _seeded())
    target[5, 3] = torch.nan
    with pytest.raises(BadInput, match="1 of 8000 targets hold nan"):
        train(rows, options, _seeded(), target=target)
