"""Cluster-robust tests and intervals: units are independent, what lies within one is not.

A score S_uf is a sum over everything within unit u (a document) that should average to nothing if
feature f has no effect. For a covariance it is Σ_{t in u} (a_t − ā)(F_t − F̄).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.stats.interval import Interval, checked_level

# Newton climbs to the saddlepoint from one side; a stop short of it can only enlarge p.
NEWTON_STEPS = 60
CONVERGED = 1e-10


@dataclass(frozen=True, kw_only=True)
class ClusterTest:
    """Whether each feature's scores sum to more than their signs' chance allows.

    Attributes:
        t: Σ_u S_u / √(Σ_u S_u²), signed; nan where no score is finite and non-zero.
        p: Two-sided p of |t| when each unit's score may as well have had the other sign.
        dof: Units that matter, min(units − 1, 3 (Σ S²)² / Σ S⁴ − 2): small when few units carry
            the sum. A description; p does not use it.
    """

    t: Float64[Tensor, " feature"]
    p: Float64[Tensor, " feature"]
    dof: Float64[Tensor, " feature"]


def cluster_robust_t(scores: Float[Tensor, "unit feature"]) -> ClusterTest:
    """Cluster-robust t of each feature, with the p of its own sign-flip law.

    Given the sizes |S_u|, a score that is symmetric about zero has random signs, so |t| has the law
    of |Σ_u ±s_u| with s = |S| / √ΣS²: exact for any number of units and any tails, and the very
    law that `multiplicity.max_t` draws from. Its tail is computed by the saddlepoint
    approximation r* (Barndorff-Nielsen 1986; Daniels 1987), held below Chernoff's bound and above
    2^(1 − units with a non-zero score), the least that signs can give. Against full enumeration
    its median error is nil and it stays within a factor of 2, or 3 too small where all sizes are
    exactly equal.

    Why not Student's t: rate of p < .05 over 8,000 null features with strong correlation within
    documents, scores centred by estimated means (dense, and log-normal in 5 to 10 documents alone):

        documents      t(units − 1)     t(dof)       (C − 1)/C      this law
        10              .007  .005    .005  .004    .035  .030    .055  .050
        20              .024  .012    .017  .007    .043  .033    .051  .044
        40              .035  .010    .027  .002    .048  .029    .051  .033
        160             .048  .012    .042  .002    .052  .037    .052  .039

    The third is this law with the usual small-sample factor on the variance (CR1, and CR2 for equal
    units): it over-corrects, so there is none here. The law is conservative where five documents
    carry a feature (signs alone cannot go below 2/32: .022) or one or two nearly all of it (.03),
    and mildly liberal for strongly skewed forces (log-normal, σ = 1.4: .07).

    Example:
        >>> test = cluster_robust_t(torch.ones(10, 1, dtype=torch.float64))
        >>> round(test.t.item() ** 2, 6), round(test.p.item() * 2**10, 4)
        (10.0, 2.0)

    Args:
        scores: One row a unit, centred so that Σ_u E S_u = 0 without an effect. A column with
            anything that is not finite is undefined.

    Raises:
        InsufficientData: If there are fewer than two units.
    """
    units = _units(scores)
    s, defined = standardised(scores)
    t = s.sum(0)
    dof = (3 / s.pow(4).sum(0) - 2).clamp(1, units - 1)
    return ClusterTest(
        t=_where(defined, t), p=_where(defined, _sign_flip_p(s)), dof=_where(defined, dof)
    )


def cluster_mean_interval(
    scores: Float[Tensor, "unit feature"], *, level: float = 0.95
) -> Interval:
    """Mean over units, with Student's interval on units − 1 degrees of freedom.

    Multiply by the number of units for the interval of the sum.

    Example:
        >>> interval = cluster_mean_interval(torch.tensor([[1.0], [2.0], [3.0]]), level=0.5)
        >>> [round(x.item(), 4) for x in (interval.low, interval.estimate, interval.high)]
        [1.5286, 2.0, 2.4714]

    Raises:
        InsufficientData: If there are fewer than two units.
        BadInput: If the level is not strictly between 0 and 1.
    """
    from scipy.special import stdtrit

    units, level = _units(scores), checked_level(level)
    scores = scores.double()
    mean = scores.mean(0)
    half = float(stdtrit(units - 1, (1 + level) / 2)) * scores.std(0) / math.sqrt(units)
    return Interval(estimate=mean, low=mean - half, high=mean + half, level=level)


def standardised(
    scores: Float[Tensor, "unit feature"],
) -> tuple[Float64[Tensor, "unit feature"], Tensor]:
    """Scores over √(Σ_u S_u²), zero in columns that are undefined, and which are defined."""
    scores = scores.double()
    largest = scores.abs().amax(0)  # taken out first: squares of tiny gradients underflow
    defined = largest.isfinite() & (largest > 0)
    scores = torch.where(defined, scores / largest, 0.0)
    norm = torch.linalg.vector_norm(scores, dim=0)
    return scores / torch.where(defined, norm, 1.0), defined


def _sign_flip_p(s: Float64[Tensor, "unit feature"]) -> Float64[Tensor, " feature"]:
    """P(|Σ_u ±s_u| ≥ |Σ_u s_u|) over independent fair signs, Σ s² = 1, by saddlepoint.

    K(θ) = Σ log cosh(θ s_u), K′(θ) = x, r = √(2 (θ x − K)), u = θ √K″, r* = r + log(u / r) / r.
    """
    size, x = s.abs(), s.sum(0).abs()
    theta = _saddlepoint(size, x)
    bend = (theta * size).abs()
    k = (bend + torch.log1p(torch.exp(-2 * bend)) - math.log(2)).sum(0)
    k2 = (size * size * (1 - torch.tanh(bend).square())).sum(0)
    r = (2 * (theta * x - k)).clamp(min=0).sqrt()
    r_star = r + torch.log(theta * k2.sqrt() / r) / r
    tail = torch.exp(torch.special.log_ndtr(-r_star))
    chernoff = torch.exp(-r.square() / 2)  # also where every sign agrees: r* has no limit there
    p = 2 * torch.minimum(torch.where(r > 1e-4, tail, 0.5), chernoff)
    fewest = torch.exp2(1.0 - (size > 0).sum(0))
    return torch.maximum(p, fewest).clamp(max=1)


def _saddlepoint(
    size: Float64[Tensor, "unit feature"], x: Float64[Tensor, " feature"]
) -> Float64[Tensor, " feature"]:
    """θ ≥ 0 with Σ s tanh(θ s) = x: Newton from below, monotone because the sum is concave."""
    x = torch.minimum(x, size.sum(0) * (1 - 1e-9))  # when every sign agrees θ is infinite
    theta = x.clone()
    for _ in range(NEWTON_STEPS):
        curve = torch.tanh(theta * size)
        missing = x - (size * curve).sum(0)
        slope = (size * size * (1 - curve * curve)).sum(0)
        step = torch.where(slope > 0, missing / slope, 0.0)
        theta = theta + step
        if bool((step.abs() <= CONVERGED * theta.clamp(min=1)).all()):
            break
    return theta


def _units(scores: Float[Tensor, "unit feature"]) -> int:
    if len(scores) < 2:
        raise InsufficientData(
            f"a cluster-robust statistic needs 2 units, got {len(scores)}: use more documents"
        )
    return len(scores)


def _where(defined: Tensor, value: Tensor) -> Float64[Tensor, " feature"]:
    return torch.where(defined, value, torch.nan)
