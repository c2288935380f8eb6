"""Absorption: a feature that is silent where a more special one says its part as well.

A dictionary that is paid for few active features may let “short” write “starts with s” along with
everything else, and leave the feature that starts with s silent there (Chanin et al. 2024,
arXiv:2409.14507). Then the feature looks like what it is not. Here nothing is ablated: a probe says
where a value holds and what each active feature adds to it, so that it works in any model, on any
label of words. Words are split in halves, and probe and features are chosen on one of them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.core.registry import measure
from energylens.features.code import SparseCode
from energylens.features.dictionary import Dictionary
from energylens.features.probing import mean_differences
from energylens.stats.interval import Interval
from energylens.stats.nulls import permute_rows, split_units, unit_permutation
from energylens.stats.permutation import PermutationTest, permutation_test
from energylens.stats.rates import clustered_rate_interval

RIDGE = 1e-2
"""Of the mean variance, added to every direction's."""
MOST_MAIN = 4
GAIN = 0.03
"""What a further main feature has to add to recall − false alarms."""
FOUND = 0.25
"""Recall − false alarms on the other words, of features that stand for a value at all."""
SHARE, COSINE = 0.4, 0.025
"""Of the row's own projection that one feature must carry, and how its decoder row must lie."""
FEWEST = 5
"""Words with a value in each half."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Probes:
    """Linear discriminants of every value: rows · direction > threshold says yes.

    Attributes:
        origin: Projection of the mean of rows without the value.
    """

    direction: Float64[Tensor, "value d"]
    threshold: Float64[Tensor, " value"]
    origin: Float64[Tensor, " value"]


def probes(rows: Float[Tensor, "sample d"], labels: Bool[Tensor, "sample value"]) -> Probes:
    """Fisher's discriminant of each value against all others, with one common covariance.

    The threshold is midway between both means, so that a rare value is as likely to be told as a
    frequent one. nan for a value that never holds, or always.
    """
    x, inside = rows.double(), labels.double()
    count = inside.sum(0)[:, None]
    mean = inside.T @ x / count
    rest = (x.sum(0) - inside.T @ x) / (len(x) - count)
    centred = x - x.mean(0)
    covariance = centred.T @ centred / len(x)
    covariance.diagonal().add_(RIDGE * covariance.diagonal().mean())
    direction = torch.linalg.solve(covariance, (mean - rest).T).T
    return Probes(
        direction=direction, threshold=(direction * (mean + rest)).sum(1) / 2,
        origin=(direction * rest).sum(1),
    )  # fmt: skip


@measure(
    units="share of the rows with a value that the probe knows of",
    axes=("value",),
    source="after Chanin et al. 2024, arXiv:2409.14507, with projections in place of ablations",
    null="decoder rows permuted among features; labels dealt out to words anew",
    unchanged_by=("sample order", "feature order", "scale of a probe's direction"),
    formula="#{main silent, one carries ≥ 0.4 of (x − x̄_without) · w} / #{x · w > threshold}",
)
def absorption_rate(
    absorbed: Bool[Tensor, "sample value"], known: Bool[Tensor, "sample value"]
) -> Float64[Tensor, " value"]:
    """How often a feature is silent because another says its part; nan where nothing is known.

    Args:
        absorbed: Rows in which main features are silent and another carries the value.
        known: Rows that have the value, and of which the probe says so.
    """
    count = known.sum(0).double()
    return torch.where(count > 0, (absorbed & known).sum(0) / count, torch.nan)


@dataclass(frozen=True, kw_only=True)
class Absorption:
    """Absorption of each value, on words that neither probe nor features were chosen on.

    Attributes:
        main: Features that stand for the value, at most four; −1 fills up.
        recall, false_alarms: Of the main features: share of the rows with the value, and without,
            on which one of them is active.
        found: Whether recall − false alarms is .25 or more; without it there is nothing that could
            be absorbed, and `rate` and `p` are nan.
        known: Rows with the value that the probe knows of.
        silent: Of these, rows on which no main feature is active.
        absorbed: Of these, rows on which another feature carries the value.
        rate: absorbed / known, interval over units.
        absorbing: Per value the feature that absorbs most rows; −1 if none does.
        permuted: `rate` beside the same with decoder rows permuted among features.
        dealt: Mean absorbed / known with labels dealt out to words anew, whatever was found; and
        dealt_found: the share of those values that count as found.
    """

    main: Int64[Tensor, "value most"]
    recall: Float64[Tensor, " value"]
    false_alarms: Float64[Tensor, " value"]
    found: Bool[Tensor, " value"]
    known: Int64[Tensor, " value"]
    silent: Int64[Tensor, " value"]
    absorbed: Int64[Tensor, " value"]
    rate: Interval
    absorbing: Int64[Tensor, " value"]
    permuted: PermutationTest
    dealt: float
    dealt_found: float


@torch.no_grad()
def absorption(
    dictionary: Dictionary,
    rows: Float[Tensor, "sample d"],
    labels: Bool[Tensor, "sample value"],
    word: Int[Tensor, " sample"],
    *,
    draws: int = 199,
    deals: int = 5,
    generator: torch.Generator,
) -> Absorption:
    """Look for absorption of labels of words, such as their first letter.

    Args:
        rows: States at words; best no more than a few of each, see `few_of_each`.
        labels: Which value each word has; one for each column.
        word: Type of the word: the unit.
        draws: Permutations of the decoder's rows.
        deals: Times that labels are dealt out to words anew.

    Raises:
        InsufficientData: If there are fewer than two words, or too few draws for a p below .05.
    """
    words, number = word.unique(return_inverse=True)
    first, second = (
        half.to(rows.device)[number] for half in split_units(len(words), generator)
    )  # fmt: skip
    code = dictionary.encode(rows.to(dictionary.W_enc))
    split = _Split(
        train=rows[first].double(), held=rows[second].double(), code=code.of_rows(first),
        held_code=code.of_rows(second), W_dec=dictionary.W_dec.double(),
    )  # fmt: skip
    here = split.look(labels[first], labels[second])
    enough = torch.stack([
        torch.zeros(len(words), labels.shape[1], dtype=torch.long, device=rows.device)
        .index_add(0, number[half], labels[half].long()).gt(0).sum(0) >= FEWEST
        for half in (first, second)
    ]).all(0)  # fmt: skip
    found = here.found & enough
    nowhere = torch.where(found, 0.0, torch.nan)
    absorbed, carrier = here.absorbed(split.W_dec)

    def permuted(generator: torch.Generator) -> Tensor:
        return absorption_rate(here.absorbed(permute_rows(split.W_dec, generator))[0], here.known)

    test = permutation_test(
        absorption_rate(absorbed, here.known) + nowhere, permuted, draws=draws, generator=generator
    )
    of_word = torch.zeros(len(words), labels.shape[1], dtype=labels.dtype, device=rows.device)
    of_word[number] = labels
    dealt = [
        split.look(fake[first], fake[second])
        for fake in (unit_permutation(of_word, generator)[number] for _ in range(deals))
    ]
    rates = [absorption_rate(one.absorbed(split.W_dec)[0], one.known) for one in dealt]
    return Absorption(
        main=here.main, recall=here.recall, false_alarms=here.false_alarms, found=found,
        known=here.known.sum(0), silent=here.silent.sum(0), absorbed=absorbed.sum(0),
        rate=_rates(absorbed, here.known, number[second], found),
        absorbing=_most_common(carrier, absorbed), permuted=test,
        dealt=float(torch.stack(rates).nanmean()) if rates else torch.nan,
        dealt_found=float(torch.stack([one.found for one in dealt]).double().mean())
        if dealt else torch.nan,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class _Split:
    """Rows and codes of both halves of the words."""

    train: Float64[Tensor, "sample d"]
    held: Float64[Tensor, "held d"]
    code: SparseCode
    held_code: SparseCode
    W_dec: Float64[Tensor, "feature d"]

    def look(
        self, labels: Bool[Tensor, "sample value"], held: Bool[Tensor, "held value"]
    ) -> "_Look":
        """Choose on one half, and say what is known and silent on the other."""
        made = probes(self.train, labels)
        main = main_features(self.code, labels)
        fired = _any_of(self.held_code, main)
        shares = [
            (fired & side).sum(0) / side.sum(0).double() for side in (held, ~held)
        ]  # fmt: skip
        projection = self.held @ made.direction.T
        known = held & (projection > made.threshold)
        return _Look(
            main=main, recall=shares[0], false_alarms=shares[1], known=known,
            silent=known & ~fired, probes=made, projection=projection - made.origin,
            code=self.held_code,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class _Look:
    """What was found on the held-out words, short of who absorbs."""

    main: Int64[Tensor, "value most"]
    recall: Float64[Tensor, " value"]
    false_alarms: Float64[Tensor, " value"]
    known: Bool[Tensor, "held value"]
    silent: Bool[Tensor, "held value"]
    probes: Probes
    projection: Float64[Tensor, "held value"]
    code: SparseCode

    @property
    def found(self) -> Bool[Tensor, " value"]:
        return self.recall - self.false_alarms >= FOUND

    def absorbed(
        self, W_dec: Float64[Tensor, "feature d"]
    ) -> tuple[Bool[Tensor, "held value"], Int64[Tensor, "held value"]]:
        """Silent rows in which one feature carries the value, and which carries most of it."""
        along = W_dec @ self.probes.direction.T
        sizes = torch.linalg.vector_norm(self.probes.direction, dim=1)
        norms = torch.linalg.vector_norm(W_dec, dim=1)[:, None]
        turned = along >= COSINE * norms * sizes
        carried = torch.zeros_like(self.silent)
        carrier = torch.full(self.silent.shape, -1, device=self.silent.device)
        row, value = self.silent.nonzero(as_tuple=True)
        features, values = self.code.indices[row], self.code.values[row].double()
        share = values * along[features, value[:, None]] * turned[features, value[:, None]]
        largest, which = share.max(1)
        wanted = self.projection[row, value]
        carried[row, value] = (largest >= SHARE * wanted) & (wanted > 0) & (largest > 0)
        carrier[row, value] = features.gather(1, which[:, None])[:, 0]
        return carried, carrier


def main_features(
    code: SparseCode, labels: Bool[Tensor, "sample value"]
) -> Int64[Tensor, "value most"]:
    """The features whose means rise most where a value holds, as long as each adds something.

    Each after the first must raise recall − false alarms of all together by .03; −1 fills up.
    """
    difference = mean_differences(code, labels).nan_to_num(-1.0)
    tried = difference.topk(min(MOST_MAIN, len(difference)), dim=0)
    chosen = torch.full((labels.shape[1], MOST_MAIN), -1, device=labels.device)
    reached = torch.zeros(labels.shape[1], dtype=torch.float64, device=labels.device)
    for place, (feature, size) in enumerate(zip(tried.indices, tried.values, strict=True)):
        attempt = chosen.clone()
        attempt[:, place] = feature
        fired = _any_of(code, attempt)
        recall, alarms = (
            (fired & side).sum(0) / side.sum(0).double() for side in (labels, ~labels)
        )  # fmt: skip
        better = (size > 0) & ((recall - alarms >= reached + GAIN) | (place == 0))
        chosen[better, place] = feature[better]
        reached = torch.where(better, recall - alarms, reached)
    return chosen


def _any_of(
    code: SparseCode, features: Int64[Tensor, "value most"]
) -> Bool[Tensor, "sample value"]:
    """Whether any of the features of each value is active; −1 is none."""
    chosen = features[features >= 0].unique()
    silent = torch.zeros(len(code.indices), 1, dtype=torch.bool, device=features.device)
    active = torch.cat([code.columns(chosen) != 0, silent], dim=1)
    column = torch.where(features >= 0, torch.searchsorted(chosen, features), len(chosen))
    return active[:, column].any(2)


def few_of_each(
    word: Int[Tensor, " sample"], most: int, generator: torch.Generator
) -> Bool[Tensor, " sample"]:
    """At most so many rows of each word, at random.

    Example:
        >>> word = torch.tensor([5, 5, 5, 2])
        >>> few_of_each(word, 2, torch.Generator().manual_seed(0)).sum().item()
        3
    """
    order = torch.randperm(len(word), generator=generator, device=generator.device).to(word.device)
    sorted_, place = word[order].sort(stable=True)
    start = torch.searchsorted(sorted_, sorted_)
    rank = torch.arange(len(word), device=word.device) - start
    kept = torch.zeros(len(word), dtype=torch.bool, device=word.device)
    kept[order[place]] = rank < most
    return kept


def _rates(absorbed: Tensor, known: Tensor, unit: Tensor, found: Tensor) -> Interval:
    """Share over each value's rows, with words as units; nan where nothing was found or known."""
    units, number = unit.unique(return_inverse=True)
    if len(units) < 2:
        raise InsufficientData(f"absorption is over words, got {len(units)}: give more of them")
    ends = torch.full((3, len(found)), torch.nan, dtype=torch.float64, device=found.device)
    for value in found.nonzero()[:, 0].tolist():
        hits, count = (
            torch.zeros(len(units), dtype=torch.float64, device=found.device)
            .index_add(0, number, side[:, value].double()) for side in (absorbed, known)
        )  # fmt: skip
        some = count > 0
        if int(some.sum()) >= 2:
            one = clustered_rate_interval(hits[some], count[some])
            ends[:, value] = torch.stack([one.estimate, one.low, one.high])
    return Interval(estimate=ends[0], low=ends[1], high=ends[2], level=0.95)


def _most_common(carrier: Tensor, absorbed: Tensor) -> Int64[Tensor, " value"]:
    found = torch.full((absorbed.shape[1],), -1, device=absorbed.device)
    for value in absorbed.any(0).nonzero()[:, 0].tolist():
        found[value] = carrier[absorbed[:, value], value].mode().values
    return found
