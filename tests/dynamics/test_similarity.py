import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.dynamics.similarity import (
    debiased_cka,
    layer_similarity,
    linear_cka,
    procrustes_similarity,
    similarity_test,
)
from tests.common.compare import assert_close
from tests.oracles import mechanisms as oracle

ALL = {"linear": linear_cka, "debiased": debiased_cka, "procrustes": procrustes_similarity}
ORACLES = {
    "linear": oracle.linear_cka, "debiased": oracle.debiased_cka, "procrustes": oracle.procrustes,
}  # fmt: skip


def rows(n: int, d: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(12, 3, 5), (9, 20, 4)])
def test_all_are_those_of_slow_loops(name, shape, generator):
    n, d, other = shape
    x = rows(n, d, generator)
    y = rows(n, other, generator) + x[:, :1]
    assert_close(ALL[name](x, y), ORACLES[name](x.numpy(), y.numpy()))


@pytest.mark.parametrize("similarity", ALL.values())
def test_rotation_scale_and_shift_of_either_do_not_matter(similarity, generator):
    x, y = rows(15, 6, generator), rows(15, 4, generator)
    turn = torch.linalg.qr(rows(6, 6, generator)).Q
    assert_close(similarity(-3 * x @ turn + 5, 0.1 * y - 2), similarity(x, y))
    assert_close(similarity(x, 7 * x @ turn + 1), 1.0)
    order = torch.randperm(15, generator=generator)
    assert_close(similarity(x[order], y[order]), similarity(x, y))


def test_more_columns_than_rows_deceive_all_but_the_debiased_one(generator):
    pairs = [(rows(20, 400, generator), rows(20, 400, generator)) for _ in range(40)]
    means = {name: torch.stack([f(x, y) for x, y in pairs]).mean() for name, f in ALL.items()}
    assert means["linear"] > 0.9 and means["procrustes"] > 0.9
    assert abs(means["debiased"]) < 0.02
    for name, similarity in ALL.items():
        x, y = pairs[0]
        test = similarity_test(similarity, x, y, draws=99, generator=generator)
        assert_close(test.null_mean, means[name], atol=0.05)
        assert test.p > 0.01


@pytest.mark.parametrize("similarity", ALL.values())
def test_rows_dealt_out_keep_the_level(similarity, generator):
    fired = [
        similarity_test(similarity, rows(8, 3, generator), rows(8, 2, generator), draws=20,
                        generator=generator).p <= 0.05
        for _ in range(150)
    ]  # fmt: skip
    assert 1 <= sum(fired) <= 15  # a coin of 1/21, 150 times: ± 3 sd


@pytest.mark.parametrize("similarity", ALL.values())
def test_what_is_shared_is_found(similarity, generator):
    x = rows(40, 5, generator)
    y = x @ rows(5, 8, generator) + rows(40, 8, generator)
    assert similarity_test(similarity, x, y, draws=99, generator=generator).p == 0.01


def test_layers_are_compared_as_pairs_are(generator):
    layers = [rows(14, d, generator) for d in (3, 8, 20)]
    others = [layers[1] @ rows(8, 2, generator), layers[2]]
    for debiased, one in ((True, debiased_cka), (False, linear_cka)):
        found = layer_similarity(layers, others, debiased=debiased)
        assert_close(found, [[one(x, y).item() for y in others] for x in layers])


@pytest.mark.parametrize("similarity", ALL.values())
def test_a_layer_that_never_varies_is_undefined(similarity, generator):
    x = rows(8, 3, generator)
    assert similarity(torch.full((8, 2), 0.1), x).isnan()
    assert similarity(x, torch.zeros(8, 2)).isnan()


def test_other_samples_and_too_few_are_refused(generator):
    x = rows(8, 3, generator)
    for similarity in ALL.values():
        with pytest.raises(BadInput, match="got 8 and 7"):
            similarity(x, x[1:])
        with pytest.raises(InsufficientData, match="samples, got 1"):
            similarity(x[:1], x[:1])
    with pytest.raises(InsufficientData, match="needs 4 samples, got 3"):
        debiased_cka(x[:3], x[:3])
