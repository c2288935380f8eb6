"""Words of a text as whole numbers, without a vocabulary: each by a hash of its letters."""

import re
import zlib

import torch
from jaxtyping import Int
from torch import Tensor

WORDS = 2048
"""Numbers of words, 0 for a place where no word is. Two words may share one: that is the price of
having nothing to learn from the text beforehand."""
LENGTH = 64
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def word_numbers(text: str) -> list[int]:
    """The number of each word, by CRC-32 of its lower-case letters; figures are no words.

    Example:
        >>> one, two, three = word_numbers("Peace, PEACE in 1918!")
        >>> one == two != three
        True
    """
    return [1 + zlib.crc32(word.lower().encode()) % (WORDS - 1) for word in _WORD.findall(text)]


def passages(text: str, *, most: int, length: int = LENGTH) -> Int[Tensor, "passage word"]:
    """Passages of a text that do not overlap, evenly spread over it.

    A text shorter than one passage is one, filled up with 0; an empty text has none.

    Args:
        most: Passages at most.
        length: Words of a passage.
    """
    words = word_numbers(text)
    count = min(most, len(words) // length)
    if not count:
        short = words[:length] + [0] * (length - len(words))
        return torch.tensor([short] if words else [], dtype=torch.int64).reshape(-1, length)
    starts = [(len(words) - length) * i // max(count - 1, 1) for i in range(count)]
    return torch.tensor([words[start : start + length] for start in starts], dtype=torch.int64)
