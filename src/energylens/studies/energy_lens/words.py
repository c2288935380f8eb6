"""The windows of half B as people read them: printable tokens, and the class of each."""

from collections.abc import Sequence
from dataclasses import dataclass

from energylens.sources.token_classes import display_tokens, token_classes
from energylens.studies.energy_lens.material import Material
from energylens.studies.energy_lens.passes import Pass


@dataclass(frozen=True, kw_only=True)
class Words:
    """Tokens and token classes of every window of half B."""

    tokens: Sequence[Sequence[str]]
    classes: Sequence[Sequence[str]]


def words_of(material: Material, trained: Pass) -> Words:
    """Once for all sites, pages and basins."""
    tokenizer = material.subject.loaded.tokenizer
    assert tokenizer is not None
    tokens, classes = [], []
    for piece in trained.pieces[1::2]:
        for ids, document in zip(piece.ids.tolist(), piece.document.tolist(), strict=True):
            tokens.append(display_tokens(ids, tokenizer))
            kind = material.held_out.kinds[document]
            classes.append(token_classes(tokens[-1], kind=kind))
    return Words(tokens=tokens, classes=classes)
