"""Which class of samples does each of many sparse series tell apart from the rest? By AUROC.

A sparse series is 0 on most samples, so that only its entries are looked at: samples of value 0 tie
with one another and lie below all entries. What is tied counts half.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.stats.nulls import circular_shift, enough_evidence

# Classes of fewer samples inside or outside have an area that luck decides.
FEWEST_SAMPLES = 30
ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class RankedEntries:
    """The positive entries of sparse series, ranked from 1 within each series.

    Attributes:
        samples: How many there are, entries or not.
    """

    series: Int64[Tensor, " entry"]
    sample: Int64[Tensor, " entry"]
    rank: Float64[Tensor, " entry"]
    width: int
    samples: int

    @property
    def counts(self) -> Int64[Tensor, " series"]:
        """Entries of each series."""
        return torch.bincount(self.series, minlength=self.width)


def ranked_entries(
    series: Int[Tensor, " entry"],
    sample: Int[Tensor, " entry"],
    value: Float[Tensor, " entry"],
    *,
    width: int,
    samples: int,
) -> RankedEntries:
    """Rank the entries of each series by value, ties sharing the mean of their ranks."""
    order = value.argsort(stable=True)
    order = order[series[order].argsort(stable=True)]
    series, sample, value = series[order].long(), sample[order].long(), value[order]
    place = torch.arange(len(series), device=series.device)
    first = torch.ones_like(series, dtype=torch.bool)
    first[1:] = (series[1:] != series[:-1]) | (value[1:] != value[:-1])
    tie = first.cumsum(0) - 1
    begin = place[first]
    end = torch.cat([begin[1:], begin.new_tensor([len(series)])])
    start = torch.searchsorted(series, torch.arange(width, device=series.device))
    middle = (begin + end - 1).double() / 2
    return RankedEntries(
        series=series, sample=sample, rank=middle[tie] - start[series] + 1, width=width,
        samples=samples,
    )  # fmt: skip


def auroc_by_class(
    entries: RankedEntries, labels: Int[Tensor, " sample"], classes: int
) -> Float64[Tensor, "series label"]:
    """Chance that a sample of a class has a larger value than one of another class, ties half.

    The area under the receiver's curve (Hanley & McNeil 1982), exact. nan for classes with fewer
    than thirty samples inside or outside.

    Example:
        >>> entries = ranked_entries(torch.tensor([0]), torch.tensor([3]), torch.tensor([2.0]),
        ...                          width=1, samples=90)
        >>> auroc_by_class(entries, (torch.arange(90) < 30).long(), 2)[0, 1].item()
        0.5166666666666667

    Args:
        labels: Class of each sample, 0 … classes − 1; `classes` itself where it is of none.
    """
    cell = entries.series * (classes + 1) + labels.long()[entries.sample]
    shape, cells = (entries.width, classes + 1), entries.width * (classes + 1)
    ranks = torch.bincount(cell, weights=entries.rank, minlength=cells).view(shape)[:, :-1]
    inside = torch.bincount(cell, minlength=cells).view(shape)[:, :-1].double()
    outside = entries.counts[:, None] - inside
    size = torch.bincount(labels, minlength=classes + 1)[:-1].double()
    rest = entries.samples - size
    above = ranks - inside * (inside + 1) / 2 + inside * (rest - outside)
    tied = (size - inside) * (rest - outside) / 2
    enough = (size >= FEWEST_SAMPLES) & (rest >= FEWEST_SAMPLES)
    return torch.where(enough, (above + tied) / (size * rest), torch.nan)


@dataclass(frozen=True, kw_only=True)
class BestClass:
    """The class that each series tells apart best, beside the best under the null.

    Attributes:
        label: Number of the class over all families in order; −1 where none is defined.
        auroc: Its area.
        null_mean: Mean over draws of the largest area of any class.
        p: (1 + #{largest area of a draw ≥ area}) / (1 + draws).
        drawn_label, drawn_p: The same of the first draw, judged by the others: what is found where
            nothing is.
    """

    label: Int64[Tensor, " series"]
    auroc: Float64[Tensor, " series"]
    null_mean: Float64[Tensor, " series"]
    p: Float64[Tensor, " series"]
    drawn_label: Int64[Tensor, " series"]
    drawn_p: Float64[Tensor, " series"]


def best_class(
    entries: RankedEntries,
    families: Sequence[tuple[Tensor, int]],
    null: Callable[[torch.Generator], Sequence[Tensor]],
    *,
    draws: int,
    generator: torch.Generator,
) -> BestClass:
    """Choose each series' class by area, and judge it by the largest area under the null.

    The choice among the classes is made anew in every draw, so it costs nothing that p would not
    know of; that there are many series is left to the caller.

    Args:
        families: Labels of the samples by several divisions, and how many classes each has.
        null: A draw: the labels of every family with their bond to the values broken.
        draws: Draws; p is no smaller than 1 / (1 + draws).

    Raises:
        InsufficientData: If so few draws cannot give a p below .05.
    """
    if draws < 20:
        raise InsufficientData(f"a p below .05 needs at least 20 draws, got {draws}: draw more")
    sizes = [classes for _, classes in families]

    def areas(labels: Sequence[Tensor]) -> Float64[Tensor, "series label"]:
        found = [auroc_by_class(entries, one, n) for one, n in zip(labels, sizes, strict=True)]
        return torch.cat(found, dim=1)

    observed = areas([labels for labels, _ in families]).nan_to_num(-1.0).max(1)
    first = areas(null(generator)).nan_to_num(-1.0).max(1)
    total = first.values.clone()
    # Areas of the same counts differ by rounding alone.
    least, least_drawn = observed.values - ROUNDING, first.values - ROUNDING
    beyond, beyond_drawn = (first.values >= least).double(), torch.zeros_like(total)
    for _ in range(draws - 1):
        largest = areas(null(generator)).nan_to_num(-1.0).amax(1)
        beyond += largest >= least
        beyond_drawn += largest >= least_drawn
        total += largest
    defined = observed.values >= 0

    def known(values: Tensor) -> Tensor:
        return torch.where(defined, values, torch.nan)

    return BestClass(
        label=torch.where(defined, observed.indices, -1), auroc=known(observed.values),
        null_mean=known(total / draws), p=known((1 + beyond) / (1 + draws)),
        drawn_label=torch.where(defined, first.indices, -1),
        drawn_p=known((1 + beyond_drawn) / draws),
    )  # fmt: skip


def turned(unit: Int[Tensor, " sample"], generator: torch.Generator) -> Int64[Tensor, " sample"]:
    """Where each sample's label comes from when every unit is turned by a draw of its own."""
    return circular_shift(torch.arange(len(unit), device=unit.device), unit, generator)


def dealt_out(
    labels: Int[Tensor, " sample"], unit: Int[Tensor, " sample"], generator: torch.Generator
) -> Int[Tensor, " sample"]:
    """Labels that a whole unit shares, dealt out among the units anew."""
    units, number = unit.unique(return_inverse=True)
    first = torch.full((len(units),), len(unit), device=unit.device)
    first = first.scatter_reduce(0, number, torch.arange(len(unit), device=unit.device), "amin")
    order = torch.randperm(len(units), generator=generator, device=generator.device)
    return labels[first[order.to(unit.device)]][number]


def holds(
    entries: RankedEntries, labels: Int[Tensor, " sample"], classes: int
) -> Float64[Tensor, "series label"]:
    """Share of each series' entries that are of each class; nan without entries."""
    cell = entries.series * (classes + 1) + labels.long()[entries.sample]
    inside = torch.bincount(cell, minlength=entries.width * (classes + 1))
    return inside.view(entries.width, -1)[:, :-1].double() / entries.counts[:, None]


def enough_entries(
    entries: RankedEntries,
    unit: Int[Tensor, " sample"],
    *,
    min_active: int = 30,
    min_units: int = 5,
) -> Bool[Tensor, " series"]:
    """Series with entries enough, in units enough, to be told of; as `nulls.enough_evidence`."""
    units = int(unit.max()) + 1 if len(unit) else 0
    pairs = (entries.series * units + unit.long()[entries.sample]).unique()
    return enough_evidence(
        entries.counts, torch.bincount(pairs // max(units, 1), minlength=entries.width),
        min_active=min_active, min_units=min_units,
    )  # fmt: skip
