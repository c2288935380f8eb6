"""Many hypotheses at once: false discovery rate for exploration, max-T for a headline."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.stats.interval import checked_level
from energylens.stats.robust import standardised

LEVEL = 0.05
# The null is drawn in float32, whose rounding must not decide between equal statistics.
ROUNDING = 1e-5


@dataclass(frozen=True, kw_only=True)
class MaxT:
    """Family-wise inference over all features of one call.

    Attributes:
        p_adjusted: Family-wise p, (1 + #{null maximum ≥ |t|}) / (1 + draws), or the exact share
            where all patterns of signs were gone through; nan where undefined.
        threshold_05: |t| must be larger for p_adjusted ≤ .05; nan if no feature is defined.
        draws: Draws of the null, or the number of all patterns.
    """

    p_adjusted: Float64[Tensor, " feature"]
    threshold_05: float
    draws: int


def benjamini_hochberg(
    p: Float[Tensor, "*shape"], *, draws: int | None = None, level: float = LEVEL
) -> Float64[Tensor, "*shape"]:
    """False-discovery-rate adjusted p (Benjamini & Hochberg 1995), all of `p` one family.

    Undefined p stay nan and are not counted as hypotheses.

    Example:
        >>> benjamini_hochberg(torch.tensor([0.01, torch.nan, 0.04])).numpy().round(4)
        array([0.02,  nan, 0.04])

    Args:
        p: Raw p-values.
        draws: Draws of the null that `p` was resampled from; None for p from a formula.
        level: Rate at which the result will be read; only decides how many draws are enough.

    Raises:
        InsufficientData: If `draws` cannot resolve the smallest threshold, level / hypotheses.
    """
    from scipy.stats import false_discovery_control

    p = p.double()
    defined = ~p.isnan()
    q = torch.full_like(p, torch.nan)
    hypotheses = int(defined.sum())
    if hypotheses == 0:
        return q
    if draws is not None and draws < draws_needed(hypotheses, level):
        raise InsufficientData(
            f"Benjamini–Hochberg at {level} over {hypotheses} hypotheses needs resampling p-values "
            f"from {draws_needed(hypotheses, level)} draws, got {draws}: "
            "draw more, or use max_t or an analytic p"
        )
    adjusted = false_discovery_control(p[defined].numpy(force=True), method="bh")
    q[defined] = torch.as_tensor(adjusted, dtype=q.dtype, device=q.device)
    return q


def draws_needed(hypotheses: int, level: float = LEVEL) -> int:
    """Draws whose least p, 1 / (1 + draws), is below level / hypotheses.

    Example:
        >>> draws_needed(2048, 0.05)
        40960
    """
    return math.ceil(round(hypotheses / checked_level(level), 6))


def resampling_p(
    observed: Float[Tensor, "*shape"], null: Float[Tensor, " draw *shape"]
) -> Float64[Tensor, "*shape"]:
    """(1 + #{null ≥ observed}) / (1 + draws): one-sided, so pass sizes for a two-sided test.

    Never zero (Phipson & Smyth 2010). Undefined where the observed or any draw is.

    Example:
        >>> resampling_p(torch.tensor(2.0), torch.tensor([1.0, 2.0, 3.0])).item()
        0.75
    """
    beyond = (null >= observed).sum(0).double()
    undefined = observed.isnan() | null.isnan().any(0)
    return torch.where(undefined, torch.nan, (1 + beyond) / (1 + len(null)))


def two_sided_p(
    observed: Float[Tensor, "*shape"], null: Float[Tensor, " draw *shape"]
) -> Float64[Tensor, "*shape"]:
    """Twice the smaller of the two one-sided `resampling_p`, at most 1.

    Example:
        >>> two_sided_p(torch.tensor(9.0), torch.arange(8.0)).item() * 9
        2.0
    """
    either = torch.minimum(resampling_p(observed, null), resampling_p(-observed, -null))
    return (2 * either).clamp(max=1)


def combined_p(p: Float[Tensor, " test"], *, draws: int) -> tuple[float, int]:
    """One p of several independent tests of a kind, and how many were defined (Stouffer 1949).

    A small p comes from many tests that are a little small, where one that is very small does not
    suffice. From `scipy.stats.combine_pvalues`.

    Example:
        >>> found, tests = combined_p(torch.tensor([0.1, 0.1, 0.1, 0.1, torch.nan]), draws=999)
        >>> round(found, 4), tests
        (0.0052, 4)

    Args:
        draws: Draws of the null that each p was resampled from; none is taken for closer to 1
            than 1 − 1 / (2 draws).
    """
    from scipy.stats import combine_pvalues

    known = p[~p.isnan()].double()
    if len(known) == 0:
        return math.nan, 0
    p = known.clamp(max=1 - 1 / (2 * draws))
    return float(combine_pvalues(p.numpy(force=True), method="stouffer").pvalue), len(known)


def max_t(
    scores: Float[Tensor, "unit feature"],
    *,
    draws: int = 10_000,
    generator: torch.Generator,
    block: tuple[int, int] = (1024, 4096),
) -> MaxT:
    """Single-step max-T (Westfall & Young 1993) by flipping the signs of whole units.

    Each draw gives every unit one sign w_u for all features at once, which keeps the features'
    dependence, and takes the largest |Σ_u w_u S_uf| / √(Σ_u S_uf²) over features. With so few units
    that there are no more than `draws` patterns, all are gone through instead, so that luck in
    the draws cannot reject what 2^(1 − units) > .05 never may.

    Products and maxima are float32, in blocks of draws × features: memory beyond the scores is
    that of one block and of one float32 copy of the scores.

    Args:
        scores: One row a unit, as in `cluster_robust_t`. Undefined columns (anything not finite,
            or all zero) are no hypotheses; they stay nan.
        draws: Draws of the null.
        block: Draws and features of one product; moves speed and memory, never the result.

    Raises:
        InsufficientData: If so few draws cannot give an adjusted p of .05.
    """
    if draws < 19:
        raise InsufficientData(
            f"max-T at .05 needs at least 19 draws, got {draws}: 10,000 is a good number"
        )
    s, defined = standardised(scores)
    exact = 2 ** (len(scores) - 1) <= draws
    draws, itself = (2 ** (len(scores) - 1), 0) if exact else (draws, 1)
    p = torch.full((scores.shape[1],), torch.nan, dtype=torch.float64, device=scores.device)
    if not bool(defined.any()):
        return MaxT(p_adjusted=p, threshold_05=math.nan, draws=draws)
    s = s[:, defined]
    drawn = _all_signs if exact else _drawn_signs
    signs = drawn(len(s), draws, block[0], generator)
    maxima = _null_maxima(s.float(), signs, block[1]).sort().values.double()
    beyond = draws - torch.searchsorted(maxima, s.sum(0).abs() * (1 - ROUNDING))
    p[defined] = (itself + beyond.double()) / (itself + draws)
    allowed = math.floor(round(LEVEL * (itself + draws), 6)) - itself  # maxima at or above it
    threshold = maxima[draws - 1 - allowed].item() / (1 - ROUNDING)
    return MaxT(p_adjusted=p, threshold_05=threshold, draws=draws)


def _null_maxima(
    s: Float[Tensor, "unit feature"], signs: Iterator[Tensor], features_at_once: int
) -> Float[Tensor, " draw"]:
    """Largest |w · s| over features for each draw of signs w."""
    columns = [part.contiguous() for part in s.split(features_at_once, dim=1)]
    maxima = []
    for w in signs:
        ends = [torch.aminmax(w.to(s) @ part, dim=1) for part in columns]
        maxima.append(torch.stack([torch.maximum(-low, high) for low, high in ends]).amax(0))
    return torch.cat(maxima)


def _drawn_signs(
    units: int, draws: int, at_once: int, generator: torch.Generator
) -> Iterator[Tensor]:
    for done in range(0, draws, at_once):
        yield rademacher((min(at_once, draws - done), units), generator)


def _all_signs(
    units: int, patterns: int, at_once: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """The patterns in which the last unit keeps its sign: the others are their negatives."""
    bit = torch.arange(units, device=generator.device)
    for number in torch.arange(patterns, device=generator.device).split(at_once):
        yield (1 - 2 * ((number[:, None] >> bit) & 1)).float()


def rademacher(shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "..."]:
    """Independent fair signs, on the generator's device."""
    bits = torch.randint(0, 2, shape, generator=generator, device=generator.device)
    return (2 * bits - 1).float()
