"""Conversion: a dictionary of any format that is read, in the files of another program."""

from dataclasses import dataclass
from typing import Annotated, Literal

from energylens.studies.study import Range, study


@study(
    name="convert",
    question="Is a dictionary the same one in the files of another program?",
    entry="energylens.studies.convert.work:run",
    example="energylens run convert --dictionary my-sae --to sparsify --out runs/converted",
    subject="dictionary",
)
@dataclass(frozen=True, kw_only=True)
class Convert:
    """Write a dictionary as another program keeps it, read it back, and say whether it is the same
    and what did not fit."""

    dictionary: str
    """The dictionary: a folder or file of any format that is read, or a place on the hub
    (owner/name, owner/name/sub/folder)."""

    to: Literal[
        "saelens", "dictionary_learning", "sparsify", "openai", "gemma_scope", "circuit_tracer"
    ]
    """Program whose files are to be written; those of dictionary_learning and openai are pickles,
    and need --allow-pickle."""

    revision: str | None = None
    """Branch, tag or commit on the hub; default: the default branch."""

    offline: bool = False
    """Look for a hub dictionary in the cache alone."""

    allow_pickle: bool = False
    """Read or write a format that is a pickle; nothing in it is run, and none but tensors, numbers
    and text is written."""

    rows: Annotated[int, Range(2, 1_000_000)] = 1_024
    """Random rows that go through both."""

    threads: Annotated[int, Range(0, 1024)] = 0
    """Threads of the numerics; 0: all cores."""

    seed: Annotated[int, Range(0, 2**30)] = 0
    """Seed of the rows."""
