import itertools
import math

import torch

from energylens.stats.enrichment import enrichment_p
from energylens.stats.multiplicity import benjamini_hochberg
from tests.common.compare import assert_close


def column(*values):
    return torch.tensor(values, dtype=torch.bool)[:, None]


def test_it_is_the_share_of_all_draws_that_hold_as_many():
    group, label = column(1, 1, 1, 0, 0, 0, 0), column(1, 1, 0, 1, 0, 0, 0)
    labelled = label[:, 0].nonzero()[:, 0].tolist()
    draws = list(itertools.combinations(range(7), 3))
    as_many = sum(len(set(draw) & set(labelled)) >= 2 for draw in draws)
    assert_close(enrichment_p(group, label)[0, 0], as_many / len(draws))


def test_every_pair_of_group_and_label_stands_alone():
    g = torch.Generator().manual_seed(0)
    groups, labels = torch.rand(40, 3, generator=g) < 0.3, torch.rand(40, 4, generator=g) < 0.4
    every = enrichment_p(groups, labels)
    for i, j in itertools.product(range(3), range(4)):
        assert_close(every[i, j], enrichment_p(groups[:, [i]], labels[:, [j]])[0, 0])


def test_what_cannot_be_enriched_is_undefined():
    group = column(1, 1, 0)
    for label in (column(0, 0, 0), column(1, 1, 1)):
        assert enrichment_p(group, label).isnan().all() and enrichment_p(label, group).isnan().all()


def test_noise_is_enriched_as_often_as_the_level_says():
    """The law is discrete: at most .05, and not far below."""
    g, rejected, tested = torch.Generator().manual_seed(1), 0, 0
    for _ in range(200):
        groups, labels = (
            torch.rand(120, 4, generator=g) < 0.3,
            torch.rand(120, 6, generator=g) < 0.3,
        )
        p = enrichment_p(groups, labels)
        rejected, tested = rejected + int((p <= 0.05).sum()), tested + p.numel()
    assert 0.015 <= rejected / tested <= 0.05


def test_a_planted_label_is_found_and_no_other():
    g = torch.Generator().manual_seed(2)
    groups = torch.rand(120, 4, generator=g) < 0.25
    labels = torch.rand(120, 6, generator=g) < 0.2
    labels[:, 3] |= groups[:, 1] & (torch.rand(120, generator=g) < 0.7)
    q = benjamini_hochberg(enrichment_p(groups, labels))
    assert (q <= 0.05).nonzero().tolist() == [[1, 3]]
    assert math.isfinite(float(q.sum()))
