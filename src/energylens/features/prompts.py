"""Prompts with attributes as tensors, and a model that is run with states put into them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from energylens.activations.batch import Batch
from energylens.activations.subject import Subject
from energylens.activations.suffix import blocks_below, logits_at, starting_from
from energylens.core.errors import BadInput
from energylens.sources.attributed import AttributedItems
from energylens.stats.exchange import Accuracy, accuracy_beyond_exchange

PROMPTS_AT_ONCE = 64

Run = Callable[[Tensor, Tensor], Tensor]
"""Logits [row vocab] at the end of some prompts, Int [row], with their states at the places that
the task names replaced, Float [row place d]."""


@dataclass(frozen=True, kw_only=True)
class AttributedPrompts:
    """The items of an attributed task.

    Attributes:
        answer: The token that is right.
        foil: One that is wrong.
        labels: Which values hold; the values of all attributes side by side.
        values: How many values each attribute has.
        group: Which group each prompt is from.
        group_size: Prompts of a group: the drawn one, and one for each attribute.
    """

    answer: Int64[Tensor, " item"]
    foil: Int64[Tensor, " item"]
    labels: Bool[Tensor, "item value"]
    values: tuple[int, ...]
    group: Int64[Tensor, " item"]

    @classmethod
    def of(
        cls, made: AttributedItems, *, device: torch.device | str = "cpu"
    ) -> "AttributedPrompts":
        """The items in the order given."""
        counts = tuple(len(attribute.values) for attribute in made.attributes)
        labels = torch.zeros(len(made.items), sum(counts), dtype=torch.bool)
        for row, item in enumerate(made.items):
            start = 0
            for count, value in zip(counts, item.values, strict=True):
                labels[row, start + value] = True
                start += count
        return cls(
            answer=torch.tensor([one.answer for one in made.items], device=device),
            foil=torch.tensor([one.foil for one in made.items], device=device),
            labels=labels.to(device), values=counts,
            group=torch.arange(len(made.items), device=device) // made.group_size,
        )  # fmt: skip

    @property
    def group_size(self) -> int:
        return 1 + len(self.values)

    def of_attribute(self, attribute: int) -> slice:
        """Columns of `labels` that are values of an attribute."""
        start = sum(self.values[:attribute])
        return slice(start, start + self.values[attribute])

    def pairs(self, attribute: int) -> tuple[Int64[Tensor, " pair"], Int64[Tensor, " pair"]]:
        """Prompts that differ in an attribute alone, both ways round: from, and to."""
        first = torch.arange(0, len(self.answer), self.group_size, device=self.answer.device)
        other = first + 1 + attribute
        return torch.cat([first, other]), torch.cat([other, first])


def states_and_run(
    subject: Subject, site: str, made: AttributedItems
) -> tuple[Float[Tensor, "item place d"], Run]:
    """States of a model at the places of prompts, and the model to be run with others there.

    What lies below the site is not computed again where the site is a residual stream; elsewhere
    whole passes are run.

    Raises:
        SiteNotAvailable: If the model has no lens, or no such site.
        BadInput: If the site has not one state a position.
    """
    subject.port(site)  # names one site, or says why not
    batch = Batch.padded([one.prompt for one in made.items]).to(subject.device)
    places = torch.tensor([one.places for one in made.items], device=subject.device)
    states = torch.cat([_captured(subject, site, part) for part in _parts(batch)])
    row = torch.arange(len(states), device=states.device)[:, None]

    @torch.no_grad()
    def run(rows: Tensor, changed: Tensor) -> Tensor:
        logits = []
        for some, new in zip(
            rows.split(PROMPTS_AT_ONCE), changed.split(PROMPTS_AT_ONCE), strict=True
        ):
            inner = torch.arange(len(some), device=some.device)[:, None]
            whole = states[some].index_put((inner, places[some]), new.to(states))
            here = batch.take(some)
            with _replaced(subject, site, whole):
                logits.append(logits_at(subject, here, here.mask.sum(1) - 1))
        return torch.cat(logits)

    return states[row, places], run


def _parts(batch: Batch) -> list[Batch]:
    rows = torch.arange(len(batch.ids), device=batch.ids.device)
    return [batch.take(some) for some in rows.split(PROMPTS_AT_ONCE)]


@torch.no_grad()
def _captured(subject: Subject, site: str, batch: Batch) -> Tensor:
    with subject.capture(site, stop=True) as seen:
        subject.run(batch)
    (states,) = seen.values()
    if states.ndim != 3:
        raise BadInput(
            f"states at {site!r} have shape {list(states.shape)}, not one vector a position: name a"
            " site that has"
        )
    return states


def _replaced(subject: Subject, site: str, states: Tensor) -> AbstractContextManager[None]:
    try:
        blocks_below(site)
    except BadInput:
        return subject.edit({site: lambda _: states})
    return starting_from(subject, site, states)


def answered(
    prompts: AttributedPrompts, logits: Float[Tensor, "item vocab"]
) -> tuple[Accuracy, Float[Tensor, " item"]]:
    """Whether a model can do the task, and its preference for the answer over the foil, nats.

    Chance is what its answers score when they are judged by the questions of other groups.

    Raises:
        InsufficientData: If there are fewer than two groups.
    """
    asked = logits[:, prompts.answer] - logits[:, prompts.foil]
    return accuracy_beyond_exchange(asked, prompts.group), asked.diagonal()
