import pytest

from energylens.sources.token_classes import TOKEN_CLASSES, display_tokens, token_classes
from tests.sources.conftest import small_tokenizer


def classes_of(text, **options):
    """Classes of the pieces of a text, which are separated by `|`."""
    return token_classes(text.split("|"), starts_text=False, **options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the| don't| naïve|café|Привет", ["word"] * 4 + ["capitalised"]),
        (" The| NASA|Écoute", ["capitalised"] * 3),
        ("1| 3.14| -2|1,000|50%", ["number"] * 5),
        (".|,|“| —|(|)|€", ["punctuation"] * 7),
        (" |\n|\t\n|  ", ["whitespace"] * 4),
        ("x1| 2nd|�|a/b", ["other"] * 4),
        ("", ["whitespace"]),
    ],
)
def test_tokens_that_stand_for_themselves(text, expected):
    assert classes_of(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "https|://|example|.org|/x|?q|=1", "www|.example|.org", "me|@|example|.org",
        "2026|-|11|-|21", "3|/4|/1999", "10|:|45", "0|xdead|beef", "12|ab34cd56",
        "max|_|len", "__|init|__", "_|private", "/|usr|/lib|/x", "~|/a|/b.txt", "C|:\\|dir",
    ],
)  # fmt: skip
def test_patterns_cover_every_token_of_theirs(text):
    pieces = text.split("|")
    found = token_classes([*pieces, " and", " more"], starts_text=False)
    assert found == ["pattern-like"] * len(pieces) + ["word", "word"]


def test_prose_is_not_taken_for_patterns():
    text = "He| said|:| “|and|/or| it|’s| 40| or| so|,| e|.g|.| word|(s|)|;| then|”"
    assert not {"pattern-like", "code"} & set(classes_of(text))


def test_code_in_prose_is_found_by_its_shape():
    text = "Call| open|(|path|)| and| test| a| ==| b| or| see| `|x|`| there"
    found = dict(zip(text.split("|"), classes_of(text), strict=True))
    code = [" open", "(", "path", ")", " ==", " `", "x", "`"]
    assert [found[token] for token in code] == ["code"] * 8
    assert [found[token] for token in (" and", " a", " there")] == ["word"] * 3


def test_in_a_code_document_all_else_is_code():
    text = "if| x| >=| 10|:|\n|    |return| max|_|len"
    assert classes_of(text, kind="code") == [
        "code", "code", "code", "number", "code", "whitespace", "whitespace", "code",
        "pattern-like", "pattern-like", "pattern-like",
    ]  # fmt: skip


def test_the_first_token_is_apart():
    assert token_classes(["The", " The"]) == ["start of text", "capitalised"]
    assert token_classes([]) == []


def test_every_class_can_be_had():
    tokens = ["x", " ", "a_b", " 1", " ==", " .", " Two", " three", "x1"]
    assert token_classes(tokens) == list(TOKEN_CLASSES)


def test_byte_level_tokens_are_decoded():
    tokenizer = small_tokenizer(258)
    ids = tokenizer.encode("a \nü\t", add_special_tokens=False)
    assert display_tokens(ids, tokenizer) == ["a", " ", "\n", "�", "�", "\t"]
    assert display_tokens([1], tokenizer) == ["<s>"]


class Pieces:
    """A tokenizer that only names its tokens."""

    def __init__(self, *pieces):
        self.pieces = pieces

    def encode(self, text, *, add_special_tokens=True):
        return [0]

    def decode(self, token_ids):
        raise NotImplementedError

    def convert_ids_to_tokens(self, ids):
        return [self.pieces[i] for i in ids]


def test_sentence_pieces_keep_their_space():
    tokenizer = Pieces("▁the", "<0x0A>", "<0xC3>", "▁▁", "x")
    shown = display_tokens([0, 1, 2, 3, 4, 0], tokenizer)
    assert shown == [" the", "\n", "�", "  ", "x", " the"]


def test_what_cannot_be_printed_is_replaced():
    tokenizer = Pieces("a\0b", "\x1b[31m", "\ud800", "\u202eabc", "\x85", "ok")
    assert display_tokens(range(6), tokenizer) == ["a�b", "�[31m", "�", "�abc", "�", "ok"]


def test_whole_characters_of_bytes_come_out_whole():
    tokenizer = Pieces("Ġ", "Ã¼", "æĹ¥æľ¬", "ĠÐŁ")
    assert display_tokens(range(4), tokenizer) == [" ", "ü", "日本", " П"]


def test_only_words_after_a_space_have_a_first_letter():
    from energylens.sources.token_classes import first_letter

    assert [first_letter(t) for t in (" été", " A", "a", " a1", " ", "", " x_y")] == [
        "é", "a", "", "", "", "", "",
    ]  # fmt: skip
