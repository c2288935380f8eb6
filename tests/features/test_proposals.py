"""What a bf16 product proposes ends as what the exact product chooses, whatever the numbers."""

import pytest
import torch

from energylens.features.architecture import ARCHITECTURES, Proposing
from energylens.features.dictionary import Dictionary
from energylens.features.entries import Chosen
from energylens.features.kernels import top_k
from energylens.features.mesh import ALONE
from energylens.features.proposals import Proposals, RoughEncoder, slack
from energylens.features.step import choose, step
from energylens.features.train import train
from energylens.features.training import TrainOptions
from tests.common.compare import assert_close
from tests.features.planted import planted_rows, random_weights

PROPOSING = sorted(name for name in ARCHITECTURES if isinstance(ARCHITECTURES[name], Proposing))


def rough(rows, W, b) -> Proposals:
    return Proposals.of(RoughEncoder.of(W, b), rows)


def cases(generator):
    """Rows and weights: as usual, of wildly different sizes, and nearly equal everywhere."""
    draw = lambda *shape: torch.randn(*shape, generator=generator)
    W, rows, b = draw(256, 48), draw(33, 48), draw(256)
    yield "usual", rows, W, b
    yield "sizes", rows * 10 ** (3 * draw(33, 1)), W * 10 ** draw(256, 1), 100 * b
    yield "equal", rows, W[:1] + 1e-4 * W, 1e-4 * b
    yield "cancel", rows + 1000, W - W.mean(1, keepdim=True), b
    yield "zero", rows * (draw(33, 1) > 0), W, 0 * b


@pytest.fixture(params=range(5), ids=["usual", "sizes", "equal", "cancel", "zero"])
def case(request, generator):
    return list(cases(generator))[request.param][1:]


def test_no_entry_exceeds_what_is_said_of_its_score(case):
    rows, W, b = case
    made = rough(rows, W, b)
    truth = rows.double() @ W.double().T + b.double()
    said = torch.stack([made.at_most(score) for score in made.scores.T], dim=1)
    assert (truth <= said.double()).all()
    size = rows.norm(dim=1, keepdim=True) * W.norm(dim=1).amax() + b.abs().amax()
    assert ((said - truth) <= 0.02 * size).all(), "and it is no idle bound"


def test_the_bound_on_what_is_left_out_holds(case):
    rows, W, b = case
    truth = rows.double() @ W.double().T + b.double()
    z, columns, left = rough(rows, W, b).likely(20)
    others = truth.scatter(1, columns, -torch.inf).amax(1)
    assert (others <= left.double()).all()
    scale = rows.double().norm(dim=1, keepdim=True) * W.double().norm(dim=1).amax()
    assert ((z - truth.gather(1, columns)).abs() <= 1e-5 * scale + 1e-4).all()
    assert (rough(rows, W, b).likely(256)[2] == -torch.inf).all(), "nothing is left out"


@pytest.mark.parametrize("k", [1, 8, 40, 250])
def test_the_k_largest_are_those_of_the_exact_product(case, k):
    rows, W, b = (tensor.double() for tensor in case)
    values, columns = rough(rows, W, b).top_k(k)
    wanted, exact = top_k(torch.addmm(b, rows, W.T), k)
    assert_close(values.sort(1).values, wanted.sort(1).values, rtol=1e-9, atol=1e-7)
    ties = torch.addmm(b, rows, W.T).sort(1, descending=True).values.diff().abs().amin(1) < 1e-9
    assert columns.sort(1).values[~ties].equal(exact.sort(1).values[~ties])


@pytest.mark.parametrize("groups", [1, 8, 64, 256])
def test_the_largest_of_groups_are_those_of_the_exact_product(case, groups):
    rows, W, b = (tensor.double() for tensor in case)
    values, columns = rough(rows, W, b).largest_of_groups(groups)
    pre = torch.addmm(b, rows, W.T)
    best = pre.view(len(rows), groups, -1).amax(2)
    assert_close(values, best, rtol=1e-9, atol=1e-7)
    assert_close(pre.gather(1, columns), best, rtol=1e-9, atol=1e-7)
    assert (columns // (256 // groups) == torch.arange(groups)).all()


def test_rows_that_the_bound_cannot_tell_are_read_whole(generator, monkeypatch):
    """With the margin taken away, near-equal entries are confused: it is the bound that decides."""
    rows, W, b = list(cases(generator))[2][1:]
    truth = torch.addmm(b, rows, W.T).topk(8, dim=1).values.amin(1)
    found = rough(rows, W, b)
    read = []
    whole = Proposals._whole
    monkeypatch.setattr(
        Proposals, "_whole", lambda self, some: read.append(some) or whole(self, some)
    )
    assert_close(found.top_k(8)[0].amin(1), truth, rtol=1e-4)
    assert len(read[0]) == len(rows)
    blind = Proposals(
        encoder=found.encoder, centered=rows, scores=found.scores,
        margin=torch.full_like(found.margin, -torch.inf),
    )  # fmt: skip
    assert (blind.top_k(8)[0].amin(1) < truth - 1e-6).any()


def test_recall_and_what_is_read_again_at_a_usual_width(generator):
    """The claim of the page: every one of the k largest is found, and few rows are read twice."""
    d, width, k = 256, 4096, 32
    rows = torch.randn(256, d, generator=generator)
    W = torch.nn.functional.normalize(torch.randn(width, d, generator=generator), dim=1)
    made = rough(rows, W, torch.zeros(width))
    z, _, left = made.likely(k + slack(k, d))
    doubtful = left > z.topk(k, dim=1).values.amin(1)
    assert float(doubtful.double().mean()) < 0.02
    columns = made.top_k(k)[1]
    hit = torch.zeros(256, width).scatter(1, columns, 1).gather(1, (rows @ W.T).topk(k, dim=1)[1])
    assert float(hit.mean()) == 1


@pytest.mark.parametrize("name", PROPOSING)
def test_a_step_by_proposals_is_the_step(name, generator):
    weights = random_weights(generator, width=64, d=12)
    x = 2 * torch.randn(700, 12, generator=generator, dtype=torch.float64)
    x[::7] *= 9  # rows that want far more than k, for those that share
    own = ARCHITECTURES[name].own(64, x)
    dictionary = Dictionary(architecture=name, k=4, **weights, own=own)
    one, other = (step(dictionary, x, 3.0, products=p) for p in ("fp32", "bf16"))
    assert other.loss == pytest.approx(one.loss, rel=1e-9)
    assert torch.equal(one.fired, other.fired) and one.l0 == other.l0
    for weight, gradient in one.gradients.items():
        assert_close(other.gradients[weight], gradient, rtol=1e-7, atol=1e-10)


def test_rows_that_share_are_asked_again(generator):
    """One row has nearly all that is large: more than its candidates, by either product."""
    weights = random_weights(generator, width=64, d=12)
    x = torch.randn(40, 12, generator=generator, dtype=torch.float64)
    x[3] *= 1000
    kind = ARCHITECTURES["batchtopk"]
    dictionary = Dictionary(architecture="batchtopk", k=2, **weights, own=kind.own(64, x))
    centered = x - dictionary.b_dec
    pre = centered @ dictionary.W_enc.T + dictionary.b_enc
    least = pre.flatten().topk(80).values[-1]
    for products in ("fp32", "bf16"):
        chosen = choose(kind, dictionary, centered, products=products)
        assert len(chosen.z) == 80 and float(chosen.z.min()) == pytest.approx(float(least))
        assert chosen.start[4] - chosen.start[3] > 16


def test_a_batch_with_little_above_zero_keeps_all_of_it(generator):
    """Fewer positive entries than n · k: what was not proposed may be positive still."""
    kind, x = ARCHITECTURES["batchtopk"], torch.randn(20, 6, generator=generator)
    for offset in (-4.0, -7.0, -30.0):
        W = torch.randn(50, 6, generator=generator)
        dictionary = Dictionary(
            architecture="batchtopk", k=3, W_enc=W, W_dec=W, b_enc=torch.full((50,), offset),
            b_dec=torch.zeros(6), own=kind.own(50, W),
        )  # fmt: skip
        one, other = (choose(kind, dictionary, x, products=p) for p in ("fp32", "bf16"))
        assert torch.equal(one.start, other.start)
        assert_close(other.z.sort().values, one.z.sort().values, rtol=1e-5, atol=1e-5)


def test_training_by_proposals_follows_the_exact_one():
    """Two hundred updates in float32, of which each feeds the next."""
    generator = torch.Generator().manual_seed(1)
    rows, _ = planted_rows(generator, n=1500)
    losses = {}
    for precision in ("fp32", "bf16"):
        options = TrainOptions(width=64, k=4, batch=128, epochs=17, precision=precision)
        _, record = train(rows, options, torch.Generator().manual_seed(3))
        losses[precision] = torch.tensor(record.fvu)
    assert_close(losses["bf16"][:20], losses["fp32"][:20], rtol=1e-4)
    assert_close(losses["bf16"][-50:].mean(), losses["fp32"][-50:].mean(), rtol=0.02)


@pytest.mark.parametrize(
    ("z", "left", "again"),
    [
        ([[5.0, 2.0], [4.0, 1.0]], [1.0, 3.9], []),
        ([[5.0, 2.0], [4.0, 1.0]], [1.0, 4.0], [1]),
        ([[5.0, 2.0], [4.0, 1.0]], [1.0, torch.nan], [1]),
        ([[5.0, -1.0], [-1.0, -3.0]], [0.5, -4.0], [0]),  # less than n · k: all above 0 is wanted
    ],
)
def test_a_row_is_asked_again_if_what_it_left_out_may_be_kept(z, left, again):
    kind = ARCHITECTURES["batchtopk"]
    dictionary = Dictionary(
        architecture="batchtopk", k=1, W_enc=torch.zeros(9, 2), W_dec=torch.zeros(9, 2),
        b_enc=torch.zeros(9), b_dec=torch.zeros(2),
    )  # fmt: skip
    chosen = Chosen(
        torch.tensor([0, 1, 2, 3]), torch.tensor([0, 2]), torch.tensor(z).flatten(),
        torch.tensor(left),
    )  # fmt: skip
    assert kind.settle(chosen, dictionary, ALONE).rows.tolist() == again
