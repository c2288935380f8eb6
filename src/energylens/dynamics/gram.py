"""Variances of activations along their principal axes, from the smaller Gram matrix.

The product of rows with rows and that of units with units have the same eigenvalues but for zeros:
the squared singular values of the row × unit matrix. Both the product and its decomposition are
taken in the dtype of the activations (at least float32). What float32 loses is known: a variance
below 1e-6 of the largest (a singular value below 1e-3 of it) cannot be told from rounding and
counts as 0.
"""

import torch
from jaxtyping import Float, Float64
from scipy.linalg.lapack import dpstrf, spstrf
from torch import Tensor

from energylens.core.errors import InsufficientData

_ROUNDING = 8  # machine epsilons, of the largest eigenvalue
_PIVOT = 4  # machine epsilons, of the largest entry: what is less is left of a pivot by rounding
_ROWS = 1024  # of a block: long sums in float32 lose digits
_HALVED = 256  # sides from which a product that is its own transpose is made of parts


def gram(
    activations: Float[Tensor, "*layer row unit"], *, centred: bool
) -> Float[Tensor, "*layer side side"]:
    """The smaller of the products of rows with rows and of units with units.

    Raises:
        InsufficientData: If there are fewer than two rows, or no unit.
    """
    rows, units = activations.shape[-2:]
    if rows < 2 or units < 1:
        raise InsufficientData(
            f"a dimension needs two rows and a unit, got {rows} × {units}: give more samples"
        )
    wide = activations.float() if activations.dtype.itemsize < 4 else activations
    if not centred:
        return _smaller(wide)
    mean = wide.mean(-2, keepdim=True)
    product = _smaller(wide - mean)  # taking the mean off the product would cancel digits
    # Of rows that are all the same, rounding of the mean is left, and no dimension.
    rounding = 4 * torch.finfo(wide.dtype).eps
    same = _length(product) <= rows * rounding**2 * mean.square().sum((-2, -1))
    return product.masked_fill(same[..., None, None], 0.0)


def eigenvalues(gram: Float[Tensor, "*layer side side"]) -> Float64[Tensor, "*layer side"]:
    """Eigenvalues in ascending order; nan where a matrix is not finite."""
    # Whatever is not finite in a row or a unit is not in its square on the diagonal either.
    undefined = ~_length(gram)[..., None].isfinite()
    finite = gram.masked_fill(undefined[..., None], 0.0)
    side = gram.shape[-1]
    if finite.device.type != "cpu" or side < _HALVED or gram.requires_grad:
        found = torch.linalg.eigvalsh(finite)
    else:
        found = finite.new_empty(gram.shape[:-1])
        for one, into in zip(finite.reshape(-1, side, side), found.view(-1, side), strict=True):
            into.copy_(_by_rank(one))
    return found.double().masked_fill(undefined, torch.nan)


def without_rounding(
    values: Float64[Tensor, "*layer side"], dtype: torch.dtype
) -> Float64[Tensor, "*layer side"]:
    """Eigenvalues with 0 for those that a decomposition in this dtype cannot tell from it."""
    least = _ROUNDING * torch.finfo(dtype).eps * values.amax(-1, keepdim=True)
    return values.masked_fill(values <= least, 0.0)


def variances(gram: Float[Tensor, "*layer side side"]) -> Float64[Tensor, "*layer side"]:
    """Squared singular values behind Gram matrices, largest first; nan where one is not finite."""
    return without_rounding(eigenvalues(gram), gram.dtype).flip(-1)


def ceiling(rows: int, units: int, *, centred: bool) -> int:
    """The largest value that a dimension can have: min(rows, units), a row less where the mean
    was taken off.

    Example:
        >>> ceiling(160, 512, centred=False), ceiling(160, 512, centred=True)
        (160, 159)
    """
    return min(rows - centred, units)


def _length(gram: Tensor) -> Tensor:
    """Squared length of all rows."""
    return gram.diagonal(dim1=-2, dim2=-1).sum(-1)


def _by_rank(gram: Float[Tensor, "side side"]) -> Float[Tensor, " side"]:
    """Eigenvalues, ascending; by far cheaper where the rank is at most half of the side.

    A layer with more units than inputs has no more rank than those. A Cholesky factor with
    pivots (Higham 2002, §10.3) finds it: G = RᵀR with R of `rank` rows, and the other eigenvalues
    of G are those of R Rᵀ. What it leaves out is counted, and must be what counts as 0 anyway.
    """
    eps, largest = torch.finfo(gram.dtype).eps, gram.diagonal().amax().item()
    if _more_than_half_rank(gram, eps * largest):
        return torch.linalg.eigvalsh(gram)
    factor = spstrf if gram.dtype == torch.float32 else dpstrf
    # A symmetric matrix is its transpose, whose order of entries is LAPACK's.
    packed, _, rank, _ = factor(gram.numpy().T, tol=_PIVOT * eps * largest)
    if not 0 < rank <= len(gram) // 2:
        return torch.linalg.eigvalsh(gram)
    R = torch.from_numpy(packed)[:rank].triu()
    values = torch.linalg.eigvalsh(R @ R.T)
    left_out = gram.diagonal().double().sum() - R.double().square().sum()
    if left_out > _ROUNDING * eps * values[-1]:
        return torch.linalg.eigvalsh(gram)
    return torch.cat([values.new_zeros(len(gram) - rank), values.clamp_min_(0.0)])


def _more_than_half_rank(gram: Float[Tensor, "side side"], rounding: float) -> bool:
    """Whether a little more than half of the units are independent, as far as one can tell cheaply:
    a factor of their product alone has then no pivot that rounding could have left."""
    half = len(gram) // 2 + 8
    factor, failed = torch.linalg.cholesky_ex(gram[:half, :half])
    return not failed and bool(factor.diagonal().square().amin() > _PIVOT * rounding)


def _smaller(wide: Tensor) -> Tensor:
    rows, units = wide.shape[-2:]
    if rows < units:
        return _squared(wide.mT)
    whole = rows - rows % _ROWS if rows > 2 * _ROWS else 0
    product = _squared(wide[..., whole:, :])
    if whole:
        blocks = wide[..., :whole, :].unflatten(-2, (-1, _ROWS))
        product = product + _squared(blocks).sum(-3)
    return product


def _squared(x: Tensor) -> Tensor:
    """xᵀ x; of a large one the lower half is the upper half again, and not computed."""
    side = x.shape[-1]
    if side < _HALVED:
        return x.mT @ x
    left, right = x[..., : side // 2], x[..., side // 2 :]
    corner = left.mT @ right
    upper = torch.cat([_squared(left), corner], -1)
    return torch.cat([upper, torch.cat([corner.mT, _squared(right)], -1)], -2)
