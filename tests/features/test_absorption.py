"""Words that share a parent direction, and dictionaries that do or do not absorb it."""

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from energylens.core.errors import InsufficientData
from energylens.features import absorption as module
from energylens.features.absorption import (
    absorption,
    absorption_rate,
    few_of_each,
    main_features,
    probes,
)
from energylens.features.code import SparseCode
from energylens.features.dictionary import Dictionary
from tests.common.compare import assert_close
from tests.oracles import absorption as oracle

WORDS, VALUES, EACH, D = 120, 4, 5, 160


def world(g, *, absorbed=0.0):
    """Each word writes its own direction and that of its value; features for both.

    A share of the words absorbs: their feature writes the value as well, and the value's feature
    is silent there, while every row is reconstructed as before.
    """
    basis = torch.linalg.qr(torch.randn(D, D, generator=g, dtype=torch.float64)).Q
    parents, words = basis[:VALUES], basis[VALUES : VALUES + WORDS]
    value = torch.arange(WORDS) % VALUES
    absorbs = torch.rand(WORDS, generator=g) < absorbed
    word = torch.arange(WORDS).repeat_interleave(EACH)
    rows = parents[value[word]] + words[word]
    rows = rows + 0.02 * torch.randn(rows.shape, generator=g, dtype=torch.float64)
    own = (one_hot(value, VALUES).double() * absorbs[:, None]).T  # [value word]
    dictionary = Dictionary(
        architecture="standard", k=2,
        W_enc=2 * torch.cat([parents - own @ words, words]),
        b_enc=torch.full((VALUES + WORDS,), -1.0, dtype=torch.float64),
        W_dec=torch.cat([parents, words + own.T @ parents]),
        b_dec=torch.zeros(D, dtype=torch.float64), subtracts_b_dec=False,
    )  # fmt: skip
    labels = one_hot(value[word], VALUES).bool()
    return dictionary, rows, labels, word, absorbs


def test_what_was_planted_is_detected(generator):
    dictionary, rows, labels, word, absorbs = world(generator, absorbed=0.3)
    found = absorption(dictionary, rows, labels, word, draws=59, generator=generator)
    assert found.main[:, 0].tolist() == list(range(VALUES)) and bool(found.found.all())
    share = int(found.absorbed.sum()) / int(found.known.sum())
    assert abs(share - float(absorbs.double().mean())) < 0.12
    assert_close(found.absorbed, found.silent)
    assert bool((found.absorbing >= VALUES).all()) and bool(absorbs[found.absorbing - VALUES].all())
    assert float(found.permuted.p.max()) <= 0.05 and float(found.permuted.null_mean.max()) < 0.05
    estimate = found.rate
    assert bool((estimate.low <= estimate.estimate).all() and (estimate.low > 0).all())


def test_where_none_is_planted_none_is_found(generator):
    found = absorption(*world(generator)[:4], draws=20, generator=generator)
    assert bool(found.found.all()) and int(found.absorbed.sum()) == 0
    assert float(found.rate.estimate.max()) == 0.0 and float(found.permuted.p.min()) == 1.0
    assert (found.absorbing == -1).all()


def test_silence_alone_is_no_absorption(generator):
    """A feature that fails on a third of its words, without another that takes its part."""
    dictionary, rows, labels, word, _ = world(generator, absorbed=0.3)
    honest = world(torch.Generator().manual_seed(0))[0]
    assert torch.equal(honest.W_enc[VALUES:], dictionary.W_enc[VALUES:])
    deaf = Dictionary(
        architecture="standard", k=2, W_enc=dictionary.W_enc, W_dec=honest.W_dec,
        b_enc=dictionary.b_enc, b_dec=dictionary.b_dec, subtracts_b_dec=False,
    )  # fmt: skip
    found = absorption(deaf, rows, labels, word, draws=20, generator=generator)
    assert int(found.silent.sum()) > 50
    assert int(found.absorbed.sum()) < 0.15 * int(found.silent.sum())


def test_labels_without_meaning_have_no_main_feature(generator):
    dictionary, rows, labels, word, _ = world(generator, absorbed=0.3)
    fake = labels[torch.randperm(WORDS, generator=generator) * EACH].repeat_interleave(EACH, 0)
    found = absorption(dictionary, rows, fake, word, draws=20, generator=generator)
    assert int(found.found.sum()) <= 1
    assert found.rate.estimate[~found.found].isnan().all()
    real = absorption(dictionary, rows, labels, word, draws=20, generator=generator)
    assert real.dealt_found < 0.3 and bool(real.found.all())


def test_rows_are_judged_as_the_oracle_does(generator, monkeypatch):
    """On noise, where thresholds are met and missed by chance."""
    g = generator
    rows = torch.randn(200, 6, generator=g, dtype=torch.float64)
    dictionary = Dictionary(
        architecture="topk", k=3, W_enc=torch.randn(20, 6, generator=g, dtype=torch.float64),
        b_enc=torch.zeros(20).double(), b_dec=torch.zeros(6).double(),
        W_dec=torch.randn(20, 6, generator=g, dtype=torch.float64),
    )  # fmt: skip
    labels = (rows[:, :2] + 0.5 * torch.randn(200, 2, generator=g)) > 0
    code = dictionary.encode(rows)
    look = module._Split(
        train=rows, held=rows, code=code, held_code=code, W_dec=dictionary.W_dec
    ).look(labels, labels)
    carried, _ = look.absorbed(dictionary.W_dec)
    dense, W = code.dense().numpy(), dictionary.W_dec.numpy()
    seen = 0
    for v in range(2):
        main = [f for f in look.main[v].tolist() if f >= 0]
        w = look.probes.direction[v].numpy()
        without = rows[~labels[:, v]].mean(0).numpy()
        for row in look.known[:, v].nonzero()[:, 0].tolist():
            wanted = float((rows[row].numpy() - without) @ w)
            expected = oracle.absorbed(dense[row], W, main, w, wanted)
            assert bool(carried[row, v]) == expected
            seen += expected
    assert 5 < seen < int(look.silent.sum())


def test_probes_are_those_of_scikit_learn(generator):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    labels = one_hot(torch.randint(3, (300,), generator=generator), 3).bool()
    rows = torch.randn(300, 8, generator=generator, dtype=torch.float64)
    rows = rows + labels.double() @ torch.randn(3, 8, generator=generator, dtype=torch.float64)
    found = probes(rows, labels)
    for v in range(3):
        fitted = LinearDiscriminantAnalysis(priors=[0.5, 0.5]).fit(rows, labels[:, v])
        said = rows @ found.direction[v] > found.threshold[v]
        assert (said.numpy() == fitted.predict(rows)).mean() > 0.98
        cosine = np.corrcoef(fitted.decision_function(rows), (rows @ found.direction[v]).numpy())
        assert cosine[0, 1] > 0.999


def test_main_features_are_added_while_they_help(generator):
    """Two features share a value; a third is active with the first and adds nothing."""
    value = torch.arange(400) % 2 == 0
    half = torch.rand(400, generator=generator) < 0.5
    noise = torch.rand(400, 5, generator=generator) < 0.1
    dense = torch.cat([
        (value & half)[:, None], (value & ~half)[:, None], (value & half)[:, None], noise,
    ], 1).double()  # fmt: skip
    code = SparseCode(indices=torch.arange(8).expand(400, 8), values=dense, width=8)
    found = main_features(code, torch.stack([value, ~value], 1))
    chosen = [f for f in found[0].tolist() if f >= 0]
    assert len(chosen) == 2 and 1 in chosen and (0 in chosen or 2 in chosen)


def test_few_rows_of_each_word_are_kept(generator):
    word = torch.tensor([4, 9]).repeat_interleave(torch.tensor([30, 2]))
    word = word[torch.randperm(32, generator=generator)]
    kept = few_of_each(word, 3, generator)
    assert word[kept].bincount()[[4, 9]].tolist() == [3, 2]


def test_promises_and_refusals(generator):
    dictionary, rows, labels, word, _ = world(generator, absorbed=0.3)
    known = torch.rand(50, 2, generator=generator) < 0.6
    gone = torch.rand(50, 2, generator=generator) < 0.3
    order = torch.randperm(50, generator=generator)
    assert_close(absorption_rate(gone[order], known[order]), absorption_rate(gone, known))
    assert absorption_rate(gone, known & False).isnan().all()
    with pytest.raises(InsufficientData):
        absorption(dictionary, rows[:3], labels[:3], word[:3], generator=generator)
    few = torch.cat([labels[:, :1], (word == 7)[:, None]], 1)
    found = absorption(dictionary, rows, few, word, draws=20, generator=generator)
    assert not found.found[1] and found.rate.estimate[1].isnan() and found.permuted.p[1].isnan()
