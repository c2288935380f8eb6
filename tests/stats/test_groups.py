import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.groups import class_differences
from energylens.stats.robust import cluster_mean_interval
from tests.common.compare import assert_close

SIZES = (30, 26, 20, 16, 12, 8)


def classes(sizes):
    of = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return of[:, None] == torch.arange(len(sizes))


def null_values(kind, sizes, generator, quantities=400):
    values = torch.randn(sum(sizes), quantities, generator=generator, dtype=torch.float64)
    if kind == "log-normal":
        return values.exp()
    if kind == "wide":
        return values * torch.where(classes(sizes)[:, -1:], 3.0, 1.0)
    return values


@pytest.mark.parametrize("sizes", [SIZES, (10, 9, 8, 8, 7, 6)])
@pytest.mark.parametrize(("kind", "most"), [("normal", 0.06), ("log-normal", 0.06), ("wide", 0.08)])
def test_permuted_classes_keep_their_level(sizes, kind, most, generator):
    values = null_values(kind, sizes, generator)
    found = class_differences(values, classes(sizes), draws=299, generator=generator)
    assert 0.038 < (found.p < 0.05).double().mean() < most
    assert (found.p[-1] < 0.05).double().mean() < 0.1


def test_intervals_of_differences_and_of_chance_cover(generator):
    values = null_values("normal", SIZES, generator, 1000)
    found = class_differences(values, classes(SIZES), draws=1, generator=generator)
    for interval, inside in ((found.difference, torch.zeros(())),
                             (found.chance, found.mean.estimate)):  # fmt: skip
        covered = (interval.low <= inside) & (inside <= interval.high)
        assert 0.93 < covered.double().mean() < 0.97


def test_a_planted_class_is_found_and_the_sign_is_right(generator):
    values = null_values("log-normal", SIZES, generator, 50)
    values[classes(SIZES)[:, 3]] += 4
    found = class_differences(values, classes(SIZES), draws=999, generator=generator)
    assert (found.p[3] < 0.01).double().mean() > 0.9
    assert bool((found.difference.estimate[3] > 0).all())


def test_a_test_that_takes_tokens_for_documents_would_fail_here(generator):
    """The simulation can fail a test: fifty tokens of a document are not fifty units."""
    values = null_values("normal", SIZES, generator).repeat_interleave(50, dim=0)
    labels = classes(SIZES).repeat_interleave(50, dim=0)
    found = class_differences(values, labels, draws=99, generator=generator)
    assert (found.p < 0.05).double().mean() > 0.5


def test_it_is_welch(generator):
    from scipy.stats import ttest_ind

    values = null_values("normal", (9, 7, 12), generator, 3)
    values[4, 1] = torch.nan
    labels = classes((9, 7, 12))
    found = class_differences(values, labels, draws=4000, generator=generator)
    for label in range(3):
        for quantity in range(3):
            column = values[:, quantity]
            here = column[labels[:, label] & column.isfinite()]
            rest = column[~labels[:, label] & column.isfinite()]
            test = ttest_ind(here, rest, equal_var=False)
            ends = test.confidence_interval()
            at = (label, quantity)
            assert_close(found.difference.estimate[at], here.mean() - rest.mean())
            assert_close(found.difference.low[at], torch.tensor(ends.low, dtype=torch.float64))
            assert_close(found.difference.high[at], torch.tensor(ends.high, dtype=torch.float64))
            assert_close(found.rest[at], rest.mean())
            own = cluster_mean_interval(here[:, None])
            assert_close(found.mean.low[at], own.low[0])
            assert_close(found.count[at], torch.tensor(float(len(here)), dtype=torch.float64))
            assert abs(float(found.p[at]) - test.pvalue) < 0.08


def test_the_same_shift_of_all_changes_nothing(generator):
    values = null_values("normal", SIZES, generator, 5)
    seeds = [torch.Generator().manual_seed(3) for _ in range(2)]
    plain = class_differences(values, classes(SIZES), draws=99, generator=seeds[0])
    moved = class_differences(values + 1e6, classes(SIZES), draws=99, generator=seeds[1])
    assert_close(plain.p, moved.p)
    assert_close(plain.difference.low, moved.difference.low, atol=1e-6)


def test_what_cannot_be_told_is_undefined(generator):
    values = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    values[:, 1] = 16.0
    values[:4, 2] = torch.nan
    labels = classes((8, 8, 4))
    found = class_differences(values, labels, draws=19, generator=generator)
    assert found.p[2].isnan().all(), "four units are too few"
    assert found.p[:, 1].isnan().all(), "what never varies"
    assert_close(found.mean.estimate[:2, 1], torch.full((2,), 16.0, dtype=torch.float64))
    assert found.p[0, 2].isnan() and found.p[1, 2].isfinite() and found.count[0, 2] == 4
    everything = class_differences(values, labels.any(1, keepdim=True), draws=19,
                                   generator=generator)  # fmt: skip
    assert everything.p.isnan().all(), "a class of all has nothing beside it"


def test_wrong_use_is_one_sentence(generator):
    values = torch.zeros(3, 1)
    with pytest.raises(BadInput, match="of two classes"):
        class_differences(values, torch.ones(3, 2).bool(), draws=9, generator=generator)
    with pytest.raises(InsufficientData, match="needs 2 units and 1 draw, got 1 and 9"):
        class_differences(values[:1], torch.ones(1, 1).bool(), draws=9, generator=generator)
