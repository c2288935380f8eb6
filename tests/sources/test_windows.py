from collections import Counter

import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.sources.document import Document
from energylens.sources.text import Corpus
from energylens.sources.windows import _starts, stream_windows, tokenise
from tests.common.compare import assert_close


class Characters:
    """One token a character; counts how many it was given."""

    bos_token_id = 0

    def __init__(self):
        self.given = 0

    def encode(self, text, *, add_special_tokens=True):
        self.given += len(text)
        return [ord(character) for character in text]

    def decode(self, token_ids):
        return "".join(map(chr, token_ids))

    def convert_ids_to_tokens(self, ids):
        return [chr(i) for i in ids]


def corpus(lengths, kinds=None):
    """Documents in which each character tells its document and place: no two are alike."""
    texts, first = [], 0x4E00
    for length in lengths:
        texts.append("".join(chr(first + i) for i in range(length)))
        first += length
    kinds = kinds or ["text"] * len(lengths)
    documents = tuple(
        Document(name=f"d{i}", text=text, kind=kind)
        for i, (text, kind) in enumerate(zip(texts, kinds, strict=True))
    )
    return Corpus(documents=documents, name="made up", sha256="")


def windows(lengths, generator, *, context=8, documents=100, kinds=None, **options):
    made = corpus(lengths, kinds)
    found = tokenise(
        made, Characters(), context, documents=documents, generator=generator, **options
    )
    return made, found


def assert_windows_are_in_their_documents(made, found, body):
    texts = {document.name: document.text for document in made.documents}
    for ids, index, start in zip(found.ids, found.document, found.starts, strict=True):
        text = texts[found.document_names[int(index)].split(" ")[0]]
        assert Characters().decode(ids.tolist()[-body:]) == text[start : start + body]


def test_windows_are_contiguous_and_do_not_overlap(generator):
    made, found = windows([50] * 12, generator, per_document=4)
    assert found.ids.shape == (48, 8) and found.unit == "document"
    assert_windows_are_in_their_documents(made, found, 8)
    assert len(found.ids.unique()) == found.ids.numel()
    assert Counter(found.document.tolist()) == dict.fromkeys(range(12), 4)


def test_starts_are_uniform_over_all_arrangements(generator):
    # Two windows of 2 in 6 tokens: the 6 arrangements of C(6 − 2·2 + 2, 2).
    draws = Counter(tuple(_starts(6, 2, 2, generator)) for _ in range(6000))
    assert set(draws) == {(0, 2), (0, 3), (0, 4), (1, 3), (1, 4), (2, 4)}
    counts = torch.tensor(list(draws.values())).double()
    chi_squared = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_squared < 20.5  # .999 of 5 degrees of freedom


def test_a_document_of_one_window_gives_that_one(generator):
    made, found = windows([8] * 10, generator, per_document=3)
    assert_close(found.starts, torch.zeros(10, dtype=torch.long))
    assert_windows_are_in_their_documents(made, found, 8)


def test_short_documents_are_left_out_and_counted(generator):
    _, found = windows([7] * 5 + [8, 30] * 6, generator)
    assert len(found.document_names) == 12 and found.too_short == 5
    assert not {f"d{i}" for i in range(5)} & set(found.document_names)


def test_all_too_short_names_the_lengths(generator):
    with pytest.raises(InsufficientData, match=r"windows of 8 tokens .* longest of 11 .* has 7"):
        windows([3, 7] + [2] * 9, generator)
    with pytest.raises(InsufficientData, match="text shorter than the context"):
        windows([0], generator)


def test_kinds_take_turns_until_one_runs_out(generator):
    kinds = ["a"] * 40 + ["b"] * 40 + ["c"] * 5
    _, found = windows([9] * 85, generator, kinds=kinds, documents=30)
    assert Counter(found.kinds) == {"a": 13, "b": 12, "c": 5}


def test_a_kind_of_many_short_documents_has_as_many_as_the_others(generator):
    kinds = ["a"] * 40 + ["b"] * 40
    lengths = [9] * 40 + [3, 3, 3, 9] * 10
    _, found = windows(lengths, generator, kinds=kinds, documents=20)
    assert Counter(found.kinds) == {"a": 10, "b": 10}
    assert found.too_short > 10


def test_only_what_is_needed_is_tokenised(generator):
    made = corpus([2000] * 10)
    tokenizer = Characters()
    found = tokenise(made, tokenizer, 8, documents=3, generator=generator)
    assert len(found.document_names) == 3
    assert tokenizer.given == 3 * 8 * 64
    assert found.starts.max() > 8, "windows come from more than the beginning"


def test_the_same_seed_gives_the_same_windows():
    def drawn(seed):
        return windows([90] * 20, torch.Generator().manual_seed(seed), documents=7)[1]

    assert torch.equal(drawn(1).ids, drawn(1).ids)
    assert drawn(1).document_names == drawn(1).document_names
    assert not torch.equal(drawn(1).ids, drawn(2).ids)


def test_a_start_token_takes_a_place(generator):
    made, found = windows([50] * 10, generator, prepend_bos=True)
    assert found.ids.shape[1] == 8 and set(found.ids[:, 0].tolist()) == {0}
    assert_windows_are_in_their_documents(made, found, 7)


def test_a_start_token_that_is_not_there_is_refused(generator, monkeypatch):
    monkeypatch.setattr(Characters, "bos_token_id", None)
    with pytest.raises(BadInput, match="the tokenizer has none"):
        windows([50] * 10, generator, prepend_bos=True)


def test_few_documents_are_cut_into_blocks(generator):
    made, found = windows([8 * 8 * 5 + 3, 30, 5], generator)
    assert found.unit == "contiguous block of 64 tokens"
    assert len(found.document_names) == 6 and found.too_short == 1
    assert sorted(found.document_names)[4:] == ["d0 tokens 64–127", "d1 tokens 0–29"]
    assert "d0 tokens 256–322" in found.document_names, "what is left over joins the last block"
    assert_windows_are_in_their_documents(made, found, 8)
    for index, start in zip(found.document, found.starts, strict=True):
        first, last = found.document_names[int(index)].split(" ")[2].split("–")
        assert int(first) <= start and start + 7 <= int(last)


def test_blocks_hold_all_windows_asked_of_them(generator):
    _, found = windows([2000], generator, per_document=20)
    assert found.unit == "contiguous block of 160 tokens"
    assert Counter(found.document.tolist()) == dict.fromkeys(range(12), 20)


def test_split_keeps_documents_whole_and_kinds_in_proportion(generator):
    kinds = ["a"] * 30 + ["b"] * 10
    _, found = windows([40] * 40, generator, kinds=kinds, per_document=2)
    first, second = found.split(0.7, generator)
    assert Counter(first.kinds) == {"a": 21, "b": 7}
    assert not set(first.document_names) & set(second.document_names)
    assert len(first.ids) == 56 and len(second.ids) == 24
    whole = {tuple(row): found.document_names[int(i)] for row, i in
             zip(found.ids.tolist(), found.document, strict=True)}  # fmt: skip
    for side in (first, second):
        assert set(side.document.tolist()) == set(range(len(side.document_names)))
        for row, index in zip(side.ids.tolist(), side.document, strict=True):
            assert whole[tuple(row)] == side.document_names[int(index)]
    assert first.unit == found.unit


def test_split_shares_add_up_over_small_kinds(generator):
    kinds = [f"k{i}" for i in range(20)]
    _, found = windows([40] * 20, generator, kinds=kinds)
    first, second = found.split(0.5, generator)
    assert (len(first.kinds), len(second.kinds)) == (10, 10)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_split_refuses_shares_that_are_none(generator, share):
    with pytest.raises(BadInput, match="must lie between 0 and 1"):
        windows([40] * 12, generator)[1].split(share, generator)


def test_split_refuses_an_empty_side(generator):
    with pytest.raises(InsufficientData, match="cannot be split"):
        windows([40] * 12, generator)[1].split(0.01, generator)


@pytest.mark.parametrize("wrong", [{"context": 1}, {"documents": 0}, {"per_document": 0}])
def test_numbers_that_are_not_positive_are_refused(generator, wrong):
    with pytest.raises(BadInput, match="were asked for"):
        windows([40] * 12, generator, **wrong)


def test_lone_surrogates_do_not_stop_a_tokenizer(generator):
    from tests.sources.conftest import small_tokenizer

    made = Corpus(
        documents=tuple(Document(name=f"{i}", text="ab\ud800c" * 9, kind="x") for i in range(10)),
        name="", sha256="",
    )  # fmt: skip
    found = tokenise(made, small_tokenizer(), 8, documents=10, generator=generator)
    assert found.ids.shape == (10, 8)


# ---- one document at a time


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("per_document", [1, 3])
def test_a_stream_gives_the_windows_of_the_corpus(per_document, bos):
    """Given its documents in the order of the draw, and the generator as the draw left it."""
    lengths = [50, 7, 8, 30, 9, 3, 41, 17, 8, 100, 64, 12]
    generator = torch.Generator().manual_seed(4)
    made, found = windows(
        lengths, generator, per_document=per_document, prepend_bos=bos, documents=12
    )
    generator = torch.Generator().manual_seed(4)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    streamed = list(
        stream_windows(
            (made.documents[index] for index in order), Characters(), 8,
            per_document=per_document, generator=generator, prepend_bos=bos,
        )
    )  # fmt: skip
    assert torch.equal(torch.cat([some.ids for some in streamed]), found.ids)
    assert torch.equal(torch.cat([some.starts for some in streamed]), found.starts)
    names = tuple(name for some in streamed for name in some.document_names)
    assert names == found.document_names
    assert sum(some.too_short for some in streamed) <= found.too_short


def test_a_stream_without_draw_cuts_every_document_from_its_start():
    made = corpus([50, 7, 8, 30])
    streamed = list(stream_windows(made.documents, Characters(), 8))
    for some, document in zip(streamed, [made.documents[i] for i in (0, 2, 3)], strict=True):
        assert some.document_names == (document.name,) and not some.document.any()
        texts = [Characters().decode(ids.tolist()) for ids in some.ids]
        count = len(document.text) // 8
        assert texts == [document.text[8 * i : 8 * i + 8] for i in range(count)]
        assert some.starts.tolist() == [8 * i for i in range(count)]
    assert [some.too_short for some in streamed] == [0, 1, 0]


def test_a_stream_reads_a_document_when_it_is_its_turn():
    read = []

    def documents():
        for document in corpus([20] * 5).documents:
            read.append(document.name)
            yield document

    stream = stream_windows(documents(), Characters(), 8)
    assert read == []
    next(stream), next(stream)
    assert read == ["d0", "d1"]


def test_a_stream_of_short_documents_is_refused_at_its_end(generator):
    with pytest.raises(InsufficientData, match=r"windows of 8 tokens .* longest of 3 .* has 7"):
        list(stream_windows(corpus([3, 7, 2]).documents, Characters(), 8))
    for asked in ({"context": 1}, {"context": 8, "per_document": 0}):
        with pytest.raises(BadInput, match=r"at least"):
            stream_windows(corpus([30]).documents, Characters(), generator=generator, **asked)


def test_a_stream_tokenises_only_what_it_chooses_from():
    made, tokenizer = corpus([2000] * 3), Characters()
    assert len(list(stream_windows(made.documents, tokenizer, 8, per_document=2))) == 3
    assert tokenizer.given == 3 * 2 * 8 * 64
    assert sum(len(some.ids) for some in stream_windows(made.documents, tokenizer, 8)) == 750
