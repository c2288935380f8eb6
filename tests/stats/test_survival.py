import math

import numpy as np
import pytest
import torch
from scipy.stats import CensoredData, ecdf, logrank

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.survival import kaplan_meier, log_rank
from tests.common.compare import assert_close
from tests.oracles import events as oracle


def _subjects(n=60, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(1, 25, (n,), generator=g).double(), torch.rand(n, generator=g) < 0.3


def test_the_curve_is_the_product_of_what_survives_each_time():
    time, censored = _subjects()
    found = kaplan_meier(time, censored)
    slow = oracle.kaplan_meier(time.tolist(), censored.tolist())
    assert_close(found.time, list(slow))
    assert_close(found.alive.estimate, list(slow.values()))
    assert_close(found.at_risk, [float((time >= t).sum()) for t in found.time])


def test_the_ends_are_greenwoods_in_log_log():
    time, censored = _subjects()
    found = kaplan_meier(time, censored, level=0.9)
    known = CensoredData.right_censored(time.numpy(), censored.numpy())
    ends = ecdf(known).sf.confidence_interval(confidence_level=0.9, method="log-log")
    inner = (found.alive.estimate > 0).numpy()
    at = found.time.numpy()[inner]
    assert_close(found.alive.low[inner], ends.low.evaluate(at))
    assert_close(found.alive.high[inner], ends.high.evaluate(at))


def test_without_censoring_the_curve_is_the_share_that_is_left():
    found = kaplan_meier(torch.tensor([3.0, 1.0, 2.0, 4.0]), torch.zeros(4, dtype=torch.bool))
    assert_close(found.alive.estimate, [0.75, 0.5, 0.25, 0.0])
    assert found.median.estimate.item() == 2.0
    assert math.isnan(found.alive.high[-1]) and found.alive.low[-1] == 0


def test_a_median_that_is_not_reached_is_infinite():
    censored = torch.tensor([False, True, True, True])
    found = kaplan_meier(torch.tensor([1.0, 2.0, 3.0, 4.0]), censored)
    assert found.median.estimate.item() == math.inf == found.median.high.item()
    assert kaplan_meier(torch.ones(3), torch.ones(3, dtype=torch.bool)).time.numel() == 0


def test_units_of_one_subject_each_give_nearly_greenwoods_interval():
    time, censored = _subjects(200)
    alone = kaplan_meier(time, censored)
    each = kaplan_meier(time, censored, unit=torch.arange(200))
    inner = slice(0, 15)
    assert_close(each.alive.low[inner], alone.alive.low[inner], atol=0.01)
    assert_close(each.alive.high[inner], alone.alive.high[inner], atol=0.01)


def _alike_within(units, members, g):
    shared = 0.6 * torch.randn(units, 1, generator=g)
    own = 0.8 * torch.randn(units, members, generator=g)
    time = (shared + own).exp().flatten()
    return time.clamp(max=2.0), time > 2.0, torch.arange(units).repeat_interleave(members)


def test_intervals_over_units_cover_where_subjects_are_alike_within_them(generator):
    """The truth at time 1 is one half. Greenwood's interval takes them for independent."""
    covered = {True: 0, False: 0}
    for _ in range(300):
        time, censored, unit = _alike_within(12, 5, generator)
        for by_unit in covered:
            ends = kaplan_meier(time, censored, unit=unit if by_unit else None).alive
            at = int((time[~censored].unique() <= 1).sum()) - 1
            covered[by_unit] += bool(ends.low[at] <= 0.5 <= ends.high[at])
    assert covered[True] / 300 > 0.93
    assert covered[False] / 300 < 0.91


def test_log_rank_sums_what_is_observed_beyond_what_is_expected():
    time, censored = _subjects()
    group = torch.arange(60) % 3
    found = log_rank(time, censored, group, torch.Generator(), draws=19)
    slow = oracle.log_rank_excess(time.tolist(), censored.tolist(), group.tolist())
    assert_close(found.excess, slow)
    observed = torch.bincount(group[~censored], minlength=3).double()
    assert_close(found.expected + found.excess, observed)


@pytest.mark.parametrize("units", [False, True])
def test_log_rank_keeps_its_level(units, generator):
    p, members = [], 3 if units else 1
    for _ in range(600):
        time, censored, unit = _alike_within(40 // members, members, generator)
        group = (unit < 20 // members).long()
        found = log_rank(time, censored, group, generator, unit=unit, draws=99)
        p.append(found.p)
    assert 0.035 <= np.mean(np.array(p) <= 0.05) <= 0.065


def test_log_rank_agrees_with_scipy_where_subjects_are_independent(generator):
    time = -torch.rand(80, generator=generator, dtype=torch.float64).log()
    time[40:] *= 1.6
    censored, time = time > 1.5, time.clamp(max=1.5)
    group = (torch.arange(80) >= 40).long()
    p = log_rank(time, censored, group, generator, draws=9999).p
    sides = [CensoredData.right_censored(time[group == k].numpy(), censored[group == k].numpy())
             for k in (0, 1)]  # fmt: skip
    assert abs(math.log(p / logrank(*sides).pvalue)) < 0.4


def test_log_rank_that_takes_layers_for_runs_would_be_too_liberal(generator):
    p = []
    for _ in range(200):
        time, censored, unit = _alike_within(8, 8, generator)
        p.append(log_rank(time, censored, (unit < 4).long(), generator, draws=99).p)
    assert np.mean(np.array(p) <= 0.05) > 0.12


def test_bad_input_is_refused():
    one, no = torch.ones(4), torch.zeros(4, dtype=torch.bool)
    with pytest.raises(BadInput, match="finite time"):
        kaplan_meier(torch.tensor([1.0, torch.nan, 2.0, 3.0]), no)
    with pytest.raises(InsufficientData, match="got none"):
        kaplan_meier(torch.ones(0), no[:0])
    with pytest.raises(InsufficientData, match="over units"):
        kaplan_meier(one, no, unit=torch.zeros(4, dtype=torch.long))
    with pytest.raises(BadInput, match="two groups"):
        log_rank(one, no, torch.tensor([0, 1, 0, 1]), torch.Generator(),
                 unit=torch.zeros(4, dtype=torch.long))  # fmt: skip
    never = log_rank(one, ~no, torch.tensor([0, 1, 0, 1]), torch.Generator())
    assert math.isnan(never.p)
