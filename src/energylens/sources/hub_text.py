"""Text of Hugging Face datasets, a row at a time: `hf:owner/name:config:split[first:last]#column`.

The package `datasets` is an extra, and is imported when such a text is opened. Rows are streamed,
never downloaded as a whole, and no code of a dataset is run.
"""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from energylens.core.errors import BadInput, UnknownName
from energylens.core.files import sha256
from energylens.sources.document import Document
from energylens.sources.hub import dataset_commit
from energylens.sources.quiet import quiet

PREFIX = "hf:"
NAME_FIELDS = ("id", "name", "title")
"""Columns that name a row, the first that is there."""
_FORM = re.compile(
    r"hf:(?P<name>[^:@#\[\]]+)(@(?P<revision>[^:#\[\]]+))?"
    r"(:(?P<config>[^:#\[\]]*))?(:(?P<split>[^:#\[\]]*))?"
    r"(\[(?P<first>\d*):(?P<last>\d*)\])?(#(?P<column>.+))?"
)
_SAVED = ("state.json", "dataset_dict.json")


@dataclass(frozen=True, kw_only=True)
class HubText:
    """A column of text of a dataset.

    Attributes:
        name: Hub id, or a folder on this machine.
        revision: Branch, tag or commit; the default branch if empty.
        config: Configuration; the dataset's own default if empty.
        split: Split; `train`, or the only one, if empty.
        first: The first row.
        last: One past the last row; None: to the end.
        column: The text; `text` if empty.
    """

    name: str
    revision: str = ""
    config: str = ""
    split: str = ""
    first: int = 0
    last: int | None = None
    column: str = ""

    @property
    def label(self) -> str:
        """What it is called: a folder by its last name, then what was asked for."""
        named = Path(self.name).name if _folder(self) else self.name
        rows = f"[{self.first or ''}:{self.last or ''}]" if self.first or self.last else ""
        return ":".join(filter(None, (named, self.config, self.split))) + rows


def is_hub_text(text: str | Path) -> bool:
    """Whether a text is one of a dataset, not a path."""
    return str(text).startswith(PREFIX)


def hub_text(text: str | Path) -> HubText:
    """Read what a text of a dataset is called.

    Raises:
        BadInput: If it has not that form.

    Example:
        >>> found = hub_text("hf:HuggingFaceFW/fineweb:sample-10BT:train[:5000]#text")
        >>> found.config, found.split, found.last, found.column
        ('sample-10BT', 'train', 5000, 'text')
    """
    found = _FORM.fullmatch(str(text))
    if found is None:
        raise BadInput(
            f"text {str(text)!r} should have the form hf:owner/name, with :config:split,"
            " [first:last] and #column after it where they are needed"
        )
    words = {name: value for name, value in found.groupdict().items() if value}
    first, last = words.pop("first", None), words.pop("last", None)
    made = HubText(first=int(first or 0), last=int(last) if last else None, **words)
    if made.last is not None and made.last <= made.first:
        raise BadInput(f"text {str(text)!r} has no rows: the first must come before the last")
    return made


def stream_hub_text(text: HubText, *, skip: int = 0) -> Iterator[Document]:
    """The rows of a dataset in its own order, one document each.

    Args:
        text: Which.
        skip: Rows to pass over, from the first that was asked for.

    Raises:
        BadInput: If the package `datasets` is missing, the dataset, split or column is not there,
            or the hub cannot be reached; at once, but for what goes wrong on the way.
    """
    rows, column = _opened(text)
    return _documents(text, rows, column, text.first + skip)


def hub_text_record(text: HubText) -> dict[str, Any]:
    """What tells this text from any other, without reading it.

    Of a dataset on the hub that is the commit, configuration, split, rows and column; of a folder,
    the SHA-256 of its files takes the place of the commit.

    Raises:
        BadInput: If the hub does not know the dataset or cannot be reached.
    """
    record = asdict(text)
    folder = _folder(text)
    if folder is None:
        return record | {"revision": _commit(text)}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    return record | {"name": folder.name, "revision": hashes}


def _documents(text: HubText, rows: Any, column: str, first: int) -> Iterator[Document]:
    rows = rows.skip(first)
    rows = rows if text.last is None else rows.take(max(0, text.last - first))
    label = f"{Path(text.name).name}"
    try:
        for number, row in enumerate(rows, start=first):
            found = row[column]
            if found is not None and not isinstance(found, str):
                raise BadInput(
                    f"row {number} of {text.label}: {column!r} is of type {type(found).__name__},"
                    " not a string"
                )
            key = next((str(row[name]) for name in NAME_FIELDS if name in row), "")
            name = " ".join(filter(None, (label, text.split, str(number), key)))
            yield Document(name=name, text=found or "", kind="text")
    except BadInput:
        raise
    except Exception as error:  # of the network, of Parquet, of JSON: whatever the rows come from
        raise BadInput(
            f"{text.label} broke off after row {first} ({type(error).__name__}: {_line(error)}):"
            " run it again"
        ) from error


def _opened(text: HubText) -> tuple[Any, str]:
    """The rows, no column too many, and which of them is the text."""
    splits = open_splits(text)
    split = text.split or (next(iter(splits)) if len(splits) == 1 else "train")
    if split not in splits:
        raise UnknownName(f"split of {text.name}", split, list(splits))
    rows = splits[split]
    names = rows.column_names or list(next(iter(rows), {}))
    column = text.column or "text"
    if column not in names:
        near = f"name one of them after #, as in hf:{text.name}#{names[0]}" if names else "none"
        raise BadInput(
            f"{text.label} has no column {column!r}: its columns are {', '.join(names)}; {near}"
        )
    wanted = [column, *(name for name in NAME_FIELDS if name in names and name != column)]
    return rows.select_columns(wanted), column


def open_splits(text: HubText) -> Any:
    """The splits of a dataset by name, none of them read yet.

    Raises:
        BadInput: If the package `datasets` is missing, or the dataset cannot be opened.
    """
    try:
        import datasets
    except ImportError:
        raise BadInput(
            f"text {PREFIX}{text.name} needs the package datasets: pip install 'energylens[data]'"
        ) from None
    folder = _folder(text)
    with quiet():
        try:
            if folder is not None and any((folder / name).is_file() for name in _SAVED):
                found = datasets.load_from_disk(str(folder))
                saved = found if isinstance(found, dict) else {text.split or "train": found}
                return {name: rows.to_iterable_dataset() for name, rows in saved.items()}
            where = text.name if folder is None else str(folder)
            return datasets.load_dataset(
                where, text.config or None, streaming=True,
                revision=_commit(text) if folder is None else None,
            )  # fmt: skip
        except BadInput:
            raise
        except Exception as error:  # its own kinds for a file, a network, a script, a name
            raise BadInput(f"{text.label} cannot be opened: {_line(error)}") from error


def _commit(text: HubText) -> str:
    return _commit_of(text.name, text.revision or None)


@cache
def _commit_of(name: str, revision: str | None) -> str:
    """Asked for once, so that a text is the same whenever a program reads it again."""
    return dataset_commit(name, revision=revision)


def _folder(text: HubText) -> Path | None:
    path = Path(text.name).expanduser()
    return path if path.is_dir() else None


def _line(error: BaseException) -> str:
    """The first words of a message that may go on for a page."""
    return " ".join(str(error).split())[:240]
