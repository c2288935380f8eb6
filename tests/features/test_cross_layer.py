"""Cross-layer transcoders: every product against dense autograd, resume, refusals."""

import pytest
import torch

from energylens.core.checkpoint import FolderCheckpoint
from energylens.core.errors import BadInput, InsufficientData
from energylens.features.architecture import ARCHITECTURES, Demand
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.cross_layer_step import cross_layer_step
from energylens.features.cross_layer_training import CrossLayerTraining, train_cross_layer
from energylens.features.evaluate import fvu
from energylens.features.planted import planted_layers
from energylens.features.training import TrainOptions
from tests.common.compare import assert_close
from tests.core.test_checkpoint import Killed, Mortal
from tests.oracles import dense_cross_layer as oracle
from tests.oracles import dense_dictionaries as dense

LAYERS, WIDTH, D_IN, D_OUT, K = 3, 40, 9, 7, 4
FITTING = sorted(set(ARCHITECTURES) - {"gated", "matryoshka_batchtopk"})
ALONE = [name for name in FITTING if ARCHITECTURES[name].each_alone]
BY_FORMULA = [name for name in FITTING if name != "jumprelu"]
DEMAND = Demand(sparsity=0.3, share=0.6, unit=3.0)


def model(name, generator, dtype=torch.float64) -> CrossLayerTranscoder:
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
    kind = ARCHITECTURES[name]
    return CrossLayerTranscoder(
        architecture=name, k=K, layers=tuple(range(LAYERS)),
        W_enc=tuple(draw(WIDTH, D_IN) for _ in range(LAYERS)),
        b_enc=tuple(0.3 * draw(WIDTH) for _ in range(LAYERS)),
        W_dec=tuple(draw(WIDTH, LAYERS - n, D_OUT) for n in range(LAYERS)),
        b_dec=draw(LAYERS, D_OUT),
        own=tuple({n: draw(len(w)).abs() if name.startswith("jumprelu") else w
                   for n, w in kind.own(WIDTH, draw(1)).items()} for _ in range(LAYERS)),
    )  # fmt: skip


def rows_of(generator, n=60, dtype=torch.float64):
    draw = lambda d: [
        torch.randn(n, d, generator=generator, dtype=torch.float64).to(dtype) for _ in range(LAYERS)
    ]
    return draw(D_IN), draw(D_OUT)


def leaves(made):
    return {name: w.clone().requires_grad_() for name, w in made.weights.items()}


def activations(name, z, w):
    if name == "topk":
        return [dense.kept_per_row(part, K) for part in z]
    if name == "groupmax":
        return [dense.kept_per_group(part, K) for part in z]
    if name == "batchtopk":
        return oracle.kept_over_layers(z, K, dense.kept_per_batch)
    if name == "jumprelu":
        return [part * (part > w[f"threshold.{n}"]).detach() for n, part in enumerate(z)]
    if name == "jumprelu_tanh":
        return [dense.jump(part, w[f"threshold.{n}"], 0.1) for n, part in enumerate(z)]
    return [part.clamp(min=0) for part in z]


def cost(name, a, w):
    """The penalty in units of the squared error, from its formula."""
    unit = DEMAND.unit
    norms = [w[f"W_dec.{n}"].flatten(1).norm(dim=1) for n in range(LAYERS)]
    if name == "jumprelu_tanh":
        costs = (dense.tanh_cost(part, norm, 4.0) for part, norm in zip(a, norms, strict=True))
        return unit**2 * sum(costs)
    if name == "standard":
        return unit * sum((part * norm).sum() for part, norm in zip(a, norms, strict=True))
    if name == "standard_constrained":
        return unit * sum(part.sum() for part in a)
    if name == "p_anneal":  # half of the way from 1 to .2
        relative = torch.cat(a) / unit
        curve, line = relative.clamp(min=1e-3) ** 0.6, relative * 1e-3**-0.4
        return unit**2 * torch.where(relative > 1e-3, curve, line).sum()
    return torch.zeros((), dtype=a[0].dtype)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
@pytest.mark.parametrize("name", BY_FORMULA)
def test_step_equals_dense_autograd(name, dtype, close, generator):
    made, (x, y) = model(name, generator, dtype), rows_of(generator, dtype=dtype)
    w = leaves(made)
    a = activations(name, oracle.pre_activations(x, w), w)
    error = oracle.squared_error(oracle.outputs(a, w), y)
    share = 1 / (60 * LAYERS * D_OUT)
    loss = share * (error + DEMAND.sparsity * cost(name, a, w))
    found = cross_layer_step(made, torch.cat(x, 1), torch.cat(y, 1), demand=DEMAND)
    assert_close(found.loss, loss.detach(), rtol=close)
    assert_close(found.error, share * error.detach(), rtol=close)
    assert_close(found.fired, torch.cat([(part > 0).sum(0) for part in a]))
    assert_close(found.l0, sum(float((part > 0).sum()) for part in a) / 60 / LAYERS)
    wanted = torch.autograd.grad(loss, list(w.values()), allow_unused=True)
    for weight, gradient in zip(w, wanted, strict=True):
        expected = torch.zeros_like(w[weight]) if gradient is None else gradient
        scale = float(expected.abs().max())
        assert_close(found.gradients[weight], expected, rtol=close, atol=close * scale + 1e-12)


def test_thresholds_have_the_slope_of_a_ramp(generator):
    made, (x, y) = model("jumprelu", generator), rows_of(generator, 400)
    found = cross_layer_step(made, torch.cat(x, 1), torch.cat(y, 1), demand=DEMAND, dense=False)
    w = leaves(made)
    z = oracle.pre_activations(x, w)
    a = activations("jumprelu", z, w)
    for part in a:
        part.retain_grad()
    share = 1 / (400 * LAYERS * D_OUT)
    (share * oracle.squared_error(oracle.outputs(a, w), y)).backward()
    for n in range(LAYERS):
        theta, width = made.own[n]["threshold"], 0.1
        near = ((z[n] - theta).abs() < width / 2).double()
        cost = DEMAND.sparsity * DEMAND.unit**2 * share
        expected = (-(a[n].grad * theta + cost) * near / width).sum(0).detach()
        assert_close(found.gradients[f"threshold.{n}"], expected, rtol=1e-8, atol=1e-12)
        assert float(expected.abs().max()) > 0
        for weight in ("W_enc", "b_enc", "W_dec"):
            gradient = w[f"{weight}.{n}"].grad
            assert_close(found.gradients[f"{weight}.{n}"], gradient, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ALONE)
def test_both_routes_give_the_same_step(name, generator):
    made, (x, y) = model(name, generator), rows_of(generator, 700)
    sparse, whole = (
        cross_layer_step(made, torch.cat(x, 1), torch.cat(y, 1), demand=DEMAND, dense=d)
        for d in (False, True)
    )
    assert_close(sparse.loss, whole.loss, rtol=1e-10)
    assert_close(sparse.residual, whole.residual)
    assert (sparse.fired == whole.fired).all()
    for weight, gradient in whole.gradients.items():
        assert_close(sparse.gradients[weight], gradient, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ["topk", "jumprelu", "standard"])
def test_reconstruction_is_the_sum_over_layers(name, generator):
    made, (x, _) = model(name, generator), rows_of(generator)
    w = made.weights
    a = activations(name, oracle.pre_activations(x, w), w)
    inputs = dict(enumerate(x))
    for n, code in made.encode(inputs).items():
        assert_close(code.dense(), a[n])
    for n, expected in enumerate(oracle.outputs(a, w)):
        assert_close(made.reconstruct(inputs)[n], expected)


def test_a_row_with_the_most_is_looked_at_again_in_its_layer(generator):
    made, (x, y) = model("batchtopk", generator), rows_of(generator)
    x[1][7] *= 1000  # all its positive features beat those of other rows and layers
    w = made.weights
    a = activations("batchtopk", oracle.pre_activations(x, w), w)
    found = cross_layer_step(made, torch.cat(x, 1), torch.cat(y, 1))
    assert int((a[1][7] > 0).sum()) > 3 * K
    assert_close(found.fired, torch.cat([(part > 0).sum(0) for part in a]))


def test_the_dead_of_each_layer_make_what_is_left_over_of_what_they_write(generator):
    made, (x, y) = model("topk", generator), rows_of(generator)
    options = TrainOptions(width=WIDTH, k=K, aux_k=3, aux_weight=0.5)
    training = CrossLayerTraining(dictionary=made, options=options, steps=10)
    dead = torch.rand(LAYERS * WIDTH, generator=generator) < 0.4
    wide, goal = torch.cat(x, 1), torch.cat(y, 1)
    plain, found = (cross_layer_step(made, wide, goal) for _ in range(2))
    loss = training._revive(wide, found, dead)
    rows = [i for i in range(60) if (i + i // 4) % 4 == 0]  # one in four, along a diagonal
    w, expected = leaves(made), torch.zeros((), dtype=torch.float64)
    for n, its in enumerate(dead.split(WIDTH)):
        left = plain.residual[rows, n * D_OUT :]
        z = oracle.pre_activations(x, w)[n][rows].masked_fill(~its, -torch.inf)
        a = torch.where(dense.kept_per_row(z.detach(), 3) > 0, z, 0.0)
        again = a @ w[f"W_dec.{n}"].flatten(1) - left
        expected = expected + 0.5 / LAYERS * again.square().sum() / left.square().sum()
    assert_close(loss, expected.detach(), rtol=1e-10)
    names = [n for n in w if n.startswith(("W_enc", "b_enc", "W_dec"))]
    for name, gradient in zip(
        names, torch.autograd.grad(expected, [w[n] for n in names]), strict=True
    ):
        added = found.gradients[name] - plain.gradients[name]
        assert_close(added, gradient, rtol=1e-8, atol=1e-12)


# ---- training

PLANTED = {"features": 24, "d_in": 20, "d_out": 16, "active": 2}


def _options(name: str = "topk", **more) -> TrainOptions:
    made = {"width": 36, "k": 2, "epochs": 4, "batch": 128, "dead_after_tokens": 600, "aux_k": 8}
    return TrainOptions(architecture=name, **made | more)


def _seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["topk", "batchtopk", "jumprelu"])
def test_units_of_any_layer_do_not_matter(name, generator):
    made = planted_layers(2, rows=900, generator=generator, **PLANTED)
    x, y = ({n: r.double() for n, r in rows.items()} for rows in (made.inputs, made.targets))
    others = {0: 100 * x[0] + 7, 1: x[1] / 30}, {0: y[0] / 50 - 3, 1: 20 * y[1] + 1}
    one, _ = train_cross_layer(x, y, _options(name), _seeded())
    two, _ = train_cross_layer(*others, _options(name), _seeded())
    expected, found = one.reconstruct(x), two.reconstruct(others[0])
    assert_close(found[0], expected[0] / 50 - 3, rtol=1e-4, atol=1e-4)
    assert_close(found[1], 20 * expected[1] + 1, rtol=1e-4, atol=1e-3)
    assert_close(one.encode(x)[1].dense() > 0, two.encode(others[0])[1].dense() > 0)


def test_rows_are_read_and_written_as_they_came(generator):
    made = planted_layers(2, rows=1500, generator=generator, **PLANTED)
    y = {n: 10 * rows + 5 for n, rows in made.targets.items()}
    found, record = train_cross_layer(made.inputs, y, _options(epochs=8), _seeded())
    left = [float(fvu(y[n], made_of)) for n, made_of in found.reconstruct(made.inputs).items()]
    assert abs(sum(left) / 2 - record.fvu[-1]) < 0.05 and max(left) < 0.25
    assert record.steps == 94 and record.l0[-1] == 2.0


def same(one, other) -> None:
    (a, traced), (b, expected) = one, other
    assert a.architecture == b.architecture and a.weights.keys() == b.weights.keys()
    for name, weight in a.weights.items():
        assert torch.equal(weight, b.weights[name]), name
    for series in ("loss", "fvu", "dead_share", "l0"):
        assert getattr(traced, series) == getattr(expected, series), series


@pytest.mark.parametrize("name", FITTING)
def test_killed_and_resumed_is_uninterrupted(name, generator, tmp_path):
    made = planted_layers(2, rows=1500, generator=generator, **PLANTED)
    train = lambda **kept: train_cross_layer(
        made.inputs, made.targets, _options(name, aux_k=4), _seeded(), **kept
    )
    whole = train()
    for every, last in ((7, 1), (5, 3)):
        with pytest.raises(Killed):
            train(checkpoint=Mortal(tmp_path / "kept", every=every, last=last, saves=True))
    same(train(checkpoint=FolderCheckpoint(tmp_path / "kept")), whole)


def test_massive_rows_of_any_layer_are_left_out_of_all(generator):
    made = planted_layers(2, rows=900, generator=generator, **PLANTED)
    spoilt = {n: torch.cat([r, r[:2]]) for n, r in made.inputs.items()}
    goal = {n: torch.cat([r, r[:2]]) for n, r in made.targets.items()}
    spoilt[1][900] += 3000
    goal[0][901] += 3000
    found, record = train_cross_layer(spoilt, goal, _options(), _seeded())
    assert (record.rows, record.massive_rows) == (900, 2)
    whole, _ = train_cross_layer(made.inputs, made.targets, _options(), _seeded())
    assert_close(found.W_enc[0], whole.W_enc[0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: y.pop(1), BadInput, r"layers \[0, 1\] and targets of layers \[0\]"),
        (lambda x, y: x.update({1: x[1][:5]}), BadInput, "equally many rows"),
        (lambda x, y: x.update({1: x[1][:, :5]}), BadInput, r"one width, found \[5, 20\]"),
        (lambda x, y: y[1][3].fill_(torch.nan), BadInput, "1 of 300 targets hold nan"),
        (lambda x, y: x.update({1: 0 * x[1]}), InsufficientData, "of site 2 are equal"),
        (lambda x, y: (x.clear(), y.clear()), BadInput, "each layer needs both"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change, error, message, generator):
    made = planted_layers(2, rows=300, generator=generator, **PLANTED)
    x, y = dict(made.inputs), dict(made.targets)
    change(x, y)
    with pytest.raises(error, match=message):
        train_cross_layer(x, y, _options(), _seeded())


@pytest.mark.parametrize(
    ("how", "message"),
    [({"name": "gated"}, "gated has a loss of its own"), ({"skip": True}, "skip was asked for"),
     ({"name": "matryoshka_batchtopk"}, "train a cross-layer transcoder as topk")],
)  # fmt: skip
def test_what_is_not_trained_is_refused(how, message, generator):
    made = planted_layers(2, rows=300, generator=generator, **PLANTED)
    with pytest.raises(BadInput, match=message):
        train_cross_layer(made.inputs, made.targets, _options(**how), _seeded())


def test_other_layers_are_refused(generator):
    made, (x, _) = model("topk", generator), rows_of(generator)
    with pytest.raises(BadInput, match="reads layers 0, 1, 2, found 0, 1"):
        made.encode({0: x[0], 1: x[1]})
    with pytest.raises(BadInput, match=r"decoders to \[3, 2\] layers"):
        CrossLayerTranscoder(
            architecture="topk", k=2, layers=(0, 1), W_enc=made.W_enc[:2], b_enc=made.b_enc[:2],
            W_dec=made.W_dec[:2], b_dec=made.b_dec[:2],
        )  # fmt: skip
