"""Pairs of prompts that differ in one attribute, put to a model; and what an edit does to them.

The yardstick of an edit is patching: the states of the same prompt with one attribute changed, at
the same places. Half of the groups is for choosing; everything is judged on the other half.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64, Int64, Num, Shaped
from torch import Tensor

from energylens.core.registry import measure
from energylens.features.attributes import halves_of_groups
from energylens.features.prompts import AttributedPrompts, Run, answered
from energylens.stats.bootstrap import weighted_means_interval
from energylens.stats.exchange import Accuracy
from energylens.stats.interval import Interval
from energylens.stats.rates import clustered_rate_interval
from energylens.stats.robust import cluster_mean_interval

FEWEST_GROUPS = 5
ROUNDING = 1e-5  # of the model's preference: a smaller difference of logits is none


@measure(
    units="share of the pairs of prompts",
    axes=(),
    source="Makelov, Lange & Nanda 2024, arXiv:2405.08366: edit accuracy",
    null="no edit; as many active features at random; a random dictionary; shuffled labels",
    unchanged_by=("sample order", "a constant added to all logits"),
    formula="#{edited model says what the patched one says} / #{pairs}",
)
def edit_accuracy(
    edited: Num[Tensor, " pair"], patched: Num[Tensor, " pair"]
) -> Float64[Tensor, ""]:
    """How often an edited model says what it says after patching; nan without pairs.

    Args:
        edited: Token said, of the answers and foils of both prompts.
        patched: The same with the states of the other prompt in place.
    """
    return (edited == patched).double().mean()


@measure(
    units="share of the change by patching; 1 where an edit does what patching does",
    axes=(),
    source="definition: as edit accuracy, in nats instead of answers",
    null="0 for no edit; as many active features at random; a random dictionary; shuffled labels",
    unchanged_by=("sample order", "a constant added to all logits"),
    formula="Σ (P_edited − P) / Σ (P_patched − P), P = logit of the other's answer − of one's own",
)
def edit_effect(
    before: Float[Tensor, " pair"], edited: Float[Tensor, " pair"], patched: Float[Tensor, " pair"]
) -> Float64[Tensor, ""]:
    """How much of what patching does to the preference an edit does; nan where it does nothing.

    Example:
        >>> before, patched = torch.tensor([-2.0, -2.0]), torch.tensor([2.0, 2.0])
        >>> edit_effect(before, torch.tensor([2.0, 0.0]), patched).item()
        0.75
    """
    whole = (patched.double() - before.double()).sum()
    done = (edited.double() - before.double()).sum()
    return done / torch.where(whole != 0, whole, torch.nan)


@dataclass(frozen=True, kw_only=True)
class Control:
    """What an edit of one attribute does; all nan where the model cannot do the task.

    Attributes:
        method: How what is changed was chosen.
        most: Features that may be changed at a place; 0 where nothing was chosen.
        accuracy: `edit_accuracy` over all pairs, interval over groups.
        turned: The same over the pairs in which patching turns the answer; nan where they are of
            fewer than five groups.
        effect: `edit_effect`, interval over groups; nan where patching changes nothing for certain.
        weight: Mean `edit_weight` over rows; nan where no feature is taken away.
        changed: Mean features changed at a place; nan without features.
        pairs, turning: Pairs of prompts, and those that patching turns.
    """

    attribute: int
    method: str
    most: int
    accuracy: Interval
    turned: Interval
    effect: Interval
    weight: float
    changed: float
    pairs: int
    turning: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Prompts that differ in one attribute, from and to.

    Attributes:
        tokens: Answer and foil of the prompt itself, answer and foil of what it is to become.
    """

    source: Int64[Tensor, " pair"]
    target: Int64[Tensor, " pair"]
    tokens: Int64[Tensor, "pair four"]

    def says(
        self, logits: Float[Tensor, "pair vocab"]
    ) -> tuple[Int64[Tensor, " pair"], Float[Tensor, " pair"]]:
        """Which of the tokens has the largest logit; and the preference for the other prompt's
        answer over the prompt's own, or over the other's foil where the answer is the same."""
        four = logits.gather(1, self.tokens)
        said = self.tokens.gather(1, four.argmax(1, keepdim=True))[:, 0]
        same = self.tokens[:, 2] == self.tokens[:, 0]
        return said, four[:, 2] - torch.where(same, four[:, 3], four[:, 0])


@dataclass(frozen=True, kw_only=True, eq=False)
class Patching:
    """What a model says of pairs as they are, and with the states of the other prompt in place.

    Attributes:
        before, after: Preference for the other prompt's answer, without and with patching.
        said: Token said after patching.
        turns: Whether it is another than before.
    """

    pairs: Pairs
    before: Float[Tensor, " pair"]
    after: Float[Tensor, " pair"]
    said: Int64[Tensor, " pair"]
    turns: Bool[Tensor, " pair"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trials:
    """A task put to a model, ready for edits.

    Attributes:
        states: At the places that the task names, as the model computes them.
        choose, judge: Items of either half of the groups.
        accuracy: Of the model itself on all items.
        preference: For the answer over the foil, of each item.
        patchings: By attribute; empty where the model cannot do the task.
    """

    prompts: AttributedPrompts
    states: Float[Tensor, "item place d"]
    run: Run
    choose: Bool[Tensor, " item"]
    judge: Bool[Tensor, " item"]
    accuracy: Accuracy
    preference: Float[Tensor, " item"]
    patchings: tuple[Patching, ...]

    @property
    def can(self) -> bool:
        """Whether the model's accuracy is above chance."""
        return self.accuracy.can

    def pairs(self, attribute: int) -> Pairs:
        """Of the judging half."""
        source, target = (side[self.judge[side]] for side in self.prompts.pairs(attribute))
        ends = [
            side[end]
            for end in (source, target)
            for side in (self.prompts.answer, self.prompts.foil)
        ]
        return Pairs(source=source, target=target, tokens=torch.stack(ends, dim=1))

    def patched(self, attribute: int) -> Patching:
        """The model's answers without and with patching."""
        pairs = self.pairs(attribute)
        before, after = (
            pairs.says(self.run(pairs.source, self.states[end]))
            for end in (pairs.source, pairs.target)
        )
        return Patching(
            pairs=pairs, before=before[1], after=after[1], said=after[0],
            turns=before[0] != after[0],
        )  # fmt: skip

    def ratio(
        self,
        rows: Int64[Tensor, " row"],
        part: Float[Tensor, " row"],
        whole: Float[Tensor, " row"],
        *,
        draws: int,
        generator: torch.Generator,
    ) -> Interval:
        """Σ part / Σ whole over some items, with its interval over groups.

        Undefined where the whole is not clear of 0: what an edit does is no share of nothing.
        """
        rounding = ROUNDING * self.preference.abs().mean()
        whole = torch.where(whole.abs() > rounding, whole, 0.0)
        sums, counts = (self.by_group(rows, each) for each in (part, whole))
        if not self.can or not _clear_of_0(counts):
            return undefined(part)
        sign = counts.sum().sign()  # an interval of a ratio needs a positive denominator
        return weighted_means_interval(
            sign * sums, sign * counts, draws=draws, generator=generator
        )  # fmt: skip

    def by_group(
        self, rows: Int64[Tensor, " row"], values: Shaped[Tensor, " row"]
    ) -> Float64[Tensor, " group"]:
        """Sums over each group that some items are from."""
        number = self.prompts.group[rows].unique(return_inverse=True)[1]
        sums = torch.zeros(int(number.max()) + 1, dtype=torch.float64, device=values.device)
        return sums.index_add(0, number, values.double())


def trials(
    prompts: AttributedPrompts,
    states: Float[Tensor, "item place d"],
    run: Run,
    *,
    generator: torch.Generator,
) -> Trials:
    """Ask a model, and if it can do the task patch every pair of the judging half.

    Raises:
        InsufficientData: If there are fewer than two groups.
    """
    choose, judge = halves_of_groups(prompts.group, generator)
    everything = torch.arange(len(states), device=states.device)
    accuracy, preference = answered(prompts, run(everything, states))
    asked = Trials(
        prompts=prompts, states=states, run=run, choose=choose, judge=judge, accuracy=accuracy,
        preference=preference, patchings=(),
    )  # fmt: skip
    attributes = range(len(prompts.values)) if accuracy.can else ()
    return replace(asked, patchings=tuple(map(asked.patched, attributes)))


def judged(
    trials: Trials,
    attribute: int,
    move: Float[Tensor, "pair place d"],
    *,
    method: str,
    most: int = 0,
    weight: float = math.nan,
    changed: float = math.nan,
    draws: int,
    generator: torch.Generator,
) -> Control:
    """What moving the states of every pair of an attribute does."""
    found = Control(
        attribute=attribute, method=method, most=most, accuracy=undefined(move),
        turned=undefined(move), effect=undefined(move), weight=weight, changed=changed,
        pairs=len(move), turning=0,
    )  # fmt: skip
    if not trials.can:
        return found
    patching = trials.patchings[attribute]
    rows = patching.pairs.source
    said, after = patching.pairs.says(
        trials.run(rows, trials.states[rows] + move.to(trials.states))
    )
    right, turns = said == patching.said, patching.turns
    count, turning, hits, turned = (
        trials.by_group(rows, each)
        for each in (torch.ones_like(after), turns, right, right & turns)
    )
    enough = int((turning > 0).sum()) >= FEWEST_GROUPS
    effect = trials.ratio(
        rows, after - patching.before, patching.after - patching.before, draws=draws,
        generator=generator,
    )  # fmt: skip
    return replace(
        found, accuracy=clustered_rate_interval(hits, count), effect=effect,
        turned=clustered_rate_interval(turned, turning) if enough else found.turned,
        turning=int(turns.sum()),
    )  # fmt: skip


def _clear_of_0(sums: Float64[Tensor, " group"]) -> bool:
    found = cluster_mean_interval(sums[:, None])
    return bool(found.low > 0) or bool(found.high < 0)


def undefined(like: Tensor) -> Interval:
    """An interval of which nothing is known."""
    nothing = torch.full((), torch.nan, dtype=torch.float64, device=like.device)
    return Interval(estimate=nothing, low=nothing, high=nothing, level=0.95)
