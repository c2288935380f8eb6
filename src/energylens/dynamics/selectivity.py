"""How much neurons tell classes apart, beside classes dealt out at random.

The largest of several class means lies above the others in any data, so none of these is 0 where
nothing is selective: `selectivity_test` sets each beside the same with labels permuted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from torch.nn.functional import one_hot

from energylens.core.errors import BadInput, InsufficientData
from energylens.core.registry import measure
from energylens.stats.nulls import unit_permutation
from energylens.stats.permutation import PermutationTest, permutation_test

Selectivity = Callable[[Tensor, Tensor], Tensor]
# A spread below this share of the mean square is rounding.
ROUNDING = 1e-12


@measure(
    units="0 where all classes are alike, 1 where one alone drives it",
    axes=("neuron",),
    source="Morcos et al. 2018, arXiv:1803.06959",
    null="labels permuted among samples (`selectivity_test`)",
    unchanged_by=("sample order", "positive scale of a neuron", "names of classes"),
    formula="(μ_max − μ_rest) / (μ_max + μ_rest), μ_rest the mean of the other classes' means",
)
def class_selectivity(
    activations: Float[Tensor, "sample neuron"], labels: Int[Tensor, " row"]
) -> Float64[Tensor, " neuron"]:
    """By how much the preferred class drives a neuron more than the others.

    For activations that are not negative, as behind a rectifier: with negative ones the ratio
    means nothing, and it is nan; so it is for a neuron that is never active.

    Example:
        >>> rows = torch.tensor([[3.0, 1.0], [3.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
        >>> class_selectivity(rows, torch.tensor([0, 0, 1, 1])).tolist()
        [0.5, 0.0]

    Raises:
        BadInput: If there is not one label a sample.
        InsufficientData: If there are fewer than two classes, or a class has one sample alone.
    """
    found = _ByClass.of(activations, labels)
    means = found.means + found.centre
    top = means.amax(0)
    rest = (means.sum(0) - top) / (len(means) - 1)
    defined = (activations >= 0).all(0) & (top > 0)
    return torch.where(defined, (top - rest) / (top + rest), torch.nan).clamp(0, 1)


@measure(
    units="standard deviations",
    axes=("neuron",),
    source="Green & Swets 1966: d′ with the mean of both variances",
    null="labels permuted among samples (`selectivity_test`)",
    unchanged_by=("sample order", "positive scale and shift of a neuron", "names of classes"),
    formula="(μ_c − μ_others) / √((σ²_c + σ²_others) / 2), c the class with the largest mean",
)
def class_d_prime(
    activations: Float[Tensor, "sample neuron"], labels: Int[Tensor, " row"]
) -> Float64[Tensor, " neuron"]:
    """How far the preferred class stands above all other samples; nan where nothing varies.

    Raises:
        BadInput: If there is not one label a sample.
        InsufficientData: If there are fewer than two classes, or a class has one sample alone.
    """
    found = _ByClass.of(activations, labels)
    best = found.means.argmax(0, keepdim=True)
    mean, square = (part.gather(0, best)[0] for part in (found.means, found.squares))
    count = found.count[best[0], 0]
    others = found.count.sum() - count
    rest = -count * mean / others  # the mean of all is 0
    own = (square - count * mean.square()) / (count - 1)
    away = (found.squares.sum(0) - square - others * rest.square()) / (others - 1)
    spread = (own.clamp(min=0) + away.clamp(min=0)) / 2
    known = found.varies & (spread > ROUNDING * found.squares.sum(0) / len(labels))
    return torch.where(known, (mean - rest) / spread.sqrt(), torch.nan)


@measure(
    units="share of variance",
    axes=("neuron",),
    source="Fisher's correlation ratio η²",
    null="labels permuted among samples (`selectivity_test`); its mean is (classes − 1) / (n − 1)",
    unchanged_by=("sample order", "scale and shift of a neuron", "names of classes"),
    formula="Σ_c n_c (μ_c − μ)² / Σ (x − μ)²",
)
def class_variance_share(
    activations: Float[Tensor, "sample neuron"], labels: Int[Tensor, " row"]
) -> Float64[Tensor, " neuron"]:
    """Share of a neuron's variance that lies between classes; nan for a neuron that never varies.

    Example:
        >>> rows = torch.tensor([[0.0], [2.0], [4.0], [6.0]])
        >>> class_variance_share(rows, torch.tensor([0, 0, 1, 1])).item()
        0.8

    Raises:
        BadInput: If there is not one label a sample.
        InsufficientData: If there are fewer than two classes, or a class has one sample alone.
    """
    found = _ByClass.of(activations, labels)
    between = (found.count * found.means.square()).sum(0)
    share = between / found.squares.sum(0)
    return torch.where(found.varies, share, torch.nan).clamp(0, 1)


def selectivity_test(
    selectivity: Selectivity,
    activations: Float[Tensor, "sample neuron"],
    labels: Int[Tensor, " row"],
    *,
    draws: int = 999,
    generator: torch.Generator,
) -> PermutationTest:
    """One of the measures above beside the same with labels permuted, one p a neuron.

    Args:
        selectivity: `class_selectivity`, `class_d_prime` or `class_variance_share`.
        activations: Samples must be independent: one row an image or document, not a token.

    Raises:
        InsufficientData: If so few draws cannot give a p below .05.
    """
    return permutation_test(
        selectivity(activations, labels),
        lambda g: selectivity(activations, unit_permutation(labels, g)),
        draws=draws, generator=generator,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _ByClass:
    """Sums by class, of activations about the mean of all: sums of raw squares cancel badly."""

    count: Float64[Tensor, "class one"]
    centre: Float64[Tensor, " neuron"]
    means: Float64[Tensor, "class neuron"]
    squares: Float64[Tensor, "class neuron"]
    varies: Bool[Tensor, " neuron"]

    @classmethod
    def of(cls, activations: Tensor, labels: Tensor) -> "_ByClass":
        if len(labels) != len(activations):
            raise BadInput(
                f"{len(activations)} samples came with {len(labels)} labels: give one each"
            )
        number = labels.unique(return_inverse=True)[1].to(activations.device)
        inside = one_hot(number).double().T
        count = inside.sum(1, keepdim=True)
        if len(count) < 2 or float(count.min()) < 2:
            raise InsufficientData(
                f"selectivity needs 2 classes with 2 samples each, found {len(count)} classes, the"
                f" smallest of {int(count.min())}: give more samples"
            )
        x = activations.double()
        centre = x.mean(0)
        about = x - centre
        squares = inside @ about.square()
        return cls(
            count=count, centre=centre, means=inside @ about / count, squares=squares,
            varies=squares.sum(0) > ROUNDING * x.square().sum(0),
        )  # fmt: skip
