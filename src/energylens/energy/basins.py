"""Basins: which minimum each start runs to, and which minima take more than their share."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from energylens.core.errors import BadInput
from energylens.results.format import number, p_value, percent
from energylens.results.show import Bar, Row, Shown, ShowsItself
from energylens.stats.enrichment import enrichment_p
from energylens.stats.interval import Interval
from energylens.stats.multiplicity import benjamini_hochberg
from energylens.stats.rates import wilson_interval

# Basins that are shown, the heaviest first.
MOST_SHOWN = 12


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Basins(ShowsItself):
    """End states grouped into basins.

    Attributes:
        basin: Of each end; −1 where it lies alone.
        centers: Mean end state of each basin (of unit vectors, for the cosine).
        spread: Largest distance of a member from its centre.
    """

    basin: Int[Tensor, " sample"]
    centers: Float[Tensor, "basin d"]
    spread: Float[Tensor, " basin"]
    metric: str

    @property
    def mass(self) -> Float[Tensor, " basin"]:
        """Share of all starts that run into each basin."""
        counts = torch.bincount(self.basin[self.basin >= 0], minlength=len(self.centers))
        return counts.double() / max(len(self.basin), 1)

    def of(self, ends: Float[Tensor, "other d"]) -> Int[Tensor, " other"]:
        """The basin that other end states lie in: the nearest, if within its spread; else −1."""
        if not len(self.centers):
            return torch.full((len(ends),), -1, device=ends.device)
        distance = torch.cdist(_placed(ends, self.metric), self.centers)
        near = distance.min(1)
        inside = near.values <= self.spread[near.indices].clamp_min(_MERGED)
        return torch.where(inside, near.indices, -1)

    def shown(self) -> Shown:
        mass, spread = self.mass, self.spread
        heaviest = mass.argsort(descending=True)[:MOST_SHOWN].tolist()
        return Shown(
            caption=_caption(self, MOST_SHOWN),
            rows=[
                Row(label=f"basin {k}", value=percent(float(mass[k])),
                    told=(f"spread {number(float(spread[k]), digits=2)}",))
                for k in heaviest
            ],
            notes=["Shares of the starts, with no null: `compare_basins` sets random starts beside"
                   " them."],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class BasinComparison(ShowsItself):
    """How much of the starts each basin holds, beside how much of random starts.

    Attributes:
        basins: Of all ends, those of the starts first.
        starts: How many of the ends are those of the starts.
        mass: Share of the starts in each basin.
        null: Share of the random starts in each.
        p: That so many or more of the starts lie in a basin when starts and random starts are
            dealt out blindly; every start an independent unit.
        q: After Benjamini–Hochberg over the basins.
    """

    basins: Basins
    starts: int
    mass: Interval
    null: Interval
    p: Float[Tensor, " basin"]
    q: Float[Tensor, " basin"]

    def shown(self) -> Shown:
        heaviest = self.mass.estimate.argsort(descending=True)[:MOST_SHOWN].tolist()
        random = len(self.basins.basin) - self.starts
        return Shown(
            caption=_caption(self.basins, MOST_SHOWN),
            rows=[self._row(k) for k in heaviest],
            one_scale=True,
            notes=[f"Share of {self.starts:,} starts; grey: the 95 % interval of the share of"
                   f" {random:,} random starts."],
        )  # fmt: skip

    def _row(self, k: int) -> Row:
        mass = self.mass
        value, low, high = (float(ends[k]) for ends in (mass.estimate, mass.low, mass.high))
        null_low, null_high = float(self.null.low[k]), float(self.null.high[k])
        return Row(
            label=f"basin {k}", value=percent(value),
            bar=Bar(value=value, low=low, high=high, null_low=null_low, null_high=null_high),
            told=(f"95 % [{percent(low)}, {percent(high)}]",
                  f"random starts {percent(float(self.null.estimate[k]))}",
                  f"q {p_value(float(self.q[k]))}"),
        )  # fmt: skip


def _caption(basins: Basins, most: int) -> str:
    count, alone = len(basins.centers), int((basins.basin < 0).sum())
    shown = f", the {most} heaviest shown" if count > most else ""
    return f"{count:,} basins of {len(basins.basin):,} ends, {alone:,} alone{shown}"


# Ends of one minimum differ by what the tolerance of the descent leaves.
_MERGED = 1e-2


def find_basins(
    ends: Float[Tensor, "sample d"],
    *,
    fewest: int = 5,
    metric: Literal["cosine", "euclidean"] = "cosine",
) -> Basins:
    """Group end states without a number given: equal ones, and the rest by density.

    Density is that of HDBSCAN (Campello et al. 2013).

    Args:
        fewest: Ends that make a basin.
        metric: `cosine` where the norm of states means nothing.

    Raises:
        BadInput: If an end is not finite, or fewer than two ends could make a basin.

    Example:
        >>> planted = torch.eye(3).repeat_interleave(8, dim=0)
        >>> find_basins(planted).mass.tolist() == [8 / 24] * 3
        True
    """
    if fewest < 2:
        raise BadInput(f"basins of {fewest} ends asked for: at least 2 make one")
    if not bool(ends.isfinite().all()):
        raise BadInput("an end state is not finite: leave out the starts that diverged")
    placed = _placed(ends, metric)
    basin = _numbered(placed, fewest).to(ends.device)
    count = int(basin.max()) + 1 if len(basin) else 0
    members = [placed[basin == k] for k in range(count)]
    centers = [rows.mean(0) for rows in members]
    spread = [torch.linalg.vector_norm(rows - center, dim=1).max()
              for rows, center in zip(members, centers, strict=True)]  # fmt: skip
    return Basins(
        basin=basin, metric=metric,
        centers=torch.stack(centers) if count else placed[:0],
        spread=torch.stack(spread) if count else placed.new_zeros(0),
    )  # fmt: skip


def compare_basins(
    ends: Float[Tensor, "sample d"],
    random_ends: Float[Tensor, "other d"],
    *,
    fewest: int = 5,
    metric: Literal["cosine", "euclidean"] = "cosine",
) -> BasinComparison:
    """Basins of starts and of random starts, found without knowing which are which.

    Args:
        ends: Where the starts ended, one independent unit each.
        random_ends: Where random starts alike ended, in the same descent.

    Raises:
        BadInput: As `find_basins`.

    Example:
        >>> found = compare_basins(torch.eye(2)[[0] * 9 + [1]], torch.eye(2)[[0] * 5 + [1] * 5])
        >>> found.mass.estimate.tolist(), found.null.estimate.tolist()
        ([0.9, 0.1], [0.5, 0.5])
    """
    basins = find_basins(torch.cat([ends, random_ends]), fewest=fewest, metric=metric)
    inside = basins.basin[:, None] == torch.arange(len(basins.centers), device=ends.device)
    mine = torch.arange(len(basins.basin), device=ends.device) < len(ends)
    p = enrichment_p(inside, mine[:, None])[:, 0]
    shares = [
        wilson_interval(inside[which].sum(0), inside.new_tensor(int(which.sum()), dtype=torch.long))
        for which in (mine, ~mine)
    ]
    return BasinComparison(
        basins=basins, starts=len(ends), mass=shares[0], null=shares[1], p=p,
        q=benjamini_hochberg(p),
    )  # fmt: skip


def _numbered(placed: Tensor, fewest: int) -> Int[Tensor, " sample"]:
    """Ends that are one point within the tolerance of the descent first, the rest by density."""
    from sklearn.cluster import DBSCAN, HDBSCAN

    points = placed.double().numpy(force=True)
    basin = np.full(len(points), -1)
    if len(points):
        same = DBSCAN(eps=_MERGED, min_samples=1).fit_predict(points)
        for group in np.flatnonzero(np.bincount(same) >= fewest):
            basin[same == group] = basin.max() + 1
    rest = np.flatnonzero(basin < 0)
    if len(rest) >= 2 * fewest:  # fewer cannot be told apart into two groups
        found = HDBSCAN(min_cluster_size=fewest, copy=True).fit_predict(points[rest])
        basin[rest] = np.where(found >= 0, found + basin.max() + 1, -1)
    return torch.as_tensor(basin, dtype=torch.long)


def angle(
    first: Float[Tensor, "sample d"], second: Float[Tensor, "sample d"]
) -> Float[Tensor, " sample"]:
    """Angle between two states in radians; accurate for small angles too.

    Example:
        >>> angle(torch.eye(2)[:1], torch.eye(2)[1:]).mul(2).item()  # a right angle is π / 2
        3.1415927410125732
    """
    a, b = normalize(first, dim=1), normalize(second, dim=1)
    return 2 * torch.atan2(torch.linalg.vector_norm(a - b, dim=1),
                           torch.linalg.vector_norm(a + b, dim=1))  # fmt: skip


def switched(
    before: Int[Tensor, " sample"], after: Int[Tensor, " sample"]
) -> Bool[Tensor, " sample"]:
    """Whether a start runs into another basin than before; leaving all basins counts."""
    return before != after


def _placed(ends: Tensor, metric: str) -> Tensor:
    return normalize(ends, dim=1) if metric == "cosine" else ends
