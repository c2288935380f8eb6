"""Which features are active on the same tokens? All pairs, exactly, some features at a time."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

# So many counts, and so many additions to them, are in memory at once: some 200 MB together.
CELLS = ADDITIONS = 2**22


class Firing(NamedTuple):
    """Which features are active on which samples: entries by feature, and where each begins."""

    sample: Int64[Tensor, " entry"]
    start: Int64[Tensor, " feature_and_end"]
    samples: int

    @property
    def counts(self) -> Int64[Tensor, " feature"]:
        """Samples on which each feature is active."""
        return self.start.diff()


class Partners(NamedTuple):
    """The strongest partners of every feature, best first."""

    feature: Int64[Tensor, "feature partner"]
    """−1 where there are no more."""
    together: Int64[Tensor, "feature partner"]
    score: Float64[Tensor, "feature partner"]


# Of counts together, of one and of the other and of all samples: larger means more together.
Score = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def firing(
    feature: Int64[Tensor, " entry"], sample: Int64[Tensor, " entry"], *, width: int, samples: int
) -> Firing:
    """Order entries by feature; a feature is active on a sample once."""
    order = feature.argsort(stable=True)
    edges = torch.arange(width + 1, device=feature.device)
    return Firing(sample[order], torch.searchsorted(feature[order], edges), samples)


def strongest_partners(
    one: Firing, other: Firing, score: Score, *, partners: int, least: int
) -> Partners:
    """The features of `other` that go most together with each feature of `one`.

    Counts every pair that is ever active together: n · k² additions, some features at a time.

    Args:
        one: Those whose partners are looked for.
        other: The same features on the same samples, or on samples dealt out anew.
        least: Features active on fewer samples have no partner and are none.
    """
    width, device = len(one.counts), one.sample.device
    by_sample = other.sample.argsort(stable=True)
    owner = torch.repeat_interleave(torch.arange(width, device=device), other.counts)[by_sample]
    edges = torch.arange(other.samples + 1, device=device)
    first = torch.searchsorted(other.sample[by_sample], edges)
    partners = min(partners, width - 1)
    found = Partners(
        torch.full((width, partners), -1, device=device),
        torch.zeros(width, partners, dtype=torch.long, device=device),
        torch.full((width, partners), torch.nan, dtype=torch.float64, device=device),
    )
    enough = (one.counts >= least, other.counts >= least)
    for begin, end in _blocks(one, first):
        block = torch.arange(begin, end, device=device)
        together = _together(one, owner, first, block, width)
        best = _scored(together, one, other, block, score, enough).topk(partners, dim=1)
        there = best.values > -torch.inf
        found.feature[block] = torch.where(there, best.indices, -1)
        found.together[block] = torch.where(there, together.gather(1, best.indices), 0)
        found.score[block] = torch.where(there, best.values, torch.nan)
    return found


def _scored(
    together: Tensor,
    one: Firing,
    other: Firing,
    block: Tensor,
    score: Score,
    enough: tuple[Tensor, Tensor],
) -> Float64[Tensor, "some feature"]:
    """Scores of the pairs that are ever together, −∞ for all others and where undefined."""
    mine, partner = together.nonzero(as_tuple=True)
    own = block[mine]
    found = score(together[mine, partner], one.counts[own], other.counts[partner], one.samples)
    open_to = enough[0][own] & enough[1][partner] & (own != partner) & found.isfinite()
    value = torch.full(together.shape, -torch.inf, dtype=found.dtype, device=found.device)
    value[mine, partner] = torch.where(open_to, found, -torch.inf)
    return value


def _blocks(one: Firing, first: Tensor) -> Iterator[tuple[int, int]]:
    """Features that lie together, as many as memory has room for, one at the least."""
    width = len(one.counts)
    additions = torch.cat([first.new_zeros(1), first.diff()[one.sample].cumsum(0)])[one.start]
    begin = 0
    while begin < width:
        fits = int(torch.searchsorted(additions, additions[begin] + ADDITIONS, right=True)) - 1
        end = min(max(fits, begin + 1), begin + max(1, CELLS // width), width)
        yield begin, end
        begin = end


def _together(
    one: Firing, owner: Tensor, first: Tensor, block: Tensor, width: int
) -> Int64[Tensor, "some feature"]:
    """On how many samples each feature of a block is active together with every other."""
    begin, end = int(block[0]), int(block[-1]) + 1
    low, high = int(one.start[begin]), int(one.start[end])
    sample = one.sample[low:high]
    mine = torch.repeat_interleave(block - begin, one.counts[begin:end])
    count = first[sample + 1] - first[sample]
    if not int(count.sum()):
        return torch.zeros(len(block), width, dtype=torch.long, device=block.device)
    before = count.cumsum(0) - count
    inside = torch.arange(int(count.sum()), device=block.device)
    inside -= torch.repeat_interleave(before - first[sample], count)
    cell = torch.repeat_interleave(mine * width, count) + owner[inside]
    return torch.bincount(cell, minlength=len(block) * width).view(len(block), width)


def together_of(
    one: Firing, other: Firing, partners: Int64[Tensor, "feature partner"]
) -> Int64[Tensor, "feature partner"]:
    """Counts of given pairs alone: samples where a feature and its partner are both active."""
    width, device = len(one.counts), one.sample.device
    owner = torch.repeat_interleave(torch.arange(width, device=device), other.counts)
    known = (owner * other.samples + other.sample).sort().values
    mine = torch.repeat_interleave(torch.arange(width, device=device), one.counts)
    found = torch.zeros_like(partners)
    for column in range(partners.shape[1]):
        partner = partners[mine, column]
        wanted = partner * other.samples + one.sample
        at = torch.searchsorted(known, wanted).clamp(max=max(len(known) - 1, 0))
        both = (known[at] == wanted) & (partner >= 0) if len(known) else torch.zeros_like(mine) > 0
        found[:, column] = torch.bincount(mine[both], minlength=width)
    return found
