import math

import pytest
import torch

from energylens.core.errors import BadInput
from energylens.results.compare import compare, difference
from energylens.results.record import Control, Estimate, Summary
from tests.common.compare import assert_close

RUN = {
    "options": {"seed": 0, "sites": ["a"]}, "versions": {"torch": "2.13.0"},
    "inputs": {"text": {"name": "t", "sha256": "1" * 64, "documents": 9}},
}  # fmt: skip


def estimate(value, half=0.1, unit="nats"):
    return Estimate(value, unit, low=value - half, high=value + half)


def summary(figures, *, study="s", passed=True, subject="m"):
    control = Control(label="Noise", value=0, expected=0, passed=passed, sentence="…")
    return Summary(study=study, subject=subject, finding="…", figures=figures,
                   controls={"noise": control})  # fmt: skip


def test_symmetric_intervals_add_in_squares():
    found = difference("x", estimate(1.0, 0.3), estimate(2.0, 0.4))
    assert_close([found.value, found.low, found.high], [1.0, 0.5, 1.5])
    assert found.exceeds and found.known


def test_an_interval_that_touches_nothing_is_unknown():
    found = difference("x", Estimate(1.0, "nats"), estimate(9.0))
    assert not found.known and not found.exceeds and found.value == 8.0
    assert math.isnan(found.low)


def test_runs_that_measure_the_same_differ_as_often_as_the_level_says():
    """Means of 40 normal numbers each, 400 pairs of runs, as 95 % intervals."""
    g = torch.Generator().manual_seed(0)
    beyond = 0
    for _ in range(400):
        pair = []
        for _ in range(2):
            sample = torch.randn(40, generator=g)
            pair.append(estimate(float(sample.mean()), 1.96 * float(sample.std()) / 40**0.5))
        beyond += difference("x", *pair).exceeds
    assert 8 <= beyond <= 34  # 20 expected; outside with a chance of .003


def test_what_changed_is_named():
    other = {
        "options": {"seed": 1, "sites": ["a"], "new": True}, "versions": {"torch": "2.14.0"},
        "inputs": {"text": {"name": "t", "sha256": "2" * 64, "documents": 9}},
    }  # fmt: skip
    figures = {"x": estimate(1.0)}
    found = compare(summary(figures), summary(figures), RUN, other)
    assert found.changed == {
        "seed": (0, 1), "new": (None, True), "version.torch": ("2.13.0", "2.14.0"),
        "input.text.sha256": ("1" * 64, "2" * 64),
    }  # fmt: skip
    assert compare(summary(figures), summary(figures), RUN, RUN).changed == {}


def on(name, digest):
    return RUN | {"inputs": RUN["inputs"] | {"model": {"name": name, "sha256": digest * 64}}}


def test_a_model_may_be_what_has_changed():
    """A model before and after fine-tuning is compared by its figures; its hash is named."""
    figures = summary({"x": estimate(1.0)})
    tuned = compare(figures, figures, on("tiny", "1"), on("tuned", "2"))
    assert set(tuned.changed) == {"input.model.name", "input.model.sha256"}
    assert tuned.differences


def test_undefined_figures_are_no_difference():
    nowhere = Estimate(float("nan"), "share")
    found = difference("x", nowhere, nowhere)
    assert found.undefined and not found.known and not found.exceeds
    assert not difference("x", estimate(1.0), estimate(2.0)).undefined


def test_figures_are_sorted_by_what_can_be_said():
    first = {"a": estimate(1.0), "b": estimate(1.0), "c": estimate(1.0), "d": estimate(1.0),
             "n": estimate(5, unit="of 3,790 scored features")}  # fmt: skip
    second = {"a": estimate(1.05), "b": estimate(2.0), "c": estimate(1.0, unit="share"),
              "e": estimate(1.0), "n": estimate(5, unit="of 4,001 scored features")}  # fmt: skip
    found = compare(summary(first), summary(second, passed=False), RUN, RUN)
    assert [d.name for d in found.differences] == ["a", "b", "n"]
    assert [d.name for d in found.beyond] == ["b"]
    assert (found.only_first, found.only_second) == (("c", "d"), ("c", "e"))
    assert found.verdicts == {"Noise": (True, False)}
    assert_close(found.by_chance, 0.15)


def test_runs_that_cannot_be_compared_say_why():
    figures = {"x": estimate(1.0)}
    with pytest.raises(BadInput, match="run of s and one of other cannot be compared"):
        compare(summary(figures), summary(figures, study="other"), RUN, RUN)
    with pytest.raises(BadInput, match="no figure in common"):
        compare(summary(figures), summary({"y": estimate(1.0)}), RUN, RUN)
