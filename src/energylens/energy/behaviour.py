"""What a model prefers at the end of a prompt, and what changing a feature does to it.

The state is moved along the feature's decoder row at a site, h ← h + (a′ − a)·d_f, so what the
dictionary fails to reconstruct is carried along; the rest of the network is run, and the product
with the vocabulary is made at the last position alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.activations.batch import Batch
from energylens.activations.subject import Subject
from energylens.activations.suffix import logits_at, starting_from
from energylens.core.ports import Progress, silence
from energylens.core.registry import measure
from energylens.sources.task import Item

NOTHING = -1  # fills up rows of `answers` and `foils` that are shorter than the longest


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """The items of a task as tensors.

    Attributes:
        last: The last real position of each prompt, whose logits are asked for.
        answers: Tokens that are right; -1 fills short rows up.
        foils: Tokens that are wrong; -1 fills short rows up.
        unit: Which unit each item is from.
    """

    batch: Batch
    last: Int[Tensor, " item"]
    answers: Int[Tensor, "item answer"]
    foils: Int[Tensor, "item foil"]
    unit: Int[Tensor, " item"]

    @classmethod
    def of(cls, items: Sequence[Item], *, device: torch.device | str = "cpu") -> "Prompts":
        """The items in the order given, padded on the right."""
        batch = Batch.padded([item.prompt for item in items])
        return cls(
            batch=batch.to(device),
            last=(batch.mask.sum(1) - 1).to(device),
            answers=_filled([item.answers for item in items]).to(device),
            foils=_filled([item.foils for item in items]).to(device),
            unit=torch.tensor([item.unit for item in items], device=device),
        )

    def take(self, rows: Int[Tensor, " row"]) -> "Prompts":
        """Some of the items."""
        return Prompts(batch=self.batch.take(rows), last=self.last[rows],
                       answers=self.answers[rows], foils=self.foils[rows],
                       unit=self.unit[rows])  # fmt: skip


def _filled(sets: Sequence[Sequence[int]]) -> Int[Tensor, "item choice"]:
    table = torch.full((len(sets), max(map(len, sets))), NOTHING)
    for row, tokens in enumerate(sets):
        table[row, : len(tokens)] = torch.tensor(tokens)
    return table


@measure(
    units="nats",
    axes=("item",),
    source="the logit difference of Wang et al. 2022, arXiv 2211.00593, for sets of tokens",
    null="the same logits asked another item's question; its change: that of matched features",
    formula="log Σ_answers p − log Σ_foils p, p the model's next-token distribution",
    unchanged_by=("a constant added to all logits of an item", "order of answers or of foils"),
)
def answer_preference(
    logits: Float[Tensor, "item vocab"],
    answers: Int[Tensor, "item answer"],
    foils: Int[Tensor, "item foil"],
) -> Float[Tensor, " item"]:
    """How much rather the model goes on with an answer than with a foil; 0 is indifference.

    With one answer and one foil it is the difference of their logits.

    Example:
        >>> logits = torch.tensor([[1.0, 3.0, 0.0]])
        >>> answer_preference(logits, torch.tensor([[1]]), torch.tensor([[0]])).item()
        2.0

    Args:
        answers: Tokens that are right; -1 fills short rows up.
        foils: Tokens that are wrong; -1 fills short rows up.
    """
    return _log_sum(logits, answers) - _log_sum(logits, foils)


def _log_sum(
    logits: Float[Tensor, "item vocab"], tokens: Int[Tensor, "item choice"]
) -> Float[Tensor, " item"]:
    chosen = logits.gather(1, tokens.clamp(min=0))
    return chosen.masked_fill(tokens == NOTHING, -torch.inf).logsumexp(1)


def exchanged_preferences(
    logits: Float[Tensor, "item vocab"], prompts: Prompts
) -> Float[Tensor, "item item"]:
    """Preference of each item's logits between the answers and foils of each item.

    The diagonal is the task itself. Elsewhere a row answers another item's question: what a model
    that does not read the prompt would prefer.
    """
    return torch.stack([
        answer_preference(row.expand(len(logits), -1), prompts.answers, prompts.foils)
        for row in logits
    ])  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Move:
    """One change of all items: states move by these amounts along one direction.

    Attributes:
        change: In units of activation: −a for an ablation; 0 where nothing is changed.
    """

    change: Float[Tensor, "item pos"]
    direction: Float[Tensor, " d_model"]


@torch.no_grad()
def preference_changes(
    subject: Subject,
    site: str,
    prompts: Prompts,
    states: Float[Tensor, "item pos d_model"],
    base: Float[Tensor, " item"],
    moves: Sequence[Move],
    *,
    rows: int = 64,
    progress: Progress = silence,
    label: str = "behaviour",
) -> Float[Tensor, "move item"]:
    """Change of each item's preference under each move at a site.

    Where a move changes nothing no pass is run, and the change is exactly 0.

    Args:
        states: The residual stream at the site, as the model computes it.
        base: Preference of each item in the unchanged model.
        rows: Prompts in one pass; all moves share the passes.

    Raises:
        BadInput: If the site is not a residual stream between blocks.
    """
    effects = base.new_zeros(len(moves), len(base))
    if not moves:
        return effects
    changes = torch.stack([move.change for move in moves])
    directions = torch.stack([move.direction for move in moves])
    pairs = (changes != 0).any(2).nonzero()
    with progress.task(label, len(pairs), "prompts") as advance:
        for move, item in (part.unbind(1) for part in pairs.split(rows)):
            here = prompts.take(item)
            moved = states[item] + changes[move, item, :, None] * directions[move, None]
            with starting_from(subject, site, moved):
                logits = logits_at(subject, here.batch, here.last)
            after = answer_preference(logits, here.answers, here.foils)
            effects[move, item] = after - base[item]
            advance(len(item))
    return effects
