"""Are there kinds of jumps? Clusters of when, how large, how fast and how deep they are.

k-means finds clusters in anything. So the clearness of the clusters, their mean silhouette, is set
beside that of two nulls. In one each feature is dealt out anew among the jumps: the same early
jumps and the same large ones, but no longer early ones that are large. In the other the features
keep their values and their rank correlations as well, but go together smoothly (a normal copula),
because what is merely correlated, as size and speed are, has clearer clusters than what is not.
Only what is clearer than both is a type. Types are described by their centroids, because the
numbers of clusters mean nothing.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.multiplicity import resampling_p
from energylens.stats.nulls import copula_surrogate, permute_columns

FEATURES = ("phase", "size", "speed", "depth")
MOST = 6  # types
SAMPLED = 400  # jumps that nulls are drawn for: silhouettes take their square
STARTS = 1  # of k-means (k-means++), while numbers of clusters are compared
LEVEL = 0.05
LEAST = 20
_WORDS = {
    "phase": ("early", "midway", "late"),
    "size": ("small", "middling", "large"),
    "speed": ("slow", "of middling speed", "fast"),
    "depth": ("near the input", "in the middle", "near the output"),
}
_RANKED = ("size", "speed")  # words say where among all jumps, the others where on their scale


@dataclass(frozen=True, kw_only=True)
class JumpTypes:
    """Clusters of jumps, and whether they are clearer than chance.

    Attributes:
        label: Type of each jump, from 0, the earliest type first; −1 where a feature is missing.
        centroids: Mean phase and depth of each type, geometric mean size and speed.
        descriptions: Each centroid in words.
        sizes: How many jumps are of each type.
        silhouette: Mean silhouette, at the number of types where it is largest.
        null_mean, null_sd, p: Of the largest silhouette with the features dealt out anew.
        smooth_mean, smooth_sd, smooth_p: The same with the features correlated, but smoothly.
        stability: Of each type, the mean Jaccard index with its likest in clusterings of bootstrap
            samples; below .6 a type hardly outlives another sample (Hennig 2007).
        agreement: Mean adjusted Rand index of those clusterings with this one.
    """

    label: Int64[Tensor, " jump"]
    centroids: Float64[Tensor, "type feature"]
    descriptions: tuple[str, ...]
    sizes: tuple[int, ...]
    silhouette: float
    null_mean: float
    null_sd: float
    p: float
    smooth_mean: float
    smooth_sd: float
    smooth_p: float
    stability: Float64[Tensor, " type"]
    agreement: float

    @property
    def beyond_chance(self) -> bool:
        """Whether there are types at all: clearer than under both nulls."""
        return max(self.p, self.smooth_p) <= LEVEL


def jump_types(
    features: Float[Tensor, "jump feature"],
    generator: torch.Generator,
    *,
    most: int = MOST,
    draws: int = 99,
    samples: int = 20,
) -> JumpTypes:
    """Cluster jumps by phase, size, speed and relative depth, in this order.

    Args:
        features: Phase and depth between 0 and 1; size and speed above 0, taken by their logarithm.
        most: Largest number of types looked at; the least is two.
        draws: Of the null.
        samples: Bootstrap samples of the stability.

    Raises:
        BadInput: If there are not four features.
        InsufficientData: If fewer than 20 jumps have them all, or there are fewer than 19 draws.
    """
    if features.shape[1] != len(FEATURES):
        raise BadInput(
            f"jumps are typed by {', '.join(FEATURES)}, got {features.shape[1]} columns: give these"
        )
    scaled = _logarithms(features.double())
    known = scaled.isfinite().all(1)
    if int(known.sum()) < LEAST or draws < 19:
        raise InsufficientData(
            f"types take {LEAST} jumps and 19 draws, got {int(known.sum())} and {draws}: analyse"
            " more trainings"
        )
    found = scaled[known]
    x = (found - found.mean(0)) / found.std(0).clamp(min=1e-12)
    some = x[torch.randperm(len(x), generator=generator, device=generator.device)[:SAMPLED]]
    k, silhouette = _clearest(some, most, generator)
    dealt, smooth = (
        torch.stack([_clearest(null(some, generator), most, generator)[1] for _ in range(draws)])
        for null in (permute_columns, copula_surrogate)
    )
    clusters = _k_means(x, k, generator, starts=10)
    order = torch.stack([x[clusters == c, 0].mean() for c in clusters.unique()]).argsort()
    clusters = order.argsort()[clusters]
    centres = torch.stack([found[clusters == c].mean(0) for c in range(len(order))])
    stability, agreement = _stability(x, clusters, samples, generator)
    label = torch.full((len(features),), -1, device=features.device)
    label[known] = clusters.to(label)
    return JumpTypes(
        label=label, centroids=_raw(centres),
        descriptions=tuple(_described(row, found) for row in centres),
        sizes=tuple(torch.bincount(clusters).tolist()), silhouette=float(silhouette),
        null_mean=float(dealt.mean()), null_sd=float(dealt.std()),
        p=float(resampling_p(silhouette, dealt)), smooth_mean=float(smooth.mean()),
        smooth_sd=float(smooth.std()), smooth_p=float(resampling_p(silhouette, smooth)),
        stability=stability, agreement=agreement,
    )  # fmt: skip


def _logarithms(features: Tensor) -> Tensor:
    """Size and speed by their logarithm; where they are not above 0 there is none."""
    columns = [
        torch.where(column > 0, column, torch.nan).log() if name in _RANKED else column
        for name, column in zip(FEATURES, features.T, strict=True)
    ]
    return torch.stack(columns, dim=1)


def _raw(centres: Tensor) -> Tensor:
    columns = [
        c.exp() if name in _RANKED else c for name, c in zip(FEATURES, centres.T, strict=True)
    ]
    return torch.stack(columns, dim=1)


def _clearest(x: Tensor, most: int, generator: torch.Generator) -> tuple[int, Tensor]:
    """The number of clusters at which they are clearest, and the mean silhouette there."""
    distance = torch.cdist(x, x)
    numbers = range(2, min(most, len(x) - 1) + 1)
    found = torch.stack([
        _silhouette(distance, _k_means(x, k, generator, starts=STARTS)) for k in numbers
    ])  # fmt: skip
    best = int(found.argmax())
    return numbers[best], found[best]


def _k_means(x: Tensor, k: int, generator: torch.Generator, *, starts: int) -> Tensor:
    from sklearn.cluster import KMeans

    seed = int(torch.randint(2**31 - 1, (1,), generator=generator, device=generator.device))
    fitted = KMeans(k, n_init=starts, random_state=seed).fit(x.numpy(force=True))
    return torch.as_tensor(fitted.labels_, dtype=torch.long, device=x.device)


def _silhouette(distance: Float64[Tensor, "jump jump"], clusters: Tensor) -> Tensor:
    """Mean (b − a) / max(a, b): a to the own cluster, b to the nearest other (Rousseeuw 1987)."""
    member = torch.nn.functional.one_hot(clusters).double()
    member = member[:, member.sum(0) > 0]
    if member.shape[1] < 2:
        return distance.new_tensor(-1.0)
    size, total = member.sum(0), distance @ member
    own = member.bool()
    alone = (member @ size) == 1
    a = (total * member).sum(1) / ((member @ size) - 1).clamp(min=1)
    b = torch.where(own, torch.inf, total / size).amin(1)
    return torch.where(alone, 0.0, (b - a) / torch.maximum(a, b)).mean()


def _stability(
    x: Tensor, clusters: Tensor, samples: int, generator: torch.Generator
) -> tuple[Tensor, float]:
    from sklearn.metrics import adjusted_rand_score

    k = int(clusters.max()) + 1
    likeness, agreement = [], []
    for _ in range(samples):
        drawn = torch.randint(len(x), (len(x),), generator=generator, device=generator.device)
        drawn = drawn.to(x.device).unique()
        other = _k_means(x[drawn], k, generator, starts=STARTS)
        mine = torch.nn.functional.one_hot(clusters[drawn], k).double()
        theirs = torch.nn.functional.one_hot(other, k).double()
        both = mine.T @ theirs
        either = mine.sum(0)[:, None] + theirs.sum(0) - both
        likeness.append((both / either).amax(1))
        agreement.append(adjusted_rand_score(clusters[drawn].cpu(), other.cpu()))
    return torch.stack(likeness).mean(0), sum(agreement) / len(agreement)


def _described(centre: Tensor, found: Tensor) -> str:
    """A centroid in words: where it lies by thirds, of its scale or of all jumps, and numbers."""
    said = []
    for name, value, column in zip(FEATURES, centre.tolist(), found.T, strict=True):
        where = float((column < value).double().mean()) if name in _RANKED else value
        said.append(_WORDS[name][min(2, int(3 * where))])
    phase, size, speed, depth = _raw(centre[None])[0].tolist()
    return (
        f"{said[0]} ({100 * phase:.0f} % of training), {said[1]} ({size:.2g}), {said[2]}"
        f" ({speed:.2g} a step), {said[3]} (depth {depth:.2f})"
    )
