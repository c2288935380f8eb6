import json
import random

import pytest

from energylens.sources.tokenizer import Tokenizer, character_pair_tokenizer


@pytest.fixture
def vocabulary(tmp_path):
    path = tmp_path / "tokenizer.json"
    merges = [["▁", "a"], ["b", "c"], ["▁a", "bc"]]
    path.write_text(json.dumps({"alphabet": ["\n", "a", "b", "c", "▁", "é"], "merges": merges}))
    return path


def test_ids_by_hand(vocabulary):
    tokenizer = character_pair_tokenizer(vocabulary)
    # 4 specials, then \n a b c ▁ é = 4…9, then ▁a bc ▁abc = 10…12
    assert tokenizer.encode(" abc\nbca") == [12, 4, 11, 5]
    assert tokenizer.encode("  a") == [8, 10]
    assert tokenizer.decode([12, 4, 11, 5]) == " abc\nbca"


def test_unknown_characters_and_composition(vocabulary):
    tokenizer = character_pair_tokenizer(vocabulary)
    assert tokenizer.encode("e\u0301xx") == [9, 1, 1]


def test_control_tokens_are_not_read_from_text(vocabulary):
    tokenizer = character_pair_tokenizer(vocabulary)
    assert 2 not in tokenizer.encode("<bos>") and 0 not in tokenizer.encode("<pad>")
    assert tokenizer.bos_token_id is None


def test_has_what_the_framework_asks_for(vocabulary):
    assert isinstance(character_pair_tokenizer(vocabulary), Tokenizer)


def test_same_ids_as_the_package_that_trained_it():
    glassllm = pytest.importorskip("glassllm", reason="package glassllm is not installed")
    from energylens.sources.reference import tiny_files

    theirs = glassllm.load_pretrained("en")[1]
    ours = character_pair_tokenizer(tiny_files()[1])
    draw = random.Random(0)
    pieces = [*theirs.vocab[4:], " ", "\n", "日", "e\u0301", "<pad>", "▁"]
    texts = ["", " ", "\n\n", "Alice was  beginning\n to get", "<bos>x<unk>", "a\t\r\n"]
    texts += ["".join(draw.choices(pieces, k=60)).replace("▁", " ") for _ in range(200)]
    for text in texts:
        ids = theirs.encode(text)
        assert ours.encode(text, add_special_tokens=False) == ids
        assert ours.decode(ids).replace("<unk>", "⁇") == theirs.decode(ids)
