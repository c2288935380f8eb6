"""The same passages in the tokens of any tokenizer: windows whose tokens know their place.

Tokenizers cut text differently, so models are compared over stretches of characters. Windows
overlap by two tokens, because the first and the last token of a window are not scored.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.sources.document import Document
from energylens.sources.text import Corpus
from energylens.sources.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class AlignedWindows:
    """Windows of equal length over passages.

    Attributes:
        passage: Index of each window's passage.
        segment: Stretch of the passage in which each token begins; −1 for a token that another
            window counts.
    """

    ids: Int[Tensor, "window pos"]
    passage: Int[Tensor, " window"]
    segment: Int[Tensor, "window pos"]


def choose_passages(
    corpus: Corpus,
    *,
    leave_out: Collection[str],
    count: int,
    characters: int,
    generator: torch.Generator,
) -> list[Document]:
    """Passages of equal length at random places, one a document, all kinds alike.

    Args:
        leave_out: Names of documents that may not be used.
        count: How many are wanted; fewer come back where there are fewer.
    """
    fit = [d for d in corpus.documents if len(d.text) >= characters and d.name not in leave_out]
    queues: dict[str, list[Document]] = {}
    for index in torch.randperm(len(fit), generator=generator).tolist():
        queues.setdefault(fit[index].kind, []).append(fit[index])
    turns = sorted((turn, kind) for kind, queue in queues.items() for turn in range(len(queue)))
    passages = []
    for turn, kind in turns[:count]:
        document = queues[kind][turn]
        places = len(document.text) - characters + 1
        start = int(torch.randint(places, (), generator=generator))
        text = document.text[start : start + characters]
        passages.append(Document(name=document.name, text=text, kind=kind))
    return passages


def read_aligned(
    passages: Sequence[Document], tokenizer: Tokenizer, context: int, *, segment: int
) -> dict[int, AlignedWindows]:
    """Windows of each passage, by its index; one of fewer than `context` tokens is left out.

    Args:
        segment: Characters of a stretch; a token belongs to the one it begins in.

    Raises:
        BadInput: If the tokenizer does not tell which characters a token stands for.
    """
    reader: Any = tokenizer
    if not getattr(reader, "is_fast", False):
        raise BadInput(
            f"the windows of a model cannot be aligned with another's: its tokenizer"
            f" ({type(reader).__name__}) does not tell which characters a token stands for; put a"
            " tokenizer.json beside its weights"
        )
    found = {}
    for index, passage in enumerate(passages):
        clean = passage.text.encode("utf-8", "replace").decode("utf-8")
        read = reader(clean, add_special_tokens=False, return_offsets_mapping=True)
        ids = torch.tensor(read["input_ids"], dtype=torch.long)
        if len(ids) >= context:
            begins = torch.tensor([begin for begin, _ in read["offset_mapping"]])
            found[index] = _windows(ids, begins // segment, context, index)
    return found


def _windows(ids: Tensor, segment: Tensor, context: int, index: int) -> AlignedWindows:
    last = len(ids) - context
    starts = [*range(0, last, context - 2), last]
    counted = torch.zeros(len(ids), dtype=torch.bool)
    rows, segments = [], []
    for start in starts:
        here = slice(start, start + context)
        rows.append(ids[here])
        segments.append(torch.where(counted[here], -1, segment[here]))
        counted[start + 1 : start + context - 1] = True
    return AlignedWindows(
        ids=torch.stack(rows), passage=torch.full((len(starts),), index),
        segment=torch.stack(segments),
    )  # fmt: skip
