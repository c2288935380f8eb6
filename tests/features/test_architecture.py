"""What every architecture owes, whichever it is, and what sets each apart."""

from dataclasses import replace

import pytest
import torch

from energylens.features import entries
from energylens.features.architecture import ARCHITECTURES, Demand
from energylens.features.dictionary import Dictionary
from energylens.features.step import step
from tests.common.compare import assert_close
from tests.features.planted import random_weights
from tests.oracles import dense_dictionaries as dense

NAMES = sorted(ARCHITECTURES)
REORDERED = [name for name in NAMES if name not in ("groupmax", "matryoshka_batchtopk")]
BY_FORMULA = [name for name in NAMES if name not in ("jumprelu", "matryoshka_batchtopk")]
ALONE = [name for name in NAMES if ARCHITECTURES[name].each_alone]
DEMAND = Demand(sparsity=0.3, share=0.6, unit=3.0)


def _dictionary(name: str, generator: torch.Generator, *, width: int = 48) -> Dictionary:
    weights = random_weights(generator, width=width, d=9)
    own = ARCHITECTURES[name].own(width, weights["b_enc"])
    if name == "gated":
        own = {n: 0.2 * torch.randn(width, generator=generator, dtype=torch.float64) for n in own}
    return Dictionary(architecture=name, k=6, own=own, **weights)


def _rows(generator: torch.Generator, n: int = 30) -> torch.Tensor:
    return torch.randn(n, 9, generator=generator, dtype=torch.float64)


def _permuted(dictionary: Dictionary, order: torch.Tensor) -> Dictionary:
    own = {name: w[order] if len(w) == len(order) else w for name, w in dictionary.own.items()}
    return replace(
        dictionary, W_enc=dictionary.W_enc[order], b_enc=dictionary.b_enc[order],
        W_dec=dictionary.W_dec[order], own=own,
    )  # fmt: skip


@pytest.mark.parametrize("name", REORDERED)
def test_renumbering_features_renumbers_code_and_gradients(name, generator):
    dictionary = _dictionary(name, generator)
    order = torch.randperm(48, generator=generator)
    other, x = _permuted(dictionary, order), _rows(generator)
    assert_close(other.encode(x).dense(), dictionary.encode(x).dense()[:, order])
    assert_close(other.reconstruct(x), dictionary.reconstruct(x))
    made, renumbered = (step(d, x, 1.0, demand=DEMAND) for d in (dictionary, other))
    assert_close(renumbered.gradients["W_enc"], made.gradients["W_enc"][order])
    assert_close(renumbered.gradients["W_dec"], made.gradients["W_dec"][order])


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_encoded_each_on_its_own(name, generator):
    dictionary, x = _dictionary(name, generator), _rows(generator)
    order = torch.randperm(30, generator=generator)
    assert_close(dictionary.encode(x[order]).dense(), dictionary.encode(x).dense()[order])
    assert_close(dictionary.encode(x[:1]).dense(), dictionary.encode(x).dense()[:1])


@pytest.mark.parametrize("name", NAMES)
def test_rows_can_be_none_and_a_feature_stands_once_in_a_row(name, generator):
    dictionary, x = _dictionary(name, generator), _rows(generator)
    assert dictionary.encode(x[:0]).values.shape[0] == 0
    code = dictionary.encode(x)
    assert bool((code.values >= 0).all())
    active = code.values != 0
    assert int(active.sum()) == int((code.dense() != 0).sum())


@pytest.mark.parametrize("name", NAMES)
def test_reconstruction_is_differentiable_by_the_rows(name, generator):
    x = _rows(generator, 4).requires_grad_()
    assert torch.autograd.gradcheck(_dictionary(name, generator, width=12).reconstruct, x)


@pytest.mark.parametrize("name", ALONE)
def test_both_routes_give_the_same_step(name, generator):
    dictionary, x = _dictionary(name, generator), _rows(generator, 700)
    sparse, whole = (step(dictionary, x, 2.0, demand=DEMAND, dense=d) for d in (False, True))
    assert_close(sparse.loss, whole.loss, rtol=1e-10)
    assert_close(sparse.residual, whole.residual)
    assert (sparse.fired == whole.fired).all()
    assert sparse.gradients.keys() == whole.gradients.keys()
    for weight, gradient in whole.gradients.items():
        assert_close(sparse.gradients[weight], gradient, rtol=1e-8, atol=1e-12)


def _expected(name: str, d: Dictionary, w: dict[str, torch.Tensor], x: torch.Tensor):
    z = (x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]
    if name == "topk":
        return z, dense.kept_per_row(z, d.k)
    if name in ("batchtopk", "matryoshka_batchtopk"):
        return z, dense.kept_per_batch(z, d.k)
    if name == "groupmax":
        return z, dense.kept_per_group(z, d.k)
    if name == "gated":
        return z, dense.gated(z, w["b_enc"], w["r_mag"], w["b_mag"])
    if name == "jumprelu_tanh":
        return z, dense.jump(z, w["threshold"], 0.1)
    return z, z.clamp(min=0)


@pytest.mark.parametrize("name", BY_FORMULA)
def test_step_equals_dense_autograd(name, generator):
    """Squared error and penalty from their formulas, with every tensor dense."""
    dictionary, x = _dictionary(name, generator), _rows(generator, 70)
    made = step(dictionary, x, 3.5, demand=DEMAND)
    w = {n: t.clone().requires_grad_() for n, t in dictionary.weights.items()}
    z, a = _expected(name, dictionary, w, x)
    loss = (a @ w["W_dec"] + w["b_dec"] - x).square().sum()
    if name == "gated":
        frozen = z.clamp(min=0) @ w["W_dec"].detach() + w["b_dec"].detach() - x
        loss = loss + frozen.square().sum() + DEMAND.sparsity * DEMAND.unit * z.clamp(min=0).sum()
    if name == "standard":
        loss = loss + DEMAND.sparsity * DEMAND.unit * (a * w["W_dec"].norm(dim=1)).sum()
    if name == "jumprelu_tanh":
        cost = dense.tanh_cost(a, w["W_dec"].norm(dim=1), 4.0)
        loss = loss + DEMAND.sparsity * DEMAND.unit**2 * cost
    if name == "standard_constrained":
        loss = loss + DEMAND.sparsity * DEMAND.unit * a.sum()
    if name == "p_anneal":  # half of the way from 1 to .2
        cost = (a / DEMAND.unit).clamp(min=1e-3) ** 0.6
        line = a / DEMAND.unit * 1e-3**-0.4
        cost = torch.where(a / DEMAND.unit > 1e-3, cost, line)
        loss = loss + DEMAND.sparsity * DEMAND.unit**2 * cost.sum()
    loss = loss / (70 * 3.5)
    assert_close(made.loss, loss.detach(), rtol=1e-10)
    gradients = torch.autograd.grad(loss, list(w.values()), allow_unused=True)
    for (weight, tensor), gradient in zip(w.items(), gradients, strict=True):
        expected = torch.zeros_like(tensor) if gradient is None else gradient
        assert_close(made.gradients[weight], expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("at_once", [7, 512])
def test_nested_beginnings_each_have_their_error(generator, monkeypatch, at_once):
    monkeypatch.setattr(entries, "ROWS_AT_ONCE", at_once)
    dictionary, x = _dictionary("matryoshka_batchtopk", generator, width=64), _rows(generator, 50)
    made = step(dictionary, x, 1.0)
    w = {n: t.clone().requires_grad_() for n, t in dictionary.weights.items()}
    _, a = _expected("matryoshka_batchtopk", dictionary, w, x)
    loss = torch.zeros(())
    for end in (2, 6, 14, 30, 64):
        made_of = a[:, :end] @ w["W_dec"][:end] + w["b_dec"]
        loss = loss + (made_of - x).square().sum() / 5 / 50
    assert_close(made.loss, loss.detach(), rtol=1e-10)
    for weight in ("W_enc", "b_enc", "W_dec", "b_dec"):
        (expected,) = torch.autograd.grad(loss, w[weight], retain_graph=True)
        assert_close(made.gradients[weight], expected, rtol=1e-6, atol=1e-12)


def test_a_threshold_has_the_slope_of_a_ramp(generator):
    """∂/∂θ of z[z > θ] is −(θ/ε) K((z − θ)/ε), of [z > θ] is −(1/ε) K((z − θ)/ε)."""
    dictionary, x = _dictionary("jumprelu", generator), _rows(generator, 400)
    made = step(dictionary, x, 1.0, demand=DEMAND)
    z = (x - dictionary.b_dec) @ dictionary.W_enc.T + dictionary.b_enc
    theta, width = dictionary.own["threshold"], 0.1
    a = z * (z > theta)
    by_a = -2 * (x - dictionary.b_dec - a @ dictionary.W_dec) @ dictionary.W_dec.T / 400
    near = ((z - theta).abs() < width / 2).double()
    cost = DEMAND.sparsity * DEMAND.unit**2 / 400
    expected = (-(by_a * theta + cost) * near / width).sum(0)
    assert_close(made.gradients["threshold"], expected, rtol=1e-8)
    assert float(expected.abs().max()) > 0


def test_a_batch_is_looked_at_again_when_one_row_has_the_most(generator):
    dictionary, x = _dictionary("batchtopk", generator, width=96), _rows(generator)
    x[0] *= 1000  # all its positive features beat those of the other rows
    made = step(dictionary, x, 1.0)
    _, a = _expected("batchtopk", dictionary, dictionary.weights, x)
    assert int((a[0] > 0).sum()) > 3 * dictionary.k
    assert (made.fired == (a > 0).sum(0)).all()


def test_a_skip_and_another_target_make_a_transcoder(generator):
    weights = random_weights(generator, width=48, d=9)
    skip = torch.randn(9, 9, generator=generator, dtype=torch.float64)
    dictionary = Dictionary(architecture="topk", k=6, W_skip=skip, subtracts_b_dec=False, **weights)
    x, y = _rows(generator), _rows(generator)
    made = step(dictionary, x, 1.0, target=y)
    w = {n: t.clone().requires_grad_() for n, t in dictionary.weights.items()}
    a = dense.kept_per_row(x @ w["W_enc"].T + w["b_enc"], 6)
    error = a @ w["W_dec"] + w["b_dec"] + x @ w["W_skip"].T - y
    assert_close(dictionary.reconstruct(x) - y, error.detach())
    loss = error.square().sum() / 30
    for weight, gradient in zip(w, torch.autograd.grad(loss, list(w.values())), strict=True):
        assert_close(made.gradients[weight], gradient, rtol=1e-8, atol=1e-12)
