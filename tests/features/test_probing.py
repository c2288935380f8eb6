import pytest
import torch
from torch.nn.functional import normalize, one_hot

from energylens.core.errors import InsufficientData
from energylens.features.code import SparseCode
from energylens.features.probing import (
    Labelled,
    baselines,
    control_labels,
    fit_probe,
    labelled,
    mean_differences,
    most_different,
    sparse_probes,
)
from tests.common.compare import assert_close

WORDS, CLASSES, DOCUMENTS, EACH = 60, 3, 16, 120


def text(g):
    """Words whose class is that of their number, in documents; the second half is held out."""
    likely = 1.0 / torch.arange(1, WORDS + 1)
    word = likely.multinomial(DOCUMENTS * EACH, replacement=True, generator=g)
    unit = torch.arange(DOCUMENTS).repeat_interleave(EACH)
    return word, word % CLASSES, unit, unit < DOCUMENTS // 2


def sparse(dense):
    """Every entry of a matrix, in an order of its own a row."""
    order = torch.rand(dense.shape).argsort(1)
    return SparseCode(indices=order, values=dense.gather(1, order), width=dense.shape[1])


def naive_difference(x, y):
    inside, outside = x[y].double(), x[~y].double()
    sd = x.double().std(correction=0)
    return float((inside.mean() - outside.mean()) / sd) if sd > 1e-9 else 0.0


@pytest.mark.parametrize("form", [lambda x: x, sparse], ids=["rows", "code"])
def test_differences_are_those_of_plain_means(form, generator):
    x = torch.randn(200, 5, generator=generator).relu()
    x[:, 3] = 2.5
    y = torch.rand(200, 3, generator=generator) < 0.3
    y[:, 2] = False
    found = mean_differences(form(x), y)
    expected = [[naive_difference(x[:, c], y[:, v]) for v in range(2)] for c in range(5)]
    assert_close(found[:, :2], torch.tensor(expected).double(), rtol=1e-5, atol=1e-6)
    assert found[:, 2].isnan().all()
    top = most_different(form(x), y[:, :2], 2)
    assert_close(top, found[:, :2].abs().topk(2, dim=0).indices.T)


def test_the_promises_of_mean_differences(generator):
    x = torch.randn(100, 4, generator=generator, dtype=torch.float64)
    y = torch.rand(100, 2, generator=generator) < 0.4
    order = torch.randperm(100, generator=generator)
    assert_close(mean_differences(x[order], y[order]), mean_differences(x, y))
    assert_close(mean_differences(7 * x - 2, y), mean_differences(x, y), rtol=1e-8)


def test_control_labels_belong_to_words_and_come_as_often_as_labels(generator):
    word, label, _, _ = text(generator)
    drawn = torch.stack([control_labels(label, word, generator) for _ in range(300)])
    for one in drawn[:5]:
        for w in word.unique():
            assert len(one[word == w].unique()) == 1
    shares = one_hot(drawn).double().mean((0, 1))
    assert_close(shares, one_hot(label).double().mean(0), atol=0.03)


def probed(coordinates, g, ks=(1, 2, 4, 16), draws=3):
    word, label, unit, train = coordinates["text"]
    truth = labelled(label, word, unit, values=CLASSES, draws=draws, generator=g)
    x = coordinates["x"]
    some = (lambda keep: x.of_rows(keep)) if isinstance(x, SparseCode) else (lambda keep: x[keep])
    return sparse_probes(
        some(train), some(~train), truth.of_rows(train), truth.of_rows(~train), ks=ks
    )


def test_a_planted_feature_is_found_by_one_coordinate_and_no_control_is(generator):
    """Features that are the classes: perfect with k = 1, selective; the control is at chance."""
    found = text(generator)
    dense = torch.cat([one_hot(found[1]).float(), torch.rand(len(found[0]), 20).relu()], dim=1)
    order = torch.randperm(23, generator=generator)
    for one in probed({"text": found, "x": sparse(dense[:, order])}, generator, ks=(1,)):
        assert order[one.chosen[0]] == one.label
        assert_close([one.auroc.estimate, one.accuracy.estimate], [1.0, 1.0])
        assert float(one.control_accuracy.estimate) < 0.75
        assert float(one.selectivity.low) > 0.2 and one.units == DOCUMENTS // 2


def test_features_that_are_words_know_the_control_as_well(generator):
    """One feature a word: k of them tell any label by its most frequent words alone."""
    found = text(generator)
    dense = one_hot(found[0], WORDS).float()
    for one in probed({"text": found, "x": sparse(dense)}, generator, ks=(16,)):
        assert float(one.accuracy.estimate) > 0.85
        assert float(one.control_accuracy.estimate) > 0.85
        assert abs(float(one.selectivity.estimate)) < 0.12


def test_noise_tells_nothing(generator):
    found = text(generator)
    noise = torch.randn(len(found[0]), 40, generator=generator)
    made = probed({"text": found, "x": noise}, generator)
    covered = [bool(one.auroc.low <= 0.5 <= one.auroc.high) for one in made]
    assert sum(covered) >= len(covered) - 2
    assert max(float(one.auroc.estimate) for one in made) < 0.6


def test_raw_coordinates_need_more_of_them_than_the_features_do(generator):
    """Classes among many other directions in superposition: one true feature beats one axis."""
    found = text(generator)
    directions = normalize(torch.randn(43, 24, generator=generator), dim=1)
    others = torch.rand(len(found[0]), 40, generator=generator) < 0.3
    planted = torch.cat([one_hot(found[1]), others], 1).float()
    rows = planted @ directions
    train = found[3]
    best = {}
    for name, (a, b) in baselines(rows[train], rows[~train]).items():
        x = torch.empty(len(rows), a.shape[1])
        x[train], x[~train] = a, b
        made = probed({"text": found, "x": x}, generator, ks=(1, 24), draws=1)
        best[name] = {k: [float(p.auroc.estimate) for p in made if p.k == k] for k in (1, 24)}
    true = probed({"text": found, "x": sparse(planted)}, generator, ks=(1,), draws=1)
    feature = [float(one.auroc.estimate) for one in true]
    for name in ("raw", "pca"):
        assert max(best[name][1]) < 0.85 < min(feature)
        assert sum(best[name][24]) > sum(best[name][1]) + 0.3  # all axes together know more


def test_a_probe_is_that_of_its_penalised_likelihood(generator):
    """The gradient of Σ w log-loss + ‖β‖² / 2 vanishes, weights n / 2n_class."""
    x = torch.randn(300, 3, generator=generator, dtype=torch.float64) * 3 + 1
    y = torch.rand(300, generator=generator) < torch.sigmoid(x[:, 0] - 1)
    z = (x - x.mean(0)) / x.std(0, correction=0)
    odds = fit_probe(x, y, x)
    fitted = torch.linalg.lstsq(torch.cat([z, torch.ones(300, 1)], 1).double(), odds).solution
    weight = torch.where(y, 150 / y.sum(), 150 / (~y).sum())
    pull = weight * (torch.sigmoid(odds) - y.double())
    assert_close(z.T @ pull + fitted[:3], torch.zeros(3).double(), atol=2e-2)
    assert_close(pull.sum(), torch.tensor(0.0).double(), atol=2e-2)


def test_a_rare_label_is_undefined_and_one_document_is_refused(generator):
    word, _, unit, train = text(generator)
    x = torch.randn(len(word), 3, generator=generator)
    rare = labelled(torch.where(torch.arange(len(word)) < 3, 1, 0), word, unit, values=2, draws=1,
                    generator=generator)  # fmt: skip
    for one in sparse_probes(
        x[train], x[~train], rare.of_rows(train), rare.of_rows(~train), ks=(1,)
    ):
        assert one.auroc.estimate.isnan() and one.selectivity.estimate.isnan()
    alone = Labelled(labels=rare.labels[:9], controls=[], unit=torch.zeros(9).long())
    with pytest.raises(InsufficientData, match="judged over documents, got 1"):
        sparse_probes(x[train], x[:9], rare.of_rows(train), alone)
