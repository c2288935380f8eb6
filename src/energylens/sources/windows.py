"""Token windows of equal length, each from one document."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from jaxtyping import Int
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData
from energylens.results.show import Row, Shown, ShowsItself
from energylens.sources.document import Document
from energylens.sources.text import Corpus
from energylens.sources.tokenizer import Tokenizer

# Characters read of a document for each token that its windows need: some fifteen times as many
# tokens to choose from, and no megabyte of text is tokenised for one window.
CHARACTERS_TO_CHOOSE_FROM = 64
# Characters read for each token of a block; English and code have four or five.
CHARACTERS_PER_TOKEN = 8
# Fewer documents than this cannot be told apart from one another's quirks: they are cut in blocks.
FEWEST_DOCUMENTS = 10
WINDOWS_PER_BLOCK = 8


@dataclass(frozen=True, kw_only=True, repr=False)
class TokenWindows(ShowsItself):
    """Windows of tokens, and which statistical unit each is from.

    Attributes:
        ids: Token ids.
        document: Index of each window's document.
        starts: Where each window starts in its document, in tokens.
        document_names: Names, by that index.
        kinds: Kinds of text, by that index.
        unit: What a document is here: `document`, or `contiguous block of N tokens` where the text
            had too few.
        too_short: Documents looked at that were shorter than a window, and left out.
    """

    ids: Int[Tensor, "window pos"]
    document: Int[Tensor, " window"]
    starts: Int[Tensor, " window"]
    document_names: tuple[str, ...]
    kinds: tuple[str, ...]
    unit: str = "document"
    too_short: int = 0

    def shown(self) -> Shown:
        windows, width = self.ids.shape
        return Shown(
            caption=f"{windows:,} windows of {width} tokens from {len(self.document_names):,}"
            f" units (unit: {self.unit})",
            rows=[Row(label=kind, value=f"{count:,}")
                  for kind, count in Counter(self.kinds).most_common()],
            notes=[f"{self.too_short:,} shorter than a window left out."] if self.too_short else [],
        )  # fmt: skip

    def of_documents(self, keep: Sequence[int]) -> "TokenWindows":
        """The windows of some documents, which are numbered anew in the order given."""
        number = torch.full((len(self.document_names),), -1)
        number[list(keep)] = torch.arange(len(keep))
        renumbered = number[self.document]
        rows = (renumbered >= 0).nonzero().squeeze(1)
        return replace(
            self, ids=self.ids[rows], document=renumbered[rows], starts=self.starts[rows],
            document_names=tuple(self.document_names[i] for i in keep),
            kinds=tuple(self.kinds[i] for i in keep),
        )  # fmt: skip

    def first(self, count: int) -> "TokenWindows":
        """The first windows only."""
        return replace(
            self, ids=self.ids[:count], document=self.document[:count], starts=self.starts[:count]
        )

    def split(
        self, share: float, generator: torch.Generator
    ) -> tuple["TokenWindows", "TokenWindows"]:
        """Divide the documents at random, the same share of every kind.

        Args:
            share: Part of the documents that goes to the first.

        Raises:
            BadInput: If the share is not between 0 and 1.
            InsufficientData: If one side would have no document.
        """
        if not 0 < share < 1:
            raise BadInput(f"a share of {share} was asked for: it must lie between 0 and 1")
        first: list[int] = []
        order = torch.randperm(len(self.kinds), generator=generator).tolist()
        debt = 0.0  # what rounding has withheld so far, so that the shares add up over the kinds
        for kind in sorted(set(self.kinds)):
            of_kind = [index for index in order if self.kinds[index] == kind]
            wanted = share * len(of_kind) + debt
            debt = wanted - round(wanted)
            first += of_kind[: round(wanted)]
        second = set(order) - set(first)
        if not first or not second:
            raise InsufficientData(
                f"{len(self.kinds)} documents cannot be split {share:g} to {1 - share:g}: give more"
            )
        return self.of_documents(sorted(first)), self.of_documents(sorted(second))


@dataclass(frozen=True, kw_only=True)
class _Tokens:
    """Tokens of one unit, from which windows are cut."""

    name: str
    kind: str
    ids: Sequence[int]
    offset: int = 0


def tokenise(
    corpus: Corpus,
    tokenizer: Tokenizer,
    context: int,
    *,
    documents: int,
    per_document: int = 1,
    generator: torch.Generator,
    prepend_bos: bool = False,
) -> TokenWindows:
    """Cut windows at random places from documents chosen at random, all kinds alike.

    Only documents that are chosen are tokenised, and of each only its first
    `CHARACTERS_TO_CHOOSE_FROM` characters per token needed. Documents shorter than a window are
    left out and counted. A text of fewer than ten documents is cut into contiguous blocks of
    `WINDOWS_PER_BLOCK` windows each, and these are the units.

    Args:
        context: Tokens of a window, the one that `prepend_bos` adds included.
        documents: How many are wanted; the result has fewer where the corpus has fewer.
        per_document: Windows from each, which do not overlap; a short document gives fewer.
        generator: Chooses the documents and the windows; lives on the CPU.
        prepend_bos: Put the tokenizer's start-of-text token before every window.

    Raises:
        BadInput: If a number asked for is not positive, or the tokenizer has no token that starts
            a text.
        InsufficientData: If all documents are shorter than a window.
    """
    bos, body = _body(tokenizer, context, prepend_bos)
    if documents < 1 or per_document < 1:
        raise BadInput(
            f"{documents} documents of {per_document} windows were asked for: there is at least"
            " one of each"
        )
    if len(corpus.documents) < FEWEST_DOCUMENTS:
        size = max(WINDOWS_PER_BLOCK, per_document) * body
        source = _blocks(corpus, tokenizer, size, documents, generator)
        unit = f"contiguous block of {size} tokens"
    else:
        source = _documents(corpus, tokenizer, body, body * per_document, generator)
        unit = "document"
    chosen: list[_Tokens] = []
    lengths: list[int] = []
    for tokens in source:
        if len(tokens.ids) < body:
            lengths.append(len(tokens.ids))
            continue
        chosen.append(tokens)
        if len(chosen) == documents:
            break
    if not chosen:
        _refuse_short(body, len(lengths), max(lengths, default=0))
    windows = _cut(chosen, body, per_document, generator, bos)
    return replace(windows, unit=unit, too_short=len(lengths))


def stream_windows(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    context: int,
    *,
    per_document: int | None = None,
    generator: torch.Generator | None = None,
    prepend_bos: bool = False,
) -> Iterator[TokenWindows]:
    """The windows of one document after the other; one document is in memory at a time.

    Each item holds the windows of one document; its `too_short` counts the documents passed over
    since the item before. Documents are taken in the order given and are the units, however few:
    text to train on needs no draw.

    Args:
        documents: Read as they are needed, as `stream_text` gives them.
        context: Tokens of a window, the one that `prepend_bos` adds included.
        per_document: Windows from each at most; None: as many as fit.
        generator: Chooses where windows lie; without, each begins where the one before ends. With
            documents in the order in which `tokenise` drew them and its generator as it was after
            that draw, the windows are those of `tokenise`.
        prepend_bos: Put the tokenizer's start-of-text token before every window.

    Raises:
        BadInput: At once if a number asked for is not positive, or the tokenizer has no token that
            starts a text.
        InsufficientData: At the end, if all documents were shorter than a window.
    """
    bos, body = _body(tokenizer, context, prepend_bos)
    if per_document is not None and per_document < 1:
        raise BadInput(f"{per_document} windows of each document were asked for: at least one is")
    return _stream(documents, tokenizer, body, per_document, generator, bos)


def _stream(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    body: int,
    per_document: int | None,
    generator: torch.Generator | None,
    bos: int | None,
) -> Iterator[TokenWindows]:
    found, passed, longest = False, 0, 0
    read = None if per_document is None else CHARACTERS_TO_CHOOSE_FROM * body * per_document
    for document in documents:
        ids = _encode(tokenizer, document.text[:read])
        if len(ids) < body:
            passed, longest = passed + 1, max(longest, len(ids))
            continue
        tokens = _Tokens(name=document.name, kind=document.kind, ids=ids)
        windows = _cut([tokens], body, per_document, generator, bos)
        yield replace(windows, too_short=passed)
        found, passed = True, 0
    if not found:
        _refuse_short(body, passed, longest)


def _body(tokenizer: Tokenizer, context: int, prepend_bos: bool) -> tuple[int | None, int]:
    """The token that starts a window, if any, and how many tokens of text follow."""
    bos = getattr(tokenizer, "bos_token_id", None) if prepend_bos else None
    if prepend_bos and bos is None:
        raise BadInput("a start-of-text token was asked for and the tokenizer has none: leave it")
    body = context - (bos is not None)
    if body < 2:
        raise BadInput(
            f"windows of {context} tokens were asked for: a window has at least 2 tokens of text"
        )
    return bos, body


def _refuse_short(body: int, count: int, longest: int) -> NoReturn:
    raise InsufficientData(
        f"a text shorter than the context cannot be used: windows of {body} tokens were asked"
        f" for and the longest of {count} documents has {longest}: give more text or a smaller"
        " context"
    )


def _cut(
    chosen: Sequence[_Tokens],
    body: int,
    per_document: int | None,
    generator: torch.Generator | None,
    bos: int | None,
) -> TokenWindows:
    rows: list[list[int]] = []
    document: list[int] = []
    starts: list[int] = []
    head = [] if bos is None else [bos]
    for index, tokens in enumerate(chosen):
        for start in _starts(len(tokens.ids), body, per_document, generator):
            rows.append([*head, *tokens.ids[start : start + body]])
            document.append(index)
            starts.append(tokens.offset + start)
    return TokenWindows(
        ids=torch.tensor(rows), document=torch.tensor(document), starts=torch.tensor(starts),
        document_names=tuple(tokens.name for tokens in chosen),
        kinds=tuple(tokens.kind for tokens in chosen),
    )  # fmt: skip


def _starts(
    length: int, body: int, most: int | None, generator: torch.Generator | None
) -> list[int]:
    """Starts of windows that do not overlap, every such arrangement equally likely.

    With k windows of n tokens in L, the gaps are those of k sorted places among L − kn. Without a
    generator there are no gaps.
    """
    count = length // body if most is None else min(most, length // body)
    if generator is None:
        return [index * body for index in range(count)]
    places = torch.randperm(length - count * body + count, generator=generator)[:count].sort()
    return [int(place) + index * (body - 1) for index, place in enumerate(places.values)]


def _documents(
    corpus: Corpus, tokenizer: Tokenizer, shortest: int, wanted: int, generator: torch.Generator
) -> Iterator[_Tokens]:
    """Documents in random order, one of each kind in turn, until a kind runs out.

    A kind whose document is too short gives another in the same turn: else kinds of short
    documents would be fewer.
    """
    order = torch.randperm(len(corpus.documents), generator=generator).tolist()
    by_kind: dict[str, list[Document]] = {}
    for index in order:
        document = corpus.documents[index]
        by_kind.setdefault(document.kind, []).append(document)
    queues = [iter(by_kind[kind]) for kind in sorted(by_kind)]
    for _ in range(max(map(len, by_kind.values()))):
        for queue in queues:
            for document in queue:
                ids = _encode(tokenizer, document.text[: CHARACTERS_TO_CHOOSE_FROM * wanted])
                yield _Tokens(name=document.name, kind=document.kind, ids=ids)
                if len(ids) >= shortest:
                    break


def _blocks(
    corpus: Corpus, tokenizer: Tokenizer, size: int, wanted: int, generator: torch.Generator
) -> Iterator[_Tokens]:
    """Blocks of at least `size` tokens in random order; what is left over joins the last one."""
    share = -(-wanted // len(corpus.documents))
    found: list[_Tokens] = []
    for document in corpus.documents:
        text = document.text[: CHARACTERS_PER_TOKEN * size * share]
        ids = _encode(tokenizer, text)
        count = max(1, len(ids) // size)
        for block in range(count):
            first, last = block * size, len(ids) if block == count - 1 else (block + 1) * size
            name = f"{document.name} tokens {first}–{max(first, last - 1)}"
            found.append(_Tokens(name=name, kind=document.kind, ids=ids[first:last], offset=first))
    for index in torch.randperm(len(found), generator=generator).tolist():
        yield found[index]


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    # A lone surrogate is no text to a tokenizer.
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return tokenizer.encode(clean, add_special_tokens=False)
