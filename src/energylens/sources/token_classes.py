"""What a token looks like: printable text, and a coarse class that any reader can check."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate

from energylens.sources.tokenizer import Tokenizer

# In order of precedence: a token has the first class that fits.
TOKEN_CLASSES = (
    "start of text", "whitespace", "pattern-like", "number", "code", "punctuation",
    "capitalised", "word", "other",
)  # fmt: skip

_PATTERNS = re.compile(
    r"""
      (?:https?|ftp)://[^\s<>"]+ | \bwww\.[^\s<>"]+          # web address
    | [\w.+-]+@[\w-]+\.[\w.-]*\w                             # e-mail
    | \b\d{4}-\d\d?-\d\d?\b | \b\d\d?[/.]\d\d?[/.]\d{2,4}\b   # date
    | \b\d\d?:\d\d(?::\d\d)?\b                               # time of day
    | \b0[xX][0-9a-fA-F]+\b | \b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b   # hexadecimal
    | \b\w*[^\W_]_+[^\W_]\w*\b | \b__?[^\W_]\w*               # identifier_with_underscores
    | (?<![\w/.<])(?:~|\.{1,2})?/[\w.-]+(?:/[\w.-]+)+/? | \b[A-Za-z]:\\[\w\\.-]+    # path
    """,
    re.VERBOSE,
)
_CODE = re.compile(
    r"""
      `[^`\n]+`                                       # quoted code
    | \b[A-Za-z_]\w*\((?!s\))[^()\n]{0,80}\)          # call; not the plural of "token(s)"
    | \b[A-Za-z_]{2,}(?:\.[a-z]\w+)+\b(?=\s*[\[(=])    # attribute that is called, set or indexed
    | [=!<>]=|->|=>|::|[+*/|&^-]=|\*\*|&&|\|\||>>>    # operators that prose does not have
    | [{};]\s*$                                       # end of a statement
    """,
    re.VERBOSE | re.MULTILINE,
)


def token_classes(
    tokens: Sequence[str], *, kind: str = "text", starts_text: bool = True
) -> list[str]:
    """The class of each token of a window, by the first rule that fits.

    1. start of text: the first token of the window, which models treat apart.
    2. whitespace: nothing but spaces, tabs and line ends.
    3. pattern-like: part of a web address, e-mail, date, time, hexadecimal number, path, or
       identifier with underscores, even where the token alone looks ordinary.
    4. number: digits, with signs and separators.
    5. code: all else in text of the kind `code`; elsewhere, part of a call, of an operator such as
       `==`, of text in back-ticks, or a brace or semicolon at the end of a line.
    6. punctuation: no letter and no digit, but a mark or symbol.
    7. capitalised: its first letter is a capital.
    8. word: letters, with apostrophes or hyphens.
    9. other: the rest, such as parts of characters, and letters mixed with digits.

    Args:
        tokens: Printable tokens in the order of the text, as from `display_tokens`.
        kind: Kind of the document.
        starts_text: Whether the first token is the first that the model reads.

    Example:
        >>> token_classes(["It", " cost", " 40", "%", " then"])
        ['start of text', 'word', 'number', 'punctuation', 'word']
    """
    text = "".join(tokens)
    ends = list(accumulate(map(len, tokens)))
    in_pattern = _covered(_PATTERNS, text)
    in_code = _covered(_CODE, text) if kind != "code" else bytearray(b"\1" * len(text))
    classes = []
    for end, token in zip(ends, tokens, strict=True):
        start = end - len(token)
        classes.append(_class(token.strip(), in_pattern[start:end], in_code[start:end]))
    if starts_text and classes:
        classes[0] = "start of text"
    return classes


def first_letter(token: str) -> str:
    """The letter a word begins with, in lower case; empty for a token that begins no word.

    Example:
        >>> [first_letter(token) for token in (" Sea", " 12", "ing", " “Who")]
        ['s', '', '', '']
    """
    begins = re.fullmatch(r"\s([^\W\d_])[^\W\d_]*", token)
    return begins[1].lower() if begins else ""


def _class(token: str, in_pattern: bytearray, in_code: bytearray) -> str:
    if not token:
        return "whitespace"
    if any(in_pattern):
        return "pattern-like"
    if re.fullmatch(r"[-+]?[\d.,%]*\d[\d.,%]*", token):
        return "number"
    if any(in_code):
        return "code"
    if all(unicodedata.category(c)[0] in "PS" and c != "\ufffd" for c in token):
        return "punctuation"
    if not all(c.isalpha() or c in "'’-" or unicodedata.combining(c) for c in token):
        return "other"
    return "capitalised" if token.lstrip("'’-")[:1].isupper() else "word"


def _covered(pattern: re.Pattern[str], text: str) -> bytearray:
    """1 at each character that a match covers."""
    covered = bytearray(len(text))
    for match in pattern.finditer(text):
        covered[match.start() : match.end()] = b"\1" * (match.end() - match.start())
    return covered


def display_tokens(ids: Iterable[int], tokenizer: Tokenizer) -> list[str]:
    """The text of each token by itself, with its leading space, fit to be shown.

    Bytes that are no UTF-8 by themselves, lone surrogates, control characters other than tabs and
    line ends, and marks that change the direction of writing become `�`.
    """
    numbers = [int(number) for number in ids]
    distinct = sorted(set(numbers))
    pieces = tokenizer.convert_ids_to_tokens(distinct)
    spaced = tokenizer.convert_ids_to_tokens(tokenizer.encode(" a", add_special_tokens=False))
    decode = _from_byte_level if any("Ġ" in piece for piece in spaced) else _from_pieces
    shown = {
        number: _printable(decode(piece or ""))
        for number, piece in zip(distinct, pieces, strict=True)
    }
    return [shown[number] for number in numbers]


def _from_pieces(piece: str) -> str:
    """Text of a token whose spaces are `▁` and whose odd bytes are `<0xNN>` (SentencePiece)."""
    if found := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):
        return bytes([int(found[1], 16)]).decode("utf-8", "replace")
    return piece.replace("▁", " ")


def _from_byte_level(piece: str) -> str:
    """Text of a token that is written with one character a byte (GPT-2 and its kin)."""
    table = _byte_of_character()
    if all(character in table for character in piece):
        return bytes(table[character] for character in piece).decode("utf-8", "replace")
    return piece  # a control token, which is written as it is


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100 onwards."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    shifted = {chr(256 + place): byte for place, byte in enumerate(others)}
    return {chr(byte): byte for byte in printable} | shifted


def _printable(text: str) -> str:
    return "".join(c if _shows(c) else "\ufffd" for c in text)


def _shows(character: str) -> bool:
    if character in "\n\t\r":
        return True
    if character in "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069":
        return False
    return unicodedata.category(character) not in ("Cc", "Cs", "Cn")
