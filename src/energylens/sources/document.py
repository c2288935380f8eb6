"""One document."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text that is independent of the others.

    Attributes:
        name: What reports call it.
        text: Its whole text.
        kind: What sort of text: `text` or `code` by the file's name, a folder's name, or a kind of
            the default text.
    """

    name: str
    text: str
    kind: str
