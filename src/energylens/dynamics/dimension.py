"""Over how many dimensions activations are spread, each measure beside that of isotropic noise.

All are functions of the variances along the principal axes, the squared singular values of the
row × unit matrix; `gram` has them, and says what float32 loses. Only sums of singular values of
steep spectra notice: where those fall as 1/rank², `nuclear_norm_ratio` is 1 % and
`participation_ratio_sigma` 2 % too low, and the others are right to 2e-4. Give float64 where that
matters.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData
from energylens.core.registry import measure
from energylens.dynamics.gram import eigenvalues, gram, variances, without_rounding

LEAST_AXES = 3
"""Axes that a slope is fitted to at least."""
HELD = 0.99
"""Share of the variance whose axes tell the spectral exponent."""
_LARGE = 1 << 16  # numbers
_ROUNDING = 1e-6  # of a cumulated share


@measure(
    units="dimensions",
    axes=("layer",),
    source="Rudelson & Vershynin 2007: squared Frobenius norm over squared spectral norm",
    null="isotropic noise of the same shape (Marchenko & Pastur 1967; edge by Johnstone 2001)",
    unchanged_by=("row order", "unit order", "a common scale", "rotation of the space"),
    formula="Σ λ / max λ, λ the squared singular values",
)
def stable_rank(variances: Float[Tensor, "*layer axis"]) -> Float[Tensor, "*layer"]:
    """Dimensions that rows would span if their longest axis were like the others.

    Example:
        >>> float(stable_rank(torch.tensor([4.0, 4.0, 2.0])))
        2.5
    """
    return variances.sum(-1) / _positive(variances.amax(-1))


@measure(
    units="dimensions",
    axes=("layer",),
    source="definition: inverse Simpson index of the squared singular values; Gao et al. 2017",
    null="isotropic noise of the same shape, for which (n d + 2) / (n + d + 1)",
    unchanged_by=("row order", "unit order", "a common scale", "rotation of the space"),
    formula="(Σ λ)² / Σ λ²",
)
def participation_ratio(variances: Float[Tensor, "*layer axis"]) -> Float[Tensor, "*layer"]:
    """Dimensions over which the squared length of all rows is spread.

    Example:
        >>> round(float(participation_ratio(torch.tensor([3.0, 1.0]))), 4)
        1.6
    """
    return variances.sum(-1).square() / _positive(variances.square().sum(-1))


@measure(
    units="dimensions",
    axes=("layer",),
    source="definition: inverse Simpson index of the singular values, as ndtracker has it",
    null="isotropic noise of the same shape (Marchenko & Pastur 1967)",
    unchanged_by=("row order", "unit order", "a common scale", "rotation of the space"),
    formula="(Σ √λ)² / Σ λ",
)
def participation_ratio_sigma(variances: Float[Tensor, "*layer axis"]) -> Float[Tensor, "*layer"]:
    """Dimensions over which singular values are spread: gives small axes more weight.

    Example:
        >>> round(float(participation_ratio_sigma(torch.tensor([4.0, 1.0]))), 4)
        1.8
    """
    return variances.sqrt().sum(-1).square() / _positive(variances.sum(-1))


@measure(
    units="dimensions",
    axes=("layer",),
    source="definition: principal components that keep a share q of the squared length",
    null="isotropic noise of the same shape (Marchenko & Pastur 1967)",
    unchanged_by=("row order", "unit order", "a common scale", "rotation of the space"),
    formula="min k: Σ_{i ≤ k} λ_i ≥ q Σ λ, largest first",
)
def energy_rank(variances: Float[Tensor, "*layer axis"], q: float = 0.9) -> Float[Tensor, "*layer"]:
    """Axes that hold a share q of the squared length; of n equal ones ⌈q n⌉.

    Args:
        variances: Largest first.
        q: Share, above 0, at most 1.

    Example:
        >>> float(energy_rank(torch.ones(10)))
        9.0

    Raises:
        BadInput: If q is no such share.
    """
    if not 0 < q <= 1:
        raise BadInput(f"an energy rank of q = {q} was asked for: q is a share, 0 < q ≤ 1")
    total = variances.sum(-1, keepdim=True)
    short = variances.cumsum(-1) < (q - _ROUNDING) * total
    axes = (short.sum(-1) + 1).to(variances.dtype)  # the one that reaches the share counts too
    return torch.where(total[..., 0] > 0, axes, torch.nan)


@measure(
    units="dimensions",
    axes=("layer",),
    source="definition: nuclear norm over spectral norm",
    null="isotropic noise of the same shape (Marchenko & Pastur 1967)",
    unchanged_by=("row order", "unit order", "a common scale", "rotation of the space"),
    formula="Σ √λ / max √λ",
)
def nuclear_norm_ratio(variances: Float[Tensor, "*layer axis"]) -> Float[Tensor, "*layer"]:
    """Sum of singular values in units of the largest; its square is stable rank times
    `participation_ratio_sigma`.

    Example:
        >>> float(nuclear_norm_ratio(torch.tensor([4.0, 1.0])))
        1.5
    """
    return variances.sqrt().sum(-1) / _positive(variances.amax(-1)).sqrt()


@measure(
    units="dimensions",
    axes=("layer",),
    source="exponential of the Shannon entropy of λ / Σ λ; Roy & Vetterli 2007 with λ for σ",
    null="isotropic noise of the same shape (Marchenko & Pastur 1967)",
    unchanged_by=("row order", "unit order", "a common scale", "rotation of the space"),
    formula="exp(−Σ p log p), p = λ / Σ λ",
)
def entropy_rank(variances: Float[Tensor, "*layer axis"]) -> Float[Tensor, "*layer"]:
    """Equally strong axes whose entropy would be that of the squared length over axes.

    Example:
        >>> round(float(entropy_rank(torch.ones(4))), 4)
        4.0
    """
    share = variances / _positive(variances.sum(-1, keepdim=True))
    return torch.special.entr(share).sum(-1).exp()


@measure(
    units="power of the rank",
    axes=("layer",),
    source="decay of the eigenspectrum (Stringer et al. 2019), least squares on both logarithms",
    null="isotropic noise of the same shape (Marchenko & Pastur 1967)",
    unchanged_by=("row order", "unit order", "a common scale", "rotation of the space"),
    formula="α of λ_i ∝ i^−α over the first axes that hold 99 % of Σ λ",
)
def spectral_exponent(variances: Float[Tensor, "*layer axis"]) -> Float[Tensor, "*layer"]:
    """How fast variances fall with their rank; nan where fewer than three axes hold them.

    Args:
        variances: Largest first.

    Example:
        >>> round(float(spectral_exponent(torch.arange(1.0, 9.0) ** -1.5)), 4)
        1.5
    """
    held = energy_rank(variances, HELD)[..., None]
    rank = torch.arange(1, variances.shape[-1] + 1, device=variances.device)
    counted = (rank <= held) & (variances > 0)
    x = rank.to(variances.dtype).log() * counted
    y = torch.where(counted, variances, 1.0).log()
    n = counted.sum(-1)
    mean_x, mean_y = x.sum(-1) / n, y.sum(-1) / n
    across = (x * y).sum(-1) - n * mean_x * mean_y
    slope = across / (x.square().sum(-1) - n * mean_x.square())
    return torch.where(n >= LEAST_AXES, -slope, torch.nan)


def dimensions(
    activations: Float[Tensor, "*layer row unit"], *, centred: bool, q: float = 0.9
) -> dict[str, Float64[Tensor, "*layer"]]:
    """Every measure of this file, of each matrix of a batch; nan where a matrix is all 0.

    Args:
        activations: Any number of layers of one shape, stacked.
        centred: Whether the mean row is taken off first. Activations after a ReLU have a mean that
            outweighs everything else: without centring, that direction is most of what is measured.
        q: Share of the energy rank, which is named by it: `energy_rank_90`.

    Returns:
        `stable_rank`, `participation_ratio`, `participation_ratio_sigma`, `energy_rank_90`,
        `nuclear_norm_ratio`, `entropy_rank` and `spectral_exponent`.

    Raises:
        InsufficientData: If there are fewer than two rows, or no unit.

    Example:
        >>> found = dimensions(torch.eye(4), centred=False)
        >>> round(float(found["stable_rank"]), 4), round(float(found["entropy_rank"]), 4)
        (4.0, 4.0)
    """
    return measured(variances(gram(activations, centred=centred)), q=q)


def dimensions_of_each(
    layers: Sequence[Float[Tensor, "_ _"]], *, centred: bool, q: float = 0.9
) -> dict[str, Float64[Tensor, " layer"]]:
    """`dimensions` of matrices whose shapes differ.

    Raises:
        InsufficientData: If one has fewer than two rows, or there is none.
        BadInput: If their dtypes differ.
    """
    return measured(variances_of_each(layers, centred=centred), q=q)


def variances_of_each(
    layers: Sequence[Float[Tensor, "_ _"]], *, centred: bool
) -> Float64[Tensor, "layer axis"]:
    """Variances of matrices whose shapes differ, largest first; those that are alike go together.

    Behind those of smaller matrices stand zeros, which change no measure.

    Raises:
        InsufficientData: If one has fewer than two rows, or there is none.
        BadInput: If their dtypes differ.
    """
    if len({layer.dtype for layer in layers}) > 1:
        raise BadInput("layers of several dtypes were given: convert them to one")
    if not layers:
        raise InsufficientData("dimensions of no layer were asked for: give one or more")
    alike: dict[torch.Size, list[int]] = defaultdict(list)
    for at, layer in enumerate(layers):
        alike[layer.shape].append(at)
    grams: dict[int, list[tuple[int, Tensor]]] = defaultdict(list)
    for shape, places in alike.items():
        if shape.numel() > _LARGE:  # stacking would cost more than it saves
            products = [gram(layers[at], centred=centred) for at in places]
        else:
            products = list(gram(torch.stack([layers[at] for at in places]), centred=centred))
        grams[len(products[0])] += zip(places, products, strict=True)
    table = torch.zeros(len(layers), max(grams), dtype=torch.float64, device=layers[0].device)
    for side, group in grams.items():
        table[[at for at, _ in group], -side:] = eigenvalues(torch.stack([g for _, g in group]))
    return without_rounding(table, products[0].dtype).flip(-1)


def measured(
    variances: Float[Tensor, "*layer axis"], *, q: float = 0.9
) -> dict[str, Float[Tensor, "*layer"]]:
    """Every measure of variances, largest first; zeros behind them change none."""
    return {
        "stable_rank": stable_rank(variances),
        "participation_ratio": participation_ratio(variances),
        "participation_ratio_sigma": participation_ratio_sigma(variances),
        f"energy_rank_{100 * q:g}": energy_rank(variances, q),
        "nuclear_norm_ratio": nuclear_norm_ratio(variances),
        "entropy_rank": entropy_rank(variances),
        "spectral_exponent": spectral_exponent(variances),
    }


def _positive(divisor: Tensor) -> Tensor:
    """A divisor with nan for 0, so that what is undefined says so."""
    return torch.where(divisor > 0, divisor, torch.nan)
