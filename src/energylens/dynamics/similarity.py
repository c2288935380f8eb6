"""How alike two representations of the same samples are: between checkpoints, and between layers.

Rows are samples, the same in both; columns need not correspond, nor be as many. With more columns
than rows unrelated representations look alike to plain CKA, so each measure has a test in which
rows no longer correspond (`similarity_test`), and the debiased one is 0 there on average.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData
from energylens.core.registry import measure
from energylens.stats.nulls import unit_permutation
from energylens.stats.permutation import PermutationTest, permutation_test

Similarity = Callable[[Tensor, Tensor], Tensor]
# Below this share of their first size, centred products are rounding: nothing varies.
ROUNDING = 1e-12


@measure(
    units="0 to 1, 1 for the same up to rotation and scale",
    axes=(),
    source="Kornblith et al. 2019, arXiv:1905.00414",
    null="rows permuted (`similarity_test`): far above 0 where columns are more than rows",
    unchanged_by=("sample order", "rotation of either space", "scale of either", "shift of either"),
    formula="⟨XXᵀ, YYᵀ⟩ / (‖XXᵀ‖ ‖YYᵀ‖), columns centred",
)
def linear_cka(x: Float[Tensor, "row d"], y: Float[Tensor, "sample other"]) -> Float64[Tensor, ""]:
    """Whether the same pairs of samples lie close in both; nan where one of them never varies.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        >>> round(linear_cka(x, 3 * x.flip(1) + 7).item(), 6)
        1.0

    Raises:
        BadInput: If the samples are not as many.
        InsufficientData: If there are fewer than two.
    """
    return _cosine(x, y, debiased=False)


@measure(
    units="at most 1, about 0 for unrelated samples",
    axes=(),
    source="linear CKA of the unbiased estimator of HSIC: Song et al. 2012; Nguyen et al. 2021,"
    " arXiv:2010.15327",
    null="rows permuted (`similarity_test`): 0 on average, whatever the columns",
    unchanged_by=("sample order", "rotation of either space", "scale of either", "shift of either"),
    formula="HSIC₁(X, Y) / √(HSIC₁(X, X) HSIC₁(Y, Y))",
)
def debiased_cka(
    x: Float[Tensor, "row d"], y: Float[Tensor, "sample other"]
) -> Float64[Tensor, ""]:
    """As `linear_cka`, without what few samples and many columns put there; may be below 0.

    Raises:
        BadInput: If the samples are not as many.
        InsufficientData: If there are fewer than four.
    """
    return _cosine(x, y, debiased=True)


@measure(
    units="0 to 1, 1 for the same up to rotation and scale",
    axes=(),
    source="Procrustes as in Ding et al. 2021, arXiv:2108.01661, whose distance is 2 (1 − this);"
    " Schönemann 1966",
    null="rows permuted (`similarity_test`): far above 0 where columns are more than rows",
    unchanged_by=("sample order", "rotation of either space", "scale of either", "shift of either"),
    formula="‖XᵀY‖_* / (‖X‖ ‖Y‖), columns centred",
)
def procrustes_similarity(
    x: Float[Tensor, "row d"], y: Float[Tensor, "sample other"]
) -> Float64[Tensor, ""]:
    """How well the best rotation lays one upon the other; nan where one of them never varies.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        >>> round(procrustes_similarity(x, -2 * x).item(), 6)
        1.0

    Raises:
        BadInput: If the samples are not as many.
        InsufficientData: If there are fewer than two.
    """
    _same_samples(x, y, least=2)
    one, other = (_coordinates(rows.double()) for rows in (x, y))
    nuclear = torch.linalg.svdvals(one.T @ other).sum()
    return (nuclear / _defined(one.norm() * other.norm(), x, y)).clamp(0, 1)


def layer_similarity(
    layers: Sequence[Float[Tensor, "row _"]],
    others: Sequence[Float[Tensor, "row _"]],
    *,
    debiased: bool = True,
) -> Float64[Tensor, "layer other"]:
    """CKA of each layer with each of others: of two checkpoints, or of one network with itself.

    Each layer's products are formed once, so that L × L similarities cost 2 L of them.

    Raises:
        BadInput: If the samples are not as many.
        InsufficientData: If there are too few, as for `debiased_cka`.
    """
    for other in (*layers, *others):
        _same_samples(layers[0], other, least=4 if debiased else 2)
    one, two = (
        torch.stack([_direction(rows, debiased=debiased) for rows in side])
        for side in (layers, others)
    )
    return (one @ two.T).clamp(-1, 1)


def similarity_test(
    similarity: Similarity,
    x: Float[Tensor, "row d"],
    y: Float[Tensor, "sample other"],
    *,
    draws: int = 199,
    generator: torch.Generator,
) -> PermutationTest:
    """One of the measures above beside the same with the rows of x dealt out anew.

    Args:
        similarity: `linear_cka`, `debiased_cka` or `procrustes_similarity`.
        x, y: Rows must be independent: one an image or document, not a token.

    Raises:
        BadInput: If the samples are not as many.
        InsufficientData: If so few draws cannot give a p below .05.
    """
    return permutation_test(
        similarity(x, y), lambda g: similarity(unit_permutation(x, g), y),
        draws=draws, generator=generator,
    )  # fmt: skip


def _cosine(x: Tensor, y: Tensor, *, debiased: bool) -> Float64[Tensor, ""]:
    _same_samples(x, y, least=4 if debiased else 2)
    one, other = (_direction(rows, debiased=debiased) for rows in (x, y))
    return (one * other).sum().clamp(-1, 1)


def _direction(rows: Tensor, *, debiased: bool) -> Float64[Tensor, " pair"]:
    """Products of all pairs of samples, centred, as a vector of length 1; nan if all are alike."""
    centred = rows.double() - rows.double().mean(0)
    products = centred @ centred.T
    if debiased:
        products = _u_centred(products)
    square = products.square().sum()
    least = (ROUNDING * rows.double().square().sum()).square()
    return products.flatten() / torch.where(square > least, square, torch.nan).sqrt()


def _u_centred(products: Float64[Tensor, "row other"]) -> Float64[Tensor, "row other"]:
    """Székely & Rizzo's (2014) centring, whose inner products are n (n − 3) times HSIC₁."""
    n = len(products)
    own = products - torch.diag(products.diagonal())
    sums = own.sum(0)
    level = (sums[:, None] + sums[None, :]) / (n - 2) - sums.sum() / ((n - 1) * (n - 2))
    return (own - level).fill_diagonal_(0.0)


def _coordinates(rows: Float64[Tensor, "row d"]) -> Float64[Tensor, "row axis"]:
    """Centred rows, in as many coordinates as they span: a rotation, which changes nothing."""
    centred = rows - rows.mean(0)
    if centred.shape[1] <= centred.shape[0]:
        return centred
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    return u * s


def _defined(size: Tensor, x: Tensor, y: Tensor) -> Tensor:
    least = ROUNDING * x.double().norm() * y.double().norm()
    return torch.where(size > least, size, torch.nan)


def _same_samples(x: Tensor, y: Tensor, *, least: int) -> None:
    if len(x) != len(y):
        raise BadInput(
            f"similarity is of the same samples, got {len(x)} and {len(y)}: run both networks on"
            " one probe"
        )
    if len(x) < least:
        raise InsufficientData(f"this similarity needs {least} samples, got {len(x)}: give more")
