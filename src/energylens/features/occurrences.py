"""Where features are active, from one pass over a text: counts, histograms, places to show.

All is kept in tensors whose size depends on the dictionary alone. The strongest windows of a
feature are a top list by activation; a fair sample of all its windows is a top list by random keys
(a reservoir in its other form), so that one structure serves both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.features.code import SparseCode

# Tokens of a window kept before and after a peak.
BEFORE, AFTER = 24, 12
# Bins of half an octave, the middle one from 1 to √2; what lies beyond falls into the last.
BINS, BINS_PER_OCTAVE = 64, 2


class Entries(NamedTuple):
    """The positive entries of a block of windows, by feature, then in the order of the text."""

    feature: Int64[Tensor, " entry"]
    window: Int64[Tensor, " entry"]
    position: Int64[Tensor, " entry"]
    value: Float[Tensor, " entry"]


def entries_of(code: SparseCode, places: Int64[Tensor, "sample two"]) -> Entries:
    """The positive entries of a code whose rows are these windows and positions."""
    row, column = (code.values > 0).nonzero(as_tuple=True)
    feature = code.indices[row, column]
    order = feature.argsort(stable=True)  # rows are in the order of the text already
    row = row[order]
    window, position = places[row].unbind(1)
    return Entries(feature[order], window, position, code.values[row, column[order]])


class Peaks(NamedTuple):
    """The strongest place of each feature in each window where it is active."""

    feature: Int64[Tensor, " peak"]
    window: Int64[Tensor, " peak"]
    position: Int64[Tensor, " peak"]
    value: Float[Tensor, " peak"]


def peaks_of(entries: Entries) -> Peaks:
    """The first of the largest entries of each feature and window."""
    feature, window, position, value = entries
    first = torch.ones_like(feature, dtype=torch.bool)
    first[1:] = (feature[1:] != feature[:-1]) | (window[1:] != window[:-1])
    group = first.cumsum(0) - 1
    count = int(first.sum())
    most = value.new_zeros(count).scatter_reduce(0, group, value, "amax")
    place = torch.arange(len(feature), device=feature.device)
    where = torch.where(value == most[group], place, len(place))
    at = torch.full((count,), len(place), device=place.device)
    at = at.scatter_reduce(0, group, where, "amin")
    return Peaks(feature[at], window[at], position[at], value[at])


def traces(
    entries: Entries,
    feature: Int64[Tensor, " peak"],
    window: Int64[Tensor, " peak"],
    position: Int64[Tensor, " peak"],
    *,
    context: int,
) -> Float[Tensor, "peak span"]:
    """Activations around places, `BEFORE` to `AFTER` tokens from each; 0 where the window ends."""
    first = int(entries.window.min()) if len(entries.window) else 0
    windows = int(entries.window.max()) - first + 1 if len(entries.window) else 1

    def key(f: Tensor, w: Tensor, p: Tensor) -> Tensor:
        return (f * windows + w - first) * context + p

    known = key(entries.feature, entries.window, entries.position)
    around = position[:, None] + torch.arange(-BEFORE, AFTER + 1, device=position.device)
    wanted = key(feature[:, None], window[:, None], around.clamp(0, context - 1))
    at = torch.searchsorted(known, wanted).clamp(max=max(len(known) - 1, 0))
    inside = (around >= 0) & (around < context)
    if not len(known):
        return entries.value.new_zeros(around.shape)
    return torch.where(inside & (known[at] == wanted), entries.value[at], 0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class TopPlaces:
    """The places of largest score of every feature, best first; a score of −∞ is an empty slot.

    Where scores are equal, the place that came first stays before.
    """

    score: Float[Tensor, "feature slot"]
    window: Int64[Tensor, "feature slot"]
    position: Int64[Tensor, "feature slot"]
    trace: Float[Tensor, "feature slot span"]

    @classmethod
    def empty(cls, width: int, slots: int, like: Float[Tensor, "..."]) -> "TopPlaces":
        """No place yet; about 4 · (37 + 5) bytes a feature and slot."""
        shape = (width, slots)
        return cls(
            score=like.new_full(shape, -torch.inf),
            window=torch.zeros(shape, dtype=torch.long, device=like.device),
            position=torch.zeros(shape, dtype=torch.long, device=like.device),
            trace=like.new_zeros(*shape, BEFORE + AFTER + 1),
        )

    def offer(
        self, peaks: Peaks, score: Float[Tensor, " peak"], trace: Callable[..., Tensor]
    ) -> None:
        """Take in what is among the best so far, in place.

        Args:
            peaks: By feature, and of no feature more than a few.
            trace: Gives the activations around places, from features, windows and positions; it is
                asked for those alone that are taken in.
        """
        if not len(peaks.feature):
            return
        feature, group, count = peaks.feature.unique_consecutive(
            return_inverse=True, return_counts=True
        )
        slots = self.score.shape[1]
        start = count.cumsum(0) - count
        rank = torch.arange(len(group), device=group.device) - start[group]
        offered = self.score.new_full((len(feature), int(count.max())), -torch.inf)
        offered[group, rank] = score
        merged = torch.cat([self.score[feature], offered], dim=1)
        order = merged.argsort(dim=1, descending=True, stable=True)[:, :slots]
        # An empty slot may come after an offer that is none.
        new = (order >= slots) & (merged.gather(1, order) > -torch.inf)
        touched = new.any(1)
        feature, order, new, start = feature[touched], order[touched], new[touched], start[touched]
        row, slot = new.nonzero(as_tuple=True)
        taken = start[row] + order[row, slot] - slots
        kept = order.clamp(max=slots - 1)
        for name in ("score", "window", "position"):
            whole = getattr(self, name)
            moved = whole[feature].gather(1, kept)
            moved[row, slot] = score[taken] if name == "score" else getattr(peaks, name)[taken]
            whole[feature] = moved
        moved = self.trace[feature[:, None], kept]
        moved[row, slot] = trace(peaks.feature[taken], peaks.window[taken], peaks.position[taken])
        self.trace[feature] = moved

    @property
    def filled(self) -> Bool[Tensor, "feature slot"]:
        return self.score > -torch.inf


class Occurrences:
    """All that one pass keeps of a dictionary's features.

    Args:
        width: Features.
        top: Windows of largest activation to keep of each.
        drawn: Windows to keep of each, drawn from all in which it is active.
        context: Tokens of a window.
        like: Gives the type and the device.
    """

    def __init__(
        self, *, width: int, top: int, drawn: int, context: int, like: Float[Tensor, "..."]
    ) -> None:
        long = torch.zeros(width, dtype=torch.long, device=like.device)
        self.context = context
        self.tokens = 0
        self.active, self.windows, self.documents = long.clone(), long.clone(), long.clone()
        self.total = torch.zeros(width, dtype=torch.float64, device=like.device)
        self.histogram = torch.zeros(width, BINS, dtype=torch.long, device=like.device)
        self.top = TopPlaces.empty(width, top, like)
        self.drawn = TopPlaces.empty(width, drawn, like)
        self._last = torch.full_like(long, -1)

    def add(
        self,
        code: SparseCode,
        places: Int64[Tensor, "sample two"],
        document: Int[Tensor, " window"],
        generator: torch.Generator,
    ) -> None:
        """Take in the rows of some windows, which come in the order of the text.

        Args:
            code: A row a place.
            places: Window and position of each row, in order.
            document: Document of every window of the text; those of one document lie together.
            generator: Draws the keys of the sample.

        Raises:
            BadInput: If the code is of another width.
        """
        if code.width != len(self.active):
            raise BadInput(
                f"places of {len(self.active)} features were asked for, found a code of"
                f" {code.width}: make one for each dictionary"
            )
        entries = entries_of(code, places)
        width, peaks = code.width, peaks_of(entries)
        self.tokens += len(places)
        self.active += torch.bincount(entries.feature, minlength=width)
        self.total += torch.bincount(entries.feature, entries.value.double(), minlength=width)
        cell = entries.feature * BINS + bin_of(entries.value)
        self.histogram += torch.bincount(cell, minlength=width * BINS).view(width, BINS)
        self.windows += torch.bincount(peaks.feature, minlength=width)
        self._count_documents(peaks, document)

        def around(f: Tensor, w: Tensor, p: Tensor) -> Tensor:
            return traces(entries, f, w, p, context=self.context)

        self.top.offer(peaks, peaks.value, around)
        keys = torch.rand(len(peaks.value), generator=generator, device=generator.device)
        self.drawn.offer(peaks, keys.to(peaks.value), around)

    def _count_documents(self, peaks: Peaks, document: Tensor) -> None:
        if not len(peaks.feature):
            return
        of = document[peaks.window]
        first = torch.ones_like(of, dtype=torch.bool)
        first[1:] = peaks.feature[1:] != peaks.feature[:-1]
        before = torch.where(first, self._last[peaks.feature], of.roll(1))
        self.documents += torch.bincount(peaks.feature[of != before], minlength=len(self.active))
        last = first.roll(-1)
        self._last[peaks.feature[last]] = of[last]

    def state(self) -> dict[str, Tensor]:
        """Everything, for a store."""
        plain = ("active", "windows", "documents", "total", "histogram", "_last")
        kept = {name: getattr(self, name) for name in plain}
        for name in ("top", "drawn"):
            kept |= {f"{name}.{field}": t for field, t in vars(getattr(self, name)).items()}
        return kept | {"tokens": torch.tensor([self.tokens])}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        self.tokens = int(state["tokens"])
        for name, value in self.state().items():
            if name != "tokens":
                value.copy_(state[name])


def bin_of(value: Float[Tensor, "*entry"]) -> Int64[Tensor, "*entry"]:
    """The bin of the histogram that a positive activation falls into.

    Example:
        >>> bin_of(torch.tensor([1.0, 1.5, 2.0, 1e-9, 1e9])).tolist()
        [32, 33, 34, 0, 63]
    """
    octave = (value.double().log2() * BINS_PER_OCTAVE).floor().long()
    return (octave + BINS // 2).clamp(0, BINS - 1)


def bin_edge(number: int) -> float:
    """Where a bin begins, in units of activation."""
    return float(2.0 ** ((number - BINS // 2) / BINS_PER_OCTAVE))
