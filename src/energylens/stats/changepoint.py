"""How large a shift noise alone would show: the noise of a series, and the null drawn from it."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.stats.interval import checked_level
from energylens.stats.multiplicity import resampling_p
from energylens.stats.shifts import Scan, coloured, whitened

FINE = 50  # correlations at which the noise is fitted
MOST = 0.99
CLIP = 3.5
TAIL = 0.2  # share of the draws that the tail is fitted to
FEWEST = 99
AT_ONCE = 2**18  # numbers of one tensor


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise of each series: x_t = φ x_{t−1} + scale_t · new_t.

    Attributes:
        correlation: φ, from restricted likelihood, which the columns do not bias.
        scale: Standard deviation of what is new in each sample.
        new: What was new in each sample, in units of the scale.
        basis: What the logarithm of the scale is made of.
        spread: Standard error of the weights of that basis.
    """

    correlation: Float64[Tensor, " series"]
    scale: Float64[Tensor, "series sample"]
    new: Float64[Tensor, "series sample"]
    basis: Float64[Tensor, "sample part"]
    spread: Float64[Tensor, " series"]


def changing_scale(
    values: Float64[Tensor, "series sample"], basis: Float64[Tensor, "sample column"]
) -> Float64[Tensor, "series sample"]:
    """How the size of noise changes along each series, up to a factor.

    Least squares of the logarithm of |x_t − x_{t−1}| on the basis: a jump is one difference of
    many, and its logarithm is no outlier.
    """
    moves = values.diff(dim=1).abs()
    moves = torch.cat([moves[:, :1], moves], 1)
    least = 0.05 * moves.mean(1, keepdim=True)
    logs = torch.maximum(moves, least).log()
    return (logs @ basis @ basis.T).exp()


def fit_noise(
    values: Float64[Tensor, "series sample"],
    columns: Float64[Tensor, "series sample column"],
    scale: Float64[Tensor, "series sample"],
    basis: Float64[Tensor, "sample part"],
) -> Noise:
    """Noise that the columns leave: its correlation, and how its scale changes.

    The correlation is that of restricted likelihood (Patterson & Thompson 1971): a plain fit takes
    noise for less correlated than it is, the more so the more columns there are. The scale takes
    two steps of maximum likelihood (Fisher scoring; outliers count as `CLIP` of the scale) from the
    one given. A column of zeros is no column.

    Args:
        values: Series.
        columns: What is taken out of each.
        scale: A first scale, up to a factor.
        basis: Orthonormal columns that the logarithm of the scale is made of.
    """
    for _ in range(2):
        new = _innovations(values, columns, scale)[1].clamp(-CLIP, CLIP).square()
        scale = scale * ((0.5 * (new / new.mean(1, keepdim=True) - 1)) @ basis @ basis.T).exp()
    phi, new, size = _innovations(values, columns, scale)
    spread = new.clamp(-CLIP, CLIP).square().std(1) / 2
    return Noise(correlation=phi, scale=scale * size, new=new, basis=basis, spread=spread)


def _innovations(values: Tensor, columns: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Correlation, what is new in each sample in units of its scale, and the scale's factor."""
    phis = torch.linspace(0, MOST, FINE, dtype=values.dtype, device=values.device)
    samples = values.shape[1]
    empty = (columns == 0).all(1)
    grams = _grams(torch.cat([columns, values[:, :, None]], 2), scale, phis)
    pad = torch.nn.functional.pad(empty, (0, 1)).to(values)
    root = torch.linalg.cholesky(grams + torch.diag_embed(pad)[:, None])
    pivots = root.diagonal(dim1=-2, dim2=-1).clamp_min(1e-150).log()
    free = samples - (~empty).sum(1)
    restricted = (
        -free[:, None] * 2 * pivots[..., -1] - 2 * pivots[..., :-1].sum(-1)
        + (1 - phis.square()).log()
    )  # fmt: skip
    phi = _peak(phis, restricted)
    x = whitened(columns.mT, phi[:, None], scale[:, None]).mT
    y = whitened(values, phi, scale)
    gram = x.mT @ x + torch.diag_embed(empty.to(values))
    weights = torch.cholesky_solve(x.mT @ y[..., None], torch.linalg.cholesky(gram))
    new = y - (x @ weights)[..., 0]
    size = new.square().sum(1, keepdim=True).div(free[:, None]).sqrt()
    return phi, new / size, size


def null_gains(
    scan: Scan, noise: Noise, draws: int, *, block: int, generator: torch.Generator
) -> Float[Tensor, "draw series"]:
    """The best gain of a shift in series that have none, drawn by a block bootstrap.

    What was new in each sample is drawn again in blocks of `block` neighbours (Künsch 1989, on a
    circle), takes the scale of its place and the correlation of its series, and goes through the
    same scan. The columns need not be added: the scan takes them out, whatever their weights. Since
    the scan works with an estimate of the scale, the scale of each draw differs from it as the
    estimate does from the truth.
    """
    series, samples = noise.new.shape
    blocks = -(-samples // block)
    within = torch.arange(block, device=generator.device)
    at_once = max(1, AT_ONCE // (draws * samples))
    gains = []
    for start in range(0, series, at_once):
        here = slice(start, start + at_once)
        new, scale, phi = noise.new[here], noise.scale[here], noise.correlation[here]
        first = torch.randint(
            samples, (len(new), draws, blocks, 1), generator=generator, device=generator.device
        )
        place = ((first + within) % samples).flatten(2)[..., :samples].to(new.device)
        drawn = new[:, None].expand(-1, draws, -1).gather(2, place)
        weights = torch.randn(
            len(new), draws, noise.basis.shape[1], generator=generator, device=generator.device
        ).to(new)
        off = (weights * noise.spread[here, None, None]) @ noise.basis.T
        values = coloured(drawn, phi[:, None], scale[:, None] * off.exp()).float()
        gains.append(_part(scan, here).gain(values).double())
    return torch.cat(gains).T


def tail_p(
    observed: Float[Tensor, "*shape"], null: Float[Tensor, " draw *shape"]
) -> Float64[Tensor, "*shape"]:
    """P of a likelihood ratio among draws of its null, and beyond them by its exponential tail.

    Up to the ten largest draws it is `resampling_p`. Beyond, the largest fifth of the draws gives
    the mean excess of an exponential tail, as twice a log likelihood ratio has one (as Knijnenburg
    et al. 2009 do with a generalised Pareto tail); the mean is taken at the upper end of its 90 %
    interval, so that few draws do not make a p small.

    Raises:
        InsufficientData: If there are fewer than 99 draws.
    """
    draws = len(null)
    if draws < FEWEST:
        raise InsufficientData(
            f"the tail of a null needs {FEWEST} draws of it, got {draws}: draw more"
        )
    observed = observed.double()
    ranked = null.double().sort(0).values
    count = int(TAIL * draws)
    start = ranked[draws - count - 1]
    from scipy.special import gammaincinv

    excess = (ranked[draws - count :] - start).sum(0) / float(gammaincinv(count, 0.1))
    beyond = count / draws * (-(observed - start) / excess).exp()
    plain = resampling_p(observed, null.double())
    return torch.where(observed > ranked[draws - 10], torch.minimum(beyond, plain), plain)


def date_drop(level: float = 0.95) -> float:
    """By how much twice the log likelihood may fall within the interval of a date (Hansen 2000).

    Example:
        >>> round(date_drop(), 2)
        7.35
    """
    return -2 * math.log(1 - math.sqrt(checked_level(level)))


def _grams(columns: Tensor, scale: Tensor, phis: Tensor) -> Tensor:
    """Inner products of the whitened columns at every correlation: quadratic in it."""
    here, u = columns, scale.square().reciprocal()[..., None]
    before = torch.nn.functional.pad(columns, (0, 0, 1, 0))[:, :-1]
    plain, lagged = here.mT @ (u * here), before.mT @ (u * before)
    crossed = here.mT @ (u * before)
    first = here[:, 0, :, None] * here[:, 0, None, :] * u[:, 0, :, None]
    phi = phis[:, None, None]
    return (
        plain[:, None] - phi * (crossed + crossed.mT)[:, None]
        + phi.square() * (lagged - first)[:, None]
    )  # fmt: skip


def _peak(places: Tensor, heights: Tensor) -> Tensor:
    """Where the parabola through the highest of evenly spaced points and its neighbours peaks."""
    top = heights.argmax(1)
    middle = top.clamp(1, len(places) - 2)
    left, here, right = (heights.gather(1, (middle + by)[:, None])[:, 0] for by in (-1, 0, 1))
    bend = (left - 2 * here + right).clamp_max(-1e-12)
    by = (0.5 * (left - right) / bend).clamp(-1, 1)
    return (places[middle] + by * (places[1] - places[0])).clamp(0, MOST)


def _part(scan: Scan, here: slice) -> Scan:
    return Scan(templates=scan.templates, scale=scan.scale[here], basis=scan.basis[:, here],
                own=scan.own[:, here])  # fmt: skip
