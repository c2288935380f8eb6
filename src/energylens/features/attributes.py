"""Which features stand for which value of an attribute: by F1, alone and in unions.

Prompts come in groups that share their wording, and a group is what is dealt out under the null.
Features are chosen on one half of the groups and judged on the other (Makelov, Lange & Nanda 2024,
arXiv:2405.08366, third axis; what they choose and judge on the same prompts is `best` here, beside
the best of as many features under the null).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int, Int64, Shaped
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.core.registry import measure
from energylens.stats.nulls import split_units, unit_permutation
from energylens.stats.permutation import PermutationTest, permutation_test

NONE = -1  # fills up unions that no further feature improves


@measure(
    units="F1, 1 where a feature is active exactly where the value holds",
    axes=("feature", "value"),
    source="Makelov, Lange & Nanda 2024, arXiv:2405.08366: interpretability",
    null="the best of as many features with the labels of prompt groups dealt out anew; a feature"
    " that is always active has 2s / (1 + s) where the value holds in a share s",
    unchanged_by=("sample order", "positive scale of activations"),
    formula="F1 = 2 · #{active and value} / (#{active} + #{value})",
)
def feature_f1(
    active: Bool[Tensor, "item feature"], labels: Bool[Tensor, "item value"]
) -> Float64[Tensor, "feature value"]:
    """How well each feature's being active says that an attribute has a value.

    0 for a feature that is never active, nan for a value that never holds.

    Example:
        >>> active = torch.tensor([[True], [True], [False], [False]])
        >>> labels = torch.tensor([[True], [False], [False], [False]])
        >>> round(float(feature_f1(active, labels)), 4)
        0.6667
    """
    both = active.double().T @ labels.double()
    size, count = active.sum(0).double(), labels.sum(0).double()
    return torch.where(count > 0, 2 * both / (size[:, None] + count), torch.nan)


@dataclass(frozen=True, kw_only=True)
class Unions:
    """Features any of which is active where a value holds, found greedily.

    Attributes:
        members: In the order in which they were taken; −1 where none raises the F1 further.
        f1: Of the union of the first 1, 2, … members, on the items they were chosen on.
    """

    members: Int64[Tensor, "value most"]
    f1: Float64[Tensor, "value most"]


def greedy_unions(
    active: Bool[Tensor, "item feature"], labels: Bool[Tensor, "item value"], most: int
) -> Unions:
    """For each value the feature with the largest F1, then the one that raises it most, and so on.

    Raises:
        BadInput: If there is no feature, or none is asked for.
    """
    if not active.shape[1] or most < 1:
        raise BadInput(
            f"unions of {most} of {active.shape[1]} features were asked for: there must be one"
        )
    on, count = active.double(), labels.sum(0).double()
    yes = labels.double()
    covered = torch.zeros_like(labels)
    reached = torch.where(count > 0, 0.0, torch.nan)
    members, f1 = [], []
    for _ in range(most):
        hits, size = (covered & labels).sum(0).double(), covered.sum(0).double()
        left = (~covered).double()
        with_each = 2 * (hits + on.T @ (left * yes)) / (size + on.T @ left + count)
        best, feature = with_each.max(0)
        better = best > reached * (1 + 1e-12)
        covered = covered | (active[:, feature] & better)
        reached = torch.where(better, best, reached)
        members.append(torch.where(better, feature, NONE))
        f1.append(reached)
    return Unions(members=torch.stack(members, 1), f1=torch.stack(f1, 1))


def union_f1(
    active: Bool[Tensor, "item feature"],
    labels: Bool[Tensor, "item value"],
    members: Int64[Tensor, "value most"],
) -> Float64[Tensor, "value most"]:
    """F1 of the union of the first 1, 2, … members of each value; −1 adds nothing.

    nan for a value that never holds.
    """
    covered = torch.zeros_like(labels)
    count, f1 = labels.sum(0).double(), []
    for chosen in members.T:
        covered = covered | (active[:, chosen.clamp(min=0)] & (chosen != NONE))
        hits = (covered & labels).sum(0).double()
        f1.append(torch.where(count > 0, 2 * hits / (covered.sum(0) + count), torch.nan))
    return torch.stack(f1, 1)


def deal_to_groups(
    labels: Shaped[Tensor, "item ..."], group: Int[Tensor, " item"], generator: torch.Generator
) -> Shaped[Tensor, "item ..."]:
    """The labels of whole groups handed to groups at random; places within a group stay.

    Raises:
        BadInput: If groups differ in size.
    """
    order = group.argsort(stable=True)
    sizes = group.unique(return_counts=True)[1]
    if bool((sizes != sizes[0]).any()):
        raise BadInput(
            f"groups of {int(sizes.min())} to {int(sizes.max())} prompts were given: labels can be"
            " dealt out among groups of one size alone"
        )
    by_group = labels[order].unflatten(0, (len(sizes), int(sizes[0])))
    dealt = torch.empty_like(labels)
    dealt[order] = unit_permutation(by_group, generator).flatten(0, 1)
    return dealt


@dataclass(frozen=True, kw_only=True)
class Interpretability:
    """What features say of each value of an attribute.

    Attributes:
        members: Features chosen on the first half of the groups, a union in order.
        chosen: F1 of the unions of the first 1, 2, … members where they were chosen.
        held: The same on the second half, beside labels dealt out to groups before the choice.
        best: Largest F1 of any one feature over all prompts, beside the largest under the null.
        judged: Items in which each value holds in the second half; 0 makes its `held` nan.
    """

    members: Int64[Tensor, "value most"]
    chosen: Float64[Tensor, "value most"]
    held: PermutationTest
    best: PermutationTest
    judged: Int64[Tensor, " value"]


def interpretability(
    active: Bool[Tensor, "item feature"],
    labels: Bool[Tensor, "item value"],
    group: Int[Tensor, " item"],
    *,
    most: int = 8,
    draws: int = 199,
    generator: torch.Generator,
    halves: tuple[Tensor, Tensor] | None = None,
) -> Interpretability:
    """Choose features for each value on half of the groups, judge them on the other.

    Args:
        active: Which features are active at the place of each prompt.
        labels: Which values hold: one column for each value of one or several attributes.
        group: Which group each prompt is from; groups are of one size, and what stands at one
            place in the order of each is alike.
        most: Largest union.
        halves: Items to choose on and items to judge on, in whole groups; drawn unless given.

    Raises:
        BadInput: If groups differ in size.
        InsufficientData: If there are fewer than two groups, or too few draws for a p below .05.
    """
    choose, judge = halves or halves_of_groups(group, generator)
    ever = active.any(0)
    ever[0] = True  # one that is never active is in no union, and there must be one
    names = ever.nonzero()[:, 0]
    on = active[:, names]

    def unions(labels: Tensor) -> tuple[Unions, Tensor]:
        made = greedy_unions(on[choose], labels[choose], most)
        return made, union_f1(on[judge], labels[judge], made.members)

    def dealt(generator: torch.Generator) -> Tensor:
        return deal_to_groups(labels, group, generator)

    def held_out(generator: torch.Generator) -> Tensor:
        return unions(dealt(generator))[1]

    def best_of_all(generator: torch.Generator) -> Tensor:
        return feature_f1(on, dealt(generator)).amax(0)

    made, held = unions(labels)
    best = feature_f1(on, labels).amax(0)
    return Interpretability(
        members=torch.where(made.members == NONE, NONE, names[made.members]),
        chosen=made.f1,
        held=permutation_test(held, held_out, draws=draws, generator=generator),
        best=permutation_test(best, best_of_all, draws=draws, generator=generator),
        judged=labels[judge].sum(0),
    )


def halves_of_groups(
    group: Int[Tensor, " item"], generator: torch.Generator
) -> tuple[Bool[Tensor, " item"], Bool[Tensor, " item"]]:
    """Items of a random half of the groups, and the others.

    Raises:
        InsufficientData: If there are fewer than two groups.
    """
    groups, number = group.unique(return_inverse=True)
    first, second = (half.to(group.device) for half in split_units(len(groups), generator))
    return first[number], second[number]
