"""Variances of activations along their principal axes, from the smaller Gram matrix.

The product of rows with rows and that of units with units have the same eigenvalues but for zeros:
the squared singular values of the row × unit matrix. Both the product and its decomposition are
taken in the dtype of the activations (at least float32). What float32 loses is known: a variance
below 1e-6 of the largest (a singular value below 1e-3 of it) cannot be told from rounding and
counts as 0.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from energylens.core.errors import InsufficientData

_ROUNDING = 8  # machine epsilons, of the largest eigenvalue
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
    found = torch.linalg.eigvalsh(gram.masked_fill(undefined[..., None], 0.0))
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
