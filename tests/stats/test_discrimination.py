import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.discrimination import discrimination, mean_of, over_units
from tests.common.compare import assert_close


def drawn(g, units=12, shift=1.0, most=30):
    """Documents with a level of their own and a share of positives of their own."""
    size = torch.randint(5, most, (units,), generator=g)
    unit = torch.repeat_interleave(torch.arange(units), size)
    positive = torch.rand(len(unit), generator=g) < (0.6 * torch.rand(units, generator=g))[unit]
    level = 0.5 * torch.randn(units, generator=g)[unit]
    scores = level + torch.randn(len(unit), generator=g) + shift * positive
    return (scores * 4).round() / 4, positive, unit  # rounded: many are equal


def naive_auroc(scores, positive, weight):
    won = pairs = 0.0
    for i in positive.nonzero()[:, 0].tolist():
        for j in (~positive).nonzero()[:, 0].tolist():
            w = float(weight[i] * weight[j])
            won += w * (float(scores[i] > scores[j]) + 0.5 * float(scores[i] == scores[j]))
            pairs += w
    return won / pairs


def test_any_weights_of_units_give_what_counting_pairs_gives(generator):
    scores, positive, unit = drawn(generator, units=6, most=12)
    found = discrimination(scores, positive, unit + 3)
    weights = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 2, 1, 1, 0, 3], [1, 1, 0, 1, 1, 1]]).double()
    expected = [naive_auroc(scores, positive, w[unit]) for w in weights]
    assert_close(found.auroc(weights), torch.tensor(expected).double())


def test_it_is_what_scikit_learn_says(generator):
    scores, positive, unit = drawn(generator)
    found, once = discrimination(scores, positive, unit), torch.ones(1, 12).double()
    assert_close(float(found.auroc(once)), roc_auc_score(positive, scores))
    off = scores + 0.01  # none lies at 0
    found = discrimination(off, positive, unit)
    expected = balanced_accuracy_score(positive, off > 0)
    assert_close(float(found.balanced_accuracy(once)), expected)


def test_without_one_of_the_classes_nothing_is_defined(generator):
    scores, positive, unit = drawn(generator)
    found = discrimination(scores, positive & (unit == 0), unit)
    whole = over_units(found.auroc, found.units)
    assert whole.estimate.isfinite() and whole.low.isnan()  # all of one class in one document
    none = discrimination(scores, positive & False, unit)
    assert over_units(none.auroc, 12).estimate.isnan()
    assert over_units(none.balanced_accuracy, 12).estimate.isnan()


def test_a_mean_of_statistics_and_misuse(generator):
    scores, positive, unit = drawn(generator)
    a, b = (discrimination(s, positive, unit) for s in (scores, -scores))
    both = over_units(mean_of([a.auroc, b.auroc]), 12)
    assert_close(both.estimate, torch.tensor(0.5).double())
    assert float(both.high - both.low) < 1e-12
    with pytest.raises(InsufficientData, match="needs 2, got 1"):
        over_units(a.auroc, 1)
    with pytest.raises(BadInput, match="finite"):
        discrimination(scores / 0, positive, unit)


def test_intervals_cover(generator):
    truth = 0.5 * (1 + torch.erf(torch.tensor(1 / (2 * 1.25) ** 0.5 / 2**0.5)))  # d′ = 1/√1.25/√2
    hits = []
    for _ in range(200):
        scores, positive, unit = drawn(generator, units=30)
        found = discrimination(scores + 0.0, positive, unit)
        interval = over_units(found.auroc, found.units)
        hits.append(bool(interval.low <= truth <= interval.high))
    assert 0.90 <= sum(hits) / len(hits) <= 0.99
