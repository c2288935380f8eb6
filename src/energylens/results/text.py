"""Text from models and files, made safe to look at: nothing unseen, nothing that turns a line."""

import unicodedata

_SHOWN = {"\n": "↵", "\t": "⇥", "\r": "␍"}
# Marks that only change how neighbours are drawn; Cf holds the bidirectional overrides.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str, *, most: int = 120) -> str:
    """The text with every control, bidirectional and unassigned character as an escape.

    Args:
        text: Any string, lone surrogates included.
        most: Longer texts are cut here, and their length is told.

    Example:
        >>> visible("a\\u202eb\\n"), visible("x" * 500, most=4)
        ('a\\\\u202eb↵', 'xxxx… (500 characters)')
    """
    cut = text if len(text) <= most else text[:most]
    shown = cut if cut.isascii() and cut.isprintable() else "".join(map(_seen, cut))
    return shown if len(text) <= most else f"{shown}… ({len(text):,} characters)"


def _seen(character: str) -> str:
    if character in _SHOWN:
        return _SHOWN[character]
    if unicodedata.category(character) not in _UNSEEN:
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
