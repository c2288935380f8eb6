import pytest
import torch

from energylens.core.errors import BadInput
from energylens.sources.aligned import choose_passages, read_aligned
from energylens.sources.document import Document
from energylens.sources.text import Corpus
from tests.sources.conftest import small_tokenizer


def corpus(count: int = 12) -> Corpus:
    documents = tuple(
        Document(name=f"d{i}", text=f"{i:03d} abcdefgh " * 30, kind="ab"[i % 2])
        for i in range(count)
    )
    return Corpus(documents=documents, name="made", sha256="0")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("characters", "context"), [(101, 16), (64, 16), (16, 16), (30, 29)])
def test_every_scored_token_is_counted_once_and_knows_its_place(characters, context):
    passage = Document(name="x", text=("0123456789" * 20)[:characters], kind="text")
    found = read_aligned([passage], small_tokenizer(300), context, segment=10)[0]
    assert found.ids.shape[1] == context
    scored = found.segment[:, 1:-1]
    counts = torch.bincount(scored[scored >= 0], minlength=-(-characters // 10))
    wanted = torch.bincount(torch.arange(1, characters - 1) // 10,
                            minlength=-(-characters // 10))  # fmt: skip
    assert torch.equal(counts, wanted)  # one token a character; the ends have no window inside


def test_a_passage_too_short_for_a_window_is_left_out():
    passages = [Document(name="x", text="a" * n, kind="text") for n in (8, 40)]
    assert set(read_aligned(passages, small_tokenizer(300), 16, segment=4)) == {1}


def test_passages_are_one_a_document_all_kinds_alike_and_none_is_left_out_by_mistake():
    found = choose_passages(corpus(), leave_out={"d0", "d2"}, count=6, characters=50,
                            generator=generator())  # fmt: skip
    assert len({p.name for p in found}) == 6 and not {"d0", "d2"} & {p.name for p in found}
    assert sorted(p.kind for p in found) == list("aaabbb")
    texts = {d.name: d.text for d in corpus().documents}
    assert all(len(p.text) == 50 and p.text in texts[p.name] for p in found)


def test_a_tokenizer_that_cannot_tell_places_is_refused():
    class Slow:
        def encode(self, text, *, add_special_tokens=True): ...
        def decode(self, token_ids): ...
        def convert_ids_to_tokens(self, ids): ...

    with pytest.raises(BadInput, match="Slow.* does not tell which characters"):
        read_aligned([], Slow(), 16, segment=4)
