"""The validity harness of ndtracker, unmodified, on our detector, where ndtracker is installed.

`make test-peers` has it.
"""

import warnings

import numpy as np
import pytest
import torch

from energylens.dynamics.jumps import find_jumps
from energylens.dynamics.rolling import rolling_z_jumps

SEEDS = 3


def _validity():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("ndt.validity", exc_type=ImportError)


def ours(values: np.ndarray) -> list[int]:
    """Our detector in the harness' form: its steps are sample indices."""
    series = torch.as_tensor(np.asarray(values, dtype=np.float64))[None]
    steps = torch.arange(series.shape[1])
    return find_jumps(series, steps, torch.Generator().manual_seed(0)).step.tolist()


def test_the_harness_finds_our_detector_valid():
    report = _validity().validate_detector(ours, name="energylens")
    assert report.valid, report.render()
    assert report.mean_recall == 1.0 and report.false_positives_on_null == 0, report.render()


def test_and_does_so_on_other_draws_of_its_fixtures():
    validity = _validity()
    fixtures = [
        make(seed=seed) for seed in range(1, 1 + SEEDS)
        for make in (validity.planted_transition, validity.planted_multi, validity.pure_noise,
                     validity.drift_no_jump)
    ]  # fmt: skip
    report = validity.validate_detector(ours, fixtures, name="energylens")
    assert report.valid, report.render()


def test_its_own_detector_fails_it_and_our_copy_says_the_same():
    validity = _validity()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ndt import JumpDetector
    theirs = validity.jump_detector_as_callable(JumpDetector(z_threshold=3.0))
    assert not validity.validate_detector(theirs).valid
    for fixture in validity.standard_battery() if hasattr(validity, "standard_battery") else []:
        copy = rolling_z_jumps(torch.as_tensor(fixture.values)[None])[0].nonzero()[:, 0].tolist()
        assert copy == sorted(theirs(fixture.values))
