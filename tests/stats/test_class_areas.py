"""Areas against counting pairs; the null keeps its level and finds what is planted."""

import pytest
import torch

from energylens.core.errors import InsufficientData
from energylens.stats.class_areas import (
    auroc_by_class,
    best_class,
    dealt_out,
    enough_entries,
    holds,
    ranked_entries,
    turned,
)
from tests.oracles import browsing

SERIES, SAMPLES, CLASSES = 6, 200, 3


def sparse(values):
    sample, series = values.nonzero(as_tuple=True)
    return ranked_entries(series, sample, values[sample, series], width=values.shape[1],
                          samples=len(values))  # fmt: skip


@pytest.fixture
def values(generator):
    drawn = torch.rand(SAMPLES, SERIES, generator=generator).mul(6).round()
    return torch.where(torch.rand(SAMPLES, SERIES, generator=generator) < 0.3, drawn, 0.0)


def test_areas_and_shares_are_those_of_counting_pairs(values, generator):
    labels = torch.randint(CLASSES + 1, (SAMPLES,), generator=generator)  # the last is of none
    found = auroc_by_class(sparse(values), labels, CLASSES)
    shares = holds(sparse(values), labels, CLASSES)
    for series in range(SERIES):
        for label in range(CLASSES):
            inside = (labels == label).tolist()
            expected = browsing.auroc(values[:, series].tolist(), inside)
            assert float(found[series, label]) == pytest.approx(expected, abs=1e-12)
            active = values[:, series] > 0
            share = (labels[active] == label).double().mean()
            assert float(shares[series, label]) == pytest.approx(float(share))


def test_rare_classes_and_silent_series():
    labels = torch.zeros(SAMPLES, dtype=torch.long)
    labels[:29] = 1
    values = torch.zeros(SAMPLES, 1)
    found = auroc_by_class(sparse(values), labels, 3)
    assert found.isnan().all(), "29 samples are too few, and so are none"
    labels[:30] = 1
    assert auroc_by_class(sparse(values), labels, 2)[0].tolist() == [0.5, 0.5]


def world(generator, *, documents=24, tokens=40, series=60, planted=0):
    """Series and classes that each come in stretches, and know nothing of one another."""
    unit = torch.arange(documents).repeat_interleave(tokens)
    stretch = torch.arange(documents * tokens) // 4
    draw = torch.randint(CLASSES, (len(stretch),), generator=generator)
    labels = draw[stretch]
    on = (torch.rand(len(stretch), series, generator=generator) < 0.2)[stretch]
    values = torch.where(on, torch.rand(len(unit), series, generator=generator), 0.0)
    values[:, :planted] *= (labels == 1)[:, None]
    kinds = torch.randint(2, (documents,), generator=generator)[unit]
    return values, labels, kinds, unit


def judged(generator, **options):
    values, labels, kinds, unit = world(generator, **options)
    return best_class(
        sparse(values), [(labels, CLASSES), (kinds, 2)],
        lambda g: (labels[turned(unit, g)], dealt_out(kinds, unit, g)),
        draws=99, generator=generator,
    )  # fmt: skip


def test_what_is_planted_is_found_and_named(generator):
    found = judged(generator, planted=5)
    assert found.label[:5].tolist() == [1] * 5
    assert bool((found.p[:5] == 0.01).all()) and bool((found.auroc[:5] > found.null_mean[:5]).all())


def test_nothing_is_found_where_nothing_is(generator):
    p, drawn = [], []
    for _ in range(12):
        found = judged(generator, series=40)
        p.append(found.p)
        drawn.append(found.drawn_p)
    for each in (torch.cat(p), torch.cat(drawn)):
        assert 0.02 < float((each <= 0.05).double().mean()) < 0.09


def test_turning_stays_in_the_document_and_dealing_keeps_documents_whole(generator):
    unit = torch.arange(5).repeat_interleave(8)
    source = turned(unit, generator)
    assert torch.equal(unit[source], unit) and bool((source != torch.arange(40)).all())
    kinds = torch.tensor([0, 0, 1, 1, 2])
    dealt = dealt_out(kinds[unit], unit, generator).view(5, 8)
    assert bool((dealt == dealt[:, :1]).all())
    assert sorted(dealt[:, 0].tolist()) == kinds.tolist()


def test_few_entries_or_few_units_are_not_enough():
    values = torch.zeros(100, 3)
    values[:30, 0] = values[:29, 1] = 1
    values[::3, 2] = 1
    unit = torch.arange(100) // 10
    assert enough_entries(sparse(values), unit).tolist() == [False, False, True]


def test_few_draws_are_refused(values, generator):
    labels = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    with pytest.raises(InsufficientData, match="at least 20 draws, got 19"):
        best_class(sparse(values), [(labels, CLASSES)], lambda g: (labels,), draws=19,
                   generator=generator)  # fmt: skip
