"""Eigenvalues of Gram matrices: exact whatever the rank, and cheap where it is low."""

import pytest
import torch

from energylens.dynamics import gram as room
from energylens.dynamics.gram import eigenvalues, gram
from tests.common.compare import assert_close

SIDE = 300


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_rank(rank):
    return drawn(400, rank) @ drawn(rank, SIDE, seed=1) / rank**0.5


def falling(halving):
    """Singular values that halve every so many."""
    left = torch.linalg.qr(drawn(400, SIDE))[0]
    right = torch.linalg.qr(drawn(SIDE, SIDE, seed=1))[0]
    return left * 2.0 ** (-torch.arange(SIDE) / halving) @ right


def with_silent_units():
    layer = drawn(400, SIDE)
    layer[:, ::2] = 0.0
    return layer


LAYERS = {
    "no rank": torch.zeros(400, SIDE, dtype=torch.float64), "rank 1": of_rank(1),
    "rank 60": of_rank(60), "rank 140": of_rank(140), "rank 151": of_rank(151),
    "rank 200": of_rank(200), "a floor": of_rank(60) + 6e-4 * drawn(400, SIDE, seed=3),
    "whole": drawn(400, SIDE), "silent units": with_silent_units(),
    "halves at 10": falling(10.0), "halves at 40": falling(40.0),
    "a mean": of_rank(60) + 30 * drawn(SIDE, seed=2),
}  # fmt: skip


@pytest.fixture
def decomposed(monkeypatch):
    """Sides of the matrices that are decomposed."""
    sides, whole = [], torch.linalg.eigvalsh
    monkeypatch.setattr(
        room.torch.linalg, "eigvalsh", lambda matrix: (sides.append(len(matrix)), whole(matrix))[1]
    )
    return sides


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_eigenvalues_are_the_squares_of_singular_values(name, dtype):
    layer = LAYERS[name]
    expected = torch.linalg.svdvals(layer).flip(0) ** 2
    found = eigenvalues(gram(layer.to(dtype), centred=False))
    rounding = 40 * torch.finfo(dtype).eps * float(expected.max())
    assert_close(found, expected, rtol=0, atol=rounding)


@pytest.mark.parametrize(
    ("name", "rank"), [("rank 1", 1), ("rank 60", 60), ("a mean", 61), ("rank 140", 140)]
)
def test_what_is_decomposed_is_as_large_as_the_rank(name, rank, decomposed):
    eigenvalues(gram(LAYERS[name].float(), centred=False))
    (side,) = decomposed
    assert rank <= side <= rank + 2


@pytest.mark.parametrize("name", ["rank 200", "whole", "a floor"])
def test_all_is_decomposed_where_there_is_more_than_rounding_beside(name, decomposed):
    eigenvalues(gram(LAYERS[name].float(), centred=False))
    assert decomposed[-1] == SIDE


def test_each_of_a_batch_is_its_own_and_nan_stays_where_it_is():
    layers = torch.stack([LAYERS["rank 60"], LAYERS["whole"], LAYERS["rank 1"]])
    layers[1, 0, 0] = torch.nan
    found = eigenvalues(gram(layers, centred=True))
    assert found[1].isnan().all()
    for at in (0, 2):
        assert_close(found[at], eigenvalues(gram(layers[at], centred=True)))


def test_a_gradient_goes_through():
    layer = LAYERS["rank 60"].clone().requires_grad_()
    eigenvalues(gram(layer, centred=False)).sum().backward()
    assert_close(layer.grad, 2 * layer.detach())
