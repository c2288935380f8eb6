"""Tokens of the held-out documents with what can be read off them: class, first letter, kind."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from energylens.activations.stream import collect_rows
from energylens.features.ordinary import Ordinary
from energylens.sources.token_classes import display_tokens, first_letter, token_classes
from energylens.studies.energy_lens.dictionaries import seed_of
from energylens.studies.evaluate_dictionary.benches import Place


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """What each token is labelled with, as numbers of `names`; −1 where it has no label."""

    names: Sequence[str]
    of: Int64[Tensor, " sample"]

    @classmethod
    def made(cls, values: Sequence[str], device: torch.device) -> "Labels":
        """Labels by their names; an empty one is none."""
        names = sorted(set(values) - {""})
        number = {name: i for i, name in enumerate(names)} | {"": -1}
        return cls(names=names, of=torch.tensor([number[v] for v in values], device=device))

    def take(self, rows: Int64[Tensor, " row"]) -> "Labels":
        """Of some of the tokens."""
        return Labels(names=self.names, of=self.of[rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class Words:
    """Ordinary tokens of the held-out documents, and their states at the site.

    Attributes:
        token: Its id.
        document: Which of the held-out documents it is from.
    """

    rows: Float[Tensor, "sample d"]
    token: Int64[Tensor, " sample"]
    document: Int64[Tensor, " sample"]
    token_class: Labels
    letter: Labels
    kind: Labels


def read_words(place: Place, ordinary: Ordinary, most: int) -> Words:
    """States and labels of at most so many tokens, drawn from all scored positions."""
    read, seat = place.read, place.seat
    windows, tokenizer = read.held_out, read.subject.loaded.tokenizer
    assert tokenizer is not None
    rows = seat.read(collect_rows(
        read.subject, windows.ids, windows.document, list(seat.reads),
        budget_mb=place.options.memory_mb, progress=place.progress, label="states at words",
    ))  # fmt: skip
    classes, letters, kinds = [], [], []
    for ids, document in zip(windows.ids, windows.document.tolist(), strict=True):
        shown, kind = display_tokens(ids.tolist(), tokenizer), windows.kinds[document]
        classes += token_classes(shown, kind=kind)[1:-1]  # scored positions, as the rows are
        letters += [first_letter(token) for token in shown[1:-1]]
        kinds += [kind] * (len(shown) - 2)
    keep = ordinary.holds(rows).nonzero()[:, 0]
    generator = torch.Generator().manual_seed(seed_of(place.options.seed, "words", seat.site))
    if len(keep) > most:
        chosen = torch.randperm(len(keep), generator=generator)[:most].sort().values
        keep = keep[chosen.to(keep.device)]
    each = windows.ids.shape[1] - 2
    token, document = windows.ids[:, 1:-1].flatten(), windows.document.repeat_interleave(each)
    return Words(
        rows=rows[keep], token=token.to(rows.device)[keep],
        document=document.to(rows.device)[keep],
        token_class=Labels.made(classes, rows.device).take(keep),
        letter=Labels.made(letters, rows.device).take(keep),
        kind=Labels.made(kinds, rows.device).take(keep),
    )  # fmt: skip
