"""The definitions of the original NDT experiments, kept as they were, with what is wrong in them.

They exist to reproduce that study's counts and to be judged beside others; for anything else use
`jumps`, `settling` and `critical_periods`. Times are sample indices here, as they were there, and a
phase is an index over the number of training steps, which is too small by the interval.

A count can hang on the last bit, since the original's dimension is constant up to rounding.
Therefore all of it is computed in float64 by numpy on the host, in the order of the original's
sums.

Source: github.com/Javihaus/ndt, experiments/mechanistic_interpretability, November 2025.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

THRESHOLD = 2.0
WINDOW = 20
QUIET = 0.1
PERCENTILE = 90.0
REACH = 2
NO_INDEX = 999
TYPES = 5
KMEANS_SEED = 42


def global_z_jumps(
    values: Float[Tensor, "series sample"], threshold: float | int = THRESHOLD
) -> Bool[Tensor, "series increment"]:
    """Where an increment lies more than `threshold` standard deviations from the series' mean one.

    Mean and standard deviation are over all increments of the series, so Gaussian noise without a
    jump fires at 4.55 % of its increments. A series without spread, with an undefined value or
    with fewer than three samples has none. An increment's index is the sample before it.

    Example:
        >>> step = torch.cat([torch.zeros(1, 9), torch.ones(1, 9)], dim=1)
        >>> global_z_jumps(step).nonzero()[:, 1].tolist()
        [8]
    """
    velocity = np.diff(_host(values), axis=-1)
    if velocity.shape[-1] < 2:
        return torch.zeros(velocity.shape, dtype=torch.bool)
    mean, deviation = (f(velocity, axis=-1, keepdims=True) for f in (np.mean, np.std))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.abs((velocity - mean) / deviation)
        return torch.from_numpy((z > threshold) & (deviation != 0))


def speeds(values: Float[Tensor, "series sample"]) -> Float[Tensor, "series increment"]:
    """Change over the five samples around each increment's index, per sample of that window.

    The window is cut at the ends of the series, and divides by its samples, not by the steps
    between them, of which there is one fewer.
    """
    series = _host(values)
    samples = series.shape[-1]
    at = np.arange(samples - 1)
    first, end = np.maximum(0, at - REACH), np.minimum(samples, at + REACH + 1)
    return torch.from_numpy(np.abs(series[:, end - 1] - series[:, first]) / (end - first))


def phase_category(phase: float | int) -> str:
    """`early` below .33, `mid` below .67, else `late`."""
    return "early" if phase < 0.33 else "mid" if phase < 0.67 else "late"


def first_quiet_window(
    values: Float[Tensor, "series sample"], window: int = WINDOW, share: float | int = QUIET
) -> Int[Tensor, " series"]:
    """Start of the first window whose standard deviation is below a share of the series' mean.

    The original calls this stabilisation; the series may move afterwards. The window at the very
    end of the series is never looked at. -1 where no window is quiet, or the series is shorter.
    """
    series = _host(values)
    if series.shape[-1] <= window:
        return torch.full((len(series),), -1)
    windows = np.lib.stride_tricks.sliding_window_view(series, window, axis=-1)[:, :-1]
    variance = np.var(np.ascontiguousarray(windows), axis=-1)
    quiet = variance < (share * np.mean(series, axis=-1, keepdims=True)) ** 2
    return torch.from_numpy(np.where(quiet.any(axis=-1), quiet.argmax(axis=-1), -1))


def layer_index(name: str) -> int:
    """The number that ends a dotted name, or all digits of a plain one; else 999.

    Of a transformer's `layers.3.linear1` it is 999, as of every other layer there.

    Example:
        >>> [layer_index(name) for name in ("network.4", "layers.3.linear1", "fc", "fc2")]
        [4, 999, 999, 2]
    """
    if "." in name:
        last = name.rsplit(".", 1)[1]
        return int(last) if last.isdecimal() else NO_INDEX
    digits = "".join(c for c in name if c.isdecimal())
    return int(digits) if digits else NO_INDEX


@dataclass(frozen=True, kw_only=True)
class Order:
    """Whether deeper layers become quiet later.

    Attributes:
        rho: Spearman's correlation of layer index and quiet window; nan where one is constant.
        p: Two-sided, from Student's t, without a correction for ties or for many runs.
        pattern: `bottom-up`, `top-down`, `simultaneous` or `unclear`.
    """

    rho: float
    p: float
    pattern: str


def convergence_order(names: Sequence[str], stabilised: Int[Tensor, " series"]) -> Order:
    """The original's verdict on the order of layers.

    `bottom-up` if ρ > .6 and p < .05, `top-down` if ρ < -.6 and p < .05, `simultaneous` if
    |ρ| < .3, else `unclear`: also where ρ is undefined since all layers are quiet at once. Fewer
    than three quiet layers count as ρ 0 and p 1, that is `simultaneous`.
    """
    quiet = [(layer_index(name), int(at)) for name, at in zip(names, stabilised, strict=True)
             if at >= 0]  # fmt: skip
    rho, p = _spearman(*zip(*quiet, strict=True)) if len(quiet) >= 3 else (0.0, 1.0)
    if rho > 0.6 and p < 0.05:
        pattern = "bottom-up"
    elif rho < -0.6 and p < 0.05:
        pattern = "top-down"
    else:
        pattern = "simultaneous" if abs(rho) < 0.3 else "unclear"
    return Order(rho=rho, p=p, pattern=pattern)


def _spearman(x: Sequence[int], y: Sequence[int]) -> tuple[float, float]:
    from scipy.stats import spearmanr

    if len(set(x)) == 1 or len(set(y)) == 1:
        return math.nan, math.nan  # as scipy does, which also warns
    found = spearmanr(x, y)
    return float(found.statistic), float(found.pvalue)


def critical_increments(
    values: Float[Tensor, "series sample"], *, order: int = 1, percentile: float | int = PERCENTILE
) -> Bool[Tensor, "series increment"]:
    """Where the size of a difference exceeds its own 90th percentile, by the series.

    Args:
        values: The series.
        order: 1 for velocities, the critical steps; 2 for accelerations, the transitions.
        percentile: By linear interpolation. So a tenth is critical whatever the series does, and
            less only where sizes tie.
    """
    size = np.abs(np.diff(_host(values), n=order, axis=-1))
    return torch.from_numpy(size > np.percentile(size, percentile, axis=-1, keepdims=True))


def coordination(critical: Bool[Tensor, "series increment"]) -> Float[Tensor, " sample"]:
    """Share of layers that are critical at each sample; the last sample has no increment, and 0."""
    layers = critical.cpu().numpy().sum(axis=0).astype(float)
    return torch.from_numpy(np.append(layers, 0.0) / len(critical))


def falling_loss_share(
    critical: Bool[Tensor, "series increment"], loss: Float[Tensor, " sample"]
) -> float:
    """How often the loss falls at critical increments, averaged over layers.

    The original's loss correlation. A layer without a critical increment counts as 0, and the
    share of all increments at which the loss falls is not looked at.
    """
    falls = np.diff(_host(loss)) < 0
    shares = [float(np.mean(falls[there])) if there.any() else 0.0
              for there in critical.cpu().numpy()]  # fmt: skip
    return float(np.mean(shares))


def jump_types(
    phase: Float[Tensor, " jump"],
    magnitude: Float[Tensor, " jump"],
    speed: Float[Tensor, " jump"],
) -> Int[Tensor, " jump"]:
    """Clusters of jumps by k-means; which number a cluster gets is an accident of the seed.

    The number of clusters is one more than a tenth of the jumps, five at most; it is chosen by
    nothing in the data. Which layer a jump is in does not enter. The order of the jumps does.
    """
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import StandardScaler

    features = np.column_stack([_host(x) for x in (phase, magnitude, speed)])
    if not len(features):
        return torch.zeros(0, dtype=torch.long)
    scaled = StandardScaler().fit_transform(features)
    means = KMeans(n_clusters=min(TYPES, len(features) // 10 + 1), random_state=KMEANS_SEED,
                   n_init=10)  # fmt: skip
    return torch.from_numpy(means.fit_predict(scaled)).long()


def _host(values: Tensor) -> np.ndarray:
    """The values as numpy has them in float64, rows one after another, as its sums expect."""
    return np.ascontiguousarray(values.detach().cpu().double().numpy())
