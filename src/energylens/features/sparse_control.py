"""What a dictionary can do at the places of an attribute: stand in for the states, and edit them.

Two of the three axes of Makelov, Lange & Nanda 2024, arXiv:2405.08366 (the third is
`attributes.interpretability`), for any prompts whose attributes are known and any model. The
yardstick of an edit is patching: the states of the same prompt with one attribute changed. Whatever
is made from labels is made on one half of the groups, and everything is judged on the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.features.attributes import deal_to_groups, greedy_unions
from energylens.features.code import SparseCode
from energylens.features.dictionary import Dictionary
from energylens.features.edits import (
    Edit,
    differences,
    edit_weight,
    greedy_edit,
    labelled_edit,
    random_edit,
)
from energylens.features.supervised import (
    SupervisedDictionary,
    least_squares_dictionary,
    mean_dictionary,
)
from energylens.features.trials import Control, Trials, judged
from energylens.stats.interval import Interval

MOSTS = (1, 2, 4, 8)
ALL = 0
"""As `most`: every feature that differs, or no choice of features at all."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """How much of the model's preference is left with something else in place of its states.

    Attributes:
        method: What is in place.
        share: Of the preference that mean ablation costs: 1 for all, 0 for mean ablation itself;
            `loss_recovered` of minus the preference. Interval over groups.
        preference: Mean, nats.
    """

    method: str
    share: Interval
    preference: float


# ---- standing in


def approximations(
    trials: Trials,
    dictionaries: Sequence[tuple[str, Dictionary]],
    *,
    draws: int = 2000,
    generator: torch.Generator,
) -> list[Kept]:
    """The preference kept with reconstructions in place, by each dictionary and by labels alone."""
    rows = trials.judge.nonzero()[:, 0]
    clean, mean = trials.preference[rows], trials.states[trials.choose].mean(0)
    ablated = _preference(trials, rows, mean.expand(len(rows), -1, -1))
    made = [(name, _reconstructed(trials.states[rows], one)) for name, one in dictionaries]
    made += [
        (name, torch.stack([one.reconstruct(trials.prompts.labels[rows]) for one in places], 1))
        for name, places in supervised(trials, generator)
    ]
    found = [("nothing changed", clean), ("mean ablation", ablated)]
    found += [(name, _preference(trials, rows, states)) for name, states in made]
    return [
        Kept(
            method=name, preference=float(value.mean()) if trials.can else torch.nan,
            share=trials.ratio(
                rows, value - ablated, clean - ablated, draws=draws, generator=generator
            ),
        )
        for name, value in found
    ]  # fmt: skip


def _preference(trials: Trials, rows: Tensor, states: Tensor) -> Tensor:
    if not trials.can:
        return torch.full_like(trials.preference[rows], torch.nan)
    logits = trials.run(rows, states)
    ends = (trials.prompts.answer[rows], trials.prompts.foil[rows])
    right, wrong = (logits.gather(1, end[:, None])[:, 0] for end in ends)
    return right - wrong


def _reconstructed(states: Tensor, dictionary: Dictionary) -> Tensor:
    flat = states.flatten(0, 1).to(dictionary.W_enc)
    return dictionary.reconstruct(flat).view(states.shape).to(states)


def supervised(
    trials: Trials, generator: torch.Generator
) -> list[tuple[str, list[SupervisedDictionary]]]:
    """Dictionaries made from labels, one for each place: two ways, and with labels shuffled."""
    states, labels = trials.states[trials.choose], trials.prompts.labels[trials.choose]
    shuffled = deal_to_groups(labels, trials.prompts.group[trials.choose], generator)
    return [
        (name, [make(states[:, place], some) for place in range(states.shape[1])])
        for name, make, some in (
            ("supervised, means", mean_dictionary, labels),
            ("supervised, least squares", least_squares_dictionary, labels),
            ("supervised, shuffled labels", mean_dictionary, shuffled),
        )
    ]


# ---- editing


def supervised_control(
    trials: Trials, *, draws: int = 2000, generator: torch.Generator
) -> list[Control]:
    """Edits by dictionaries made from labels, and no edit at all."""
    found = []
    makers = supervised(trials, generator)
    for attribute in range(len(trials.prompts.values)):
        pairs = trials.pairs(attribute)
        source, target = pairs.source, pairs.target
        before, after = trials.prompts.labels[source], trials.prompts.labels[target]
        moves = [("no edit", torch.zeros_like(trials.states[source]))]
        moves += [
            (name, torch.stack([one.edit(before, after) for one in places], dim=1))
            for name, places in makers
        ]
        found += [
            judged(trials, attribute, move, method=name, draws=draws, generator=generator)
            for name, move in moves
        ]
    return found


def dictionary_control(
    trials: Trials,
    dictionary: Dictionary,
    *,
    mosts: Sequence[int] = MOSTS,
    draws: int = 2000,
    generator: torch.Generator,
) -> list[Control]:
    """Edits of every attribute by a few features, chosen in four ways; and by all that differ.

    `greedy` leaves least to do towards the states that patching would put in place; `random
    features` are as many of the same; `by labels` takes away features that stand for the old value
    on the choosing half, and adds those that stand for the new one; `by shuffled labels` the same
    after labels were dealt out to groups.

    Raises:
        BadInput: If the dictionary does not read and write rows as wide as the states.
    """
    width = trials.states.shape[2]
    if (dictionary.d_in, dictionary.d_out) != (width, width):
        raise BadInput(
            f"states of width {width} are edited by a dictionary that reads and writes them, found"
            f" one from {dictionary.d_in} to {dictionary.d_out}: give an autoencoder of the site"
        )
    flat = trials.states.flatten(0, 1).to(dictionary.W_enc)
    code = dictionary.encode(flat)
    most = max(mosts)
    true = trials.prompts.labels
    dealt = deal_to_groups(true, trials.prompts.group, generator)
    named = [
        (name, _members(trials, code, labels, max(1, most // 2)))
        for name, labels in (("by labels", true), ("by shuffled labels", dealt))
    ]
    found = []
    for attribute in range(len(trials.prompts.values)):
        pairs = trials.pairs(attribute)
        rows, others = (_rows_of(trials, end) for end in (pairs.source, pairs.target))
        mine = _of_rows(code, rows)
        change = differences(mine, _of_rows(code, others))
        edits = [
            ("greedy", greedy_edit(change, flat[others] - flat[rows], dictionary.W_dec, most)),
            ("random features", random_edit(change, most, generator)),
        ]
        edits += [(name, _by_labels(trials, attribute, code, members)) for name, members in named]
        steps = [(name, some, edit.first(some)) for name, edit in edits for some in mosts]
        for name, some, edit in [*steps, ("all features", ALL, change)]:
            move = edit.move(dictionary.W_dec).view(-1, *trials.states.shape[1:])
            found.append(judged(
                trials, attribute, move, method=name, most=some,
                weight=float(edit_weight(mine, edit, dictionary.W_dec).nanmean()),
                changed=float(edit.count().double().mean()), draws=draws, generator=generator,
            ))  # fmt: skip
    return found


def _by_labels(
    trials: Trials,
    attribute: int,
    code: SparseCode,
    members: Int64[Tensor, "value place most"],
) -> Edit:
    pairs, columns = trials.pairs(attribute), trials.prompts.of_attribute(attribute)
    value = trials.prompts.labels[:, columns].long().argmax(1) + columns.start
    off, on = (members[value[end]].flatten(0, 1) for end in (pairs.source, pairs.target))
    strength = _strength(code, trials.choose.repeat_interleave(trials.states.shape[1]))
    return labelled_edit(_of_rows(code, _rows_of(trials, pairs.source)), off, on, strength)


def _rows_of(trials: Trials, items: Tensor) -> Tensor:
    """Rows of items where the places of an item are rows one after another."""
    places = trials.states.shape[1]
    return (items[:, None] * places + torch.arange(places, device=items.device)).flatten()


def _of_rows(code: SparseCode, rows: Tensor) -> SparseCode:
    return SparseCode(indices=code.indices[rows], values=code.values[rows], width=code.width)


def _strength(code: SparseCode, chosen: Tensor) -> Float[Tensor, " feature"]:
    """Mean activation of each feature over the chosen rows where it is active; 0 if it never is."""
    some = code.of_rows(chosen)
    total = torch.zeros(code.width, dtype=some.values.dtype, device=some.values.device)
    total = total.index_add(0, some.indices.flatten(), some.values.flatten())
    return total / some.column_counts().clamp(min=1)


def _members(
    trials: Trials, code: SparseCode, labels: Bool[Tensor, "item value"], most: int
) -> Int64[Tensor, "value place most"]:
    """Features that stand for each value at each place, by F1 on the choosing half."""
    places = trials.states.shape[1]
    found = []
    for place in range(places):
        here = _of_rows(code, trials.choose.nonzero()[:, 0] * places + place)
        ever = here.column_counts().nonzero()[:, 0]
        if not len(ever):
            found.append(torch.full((labels.shape[1], most), -1, device=labels.device))
            continue
        members = greedy_unions(here.columns(ever) > 0, labels[trials.choose], most).members
        found.append(torch.where(members < 0, members, ever[members]))
    return torch.stack(found, dim=1)
