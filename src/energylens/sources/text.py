"""Text as documents: the statistical unit of everything measured on a language model."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from energylens.core.errors import BadInput
from energylens.sources.default_text import default_documents
from energylens.sources.document import Document

_CODE_SUFFIX = re.compile(
    r"\.(c|cc|cpp|cs|cu|go|h|hpp|java|jl|js|kt|lua|php|pl|py|r|rb|rs|scala|sh|sql|swift|ts)",
    re.IGNORECASE,
)
_NAME_FIELDS = ("id", "name", "title")


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Documents, and what to call them together.

    Attributes:
        documents: In a fixed order.
        name: Where they are from.
        sha256: Hash of their names and texts, in order.
    """

    documents: tuple[Document, ...]
    name: str
    sha256: str


def load_text(paths: Sequence[Path | str] | Literal["default"]) -> Corpus:
    """Read documents from files and folders, or take the default text.

    A text file is one document; of a folder, each file is (in order of name, with those below,
    hidden ones left out); a row of Parquet and a line of JSONL is one, by its field `text`. Where
    all files of one folder lie in two or more subfolders, these name the kinds of text; else the
    kind is `code` or `text`, by the ending of the name. The default text is presidential messages,
    the Python documentation, Python's own library, tables of numbers, patterns and plays.

    Raises:
        BadInput: If a path is missing, holds no text, is not UTF-8, or has no field `text`.
    """
    if isinstance(paths, str):
        if paths != "default":
            raise BadInput(f"text was given as the string {paths!r}: give a list of paths")
        documents, name = default_documents()
        return _corpus(documents, name)
    if not paths:
        raise BadInput("no text was given: name at least one file or folder")
    given = [Path(path).expanduser() for path in paths]
    files = [(path, file) for path in given for file in _files(path)]
    kinds = _subfolders(given[0], [file for _, file in files]) if len(given) == 1 else {}
    documents = [
        replace(document, kind=kinds.get(file, document.kind))
        for path, file in files
        for document in _read(file, _label(path, file))
    ]
    if not any(document.text.strip() for document in documents):
        shown = ", ".join(str(path) for path in given[:3])
        raise BadInput(f"{shown} holds no text: every document in it is empty")
    return _corpus(documents, ", ".join(path.resolve().name for path in given))


def _corpus(documents: Sequence[Document], name: str) -> Corpus:
    digest = hashlib.sha256()
    for document in documents:
        for part in (document.name, document.text):
            content = part.encode("utf-8", "surrogatepass")
            digest.update(f"{len(content)}\n".encode())
            digest.update(content)
    return Corpus(documents=tuple(documents), name=name, sha256=digest.hexdigest())


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise BadInput(f"text {path} does not exist: check the path")
    found = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and not any(p.startswith(".") for p in file.relative_to(path).parts)
    )
    if not found:
        raise BadInput(f"folder {path} has no files: give one with text files in it")
    return found


def _subfolders(path: Path, files: Sequence[Path]) -> dict[Path, str]:
    """The first folder below `path` that each file is in, where that divides all of them."""
    below = {file: file.relative_to(path).parts for file in files if file != path}
    first = {parts[0] for parts in below.values()}
    divided = len(first) > 1 and all(len(parts) > 1 for parts in below.values())
    return {file: parts[0] for file, parts in below.items()} if divided else {}


def _label(path: Path, file: Path) -> str:
    """A file's name, with the folders that lead to it from the path that was given."""
    return file.name if path == file else file.relative_to(path).as_posix()


def _read(file: Path, label: str) -> Iterator[Document]:
    reader: Callable[[Path, str], Iterator[Document]] = {
        ".parquet": _read_parquet,
        ".jsonl": _read_jsonl,
        ".ndjson": _read_jsonl,
    }.get(file.suffix.lower(), _read_whole)
    return reader(file, label)


def _read_whole(file: Path, label: str) -> Iterator[Document]:
    kind = "code" if _CODE_SUFFIX.fullmatch(file.suffix) else "text"
    yield Document(name=label, text=_decoded(file), kind=kind)


def _decoded(file: Path) -> str:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{file} is not UTF-8 text (byte {error.start}): convert it, or leave it out"
        ) from None
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from None
    if "\0" in text:
        raise BadInput(f"{file} is not text (it has NUL bytes): leave it out")
    return text.replace("\r\n", "\n")


def _read_parquet(file: Path, label: str) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.read_schema(file).names
        if "text" not in columns:
            raise BadInput(f"{file} has no column 'text': its columns are {', '.join(columns)}")
        key = next((name for name in _NAME_FIELDS if name in columns), None)
        table = pq.read_table(file, columns=["text"] + ([key] if key else []))
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{file} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    names = table[key].to_pylist() if key else range(table.num_rows)
    for row, (name, text) in enumerate(zip(names, table["text"].to_pylist(), strict=True)):
        yield _record(f"{file} row {row}", f"{label} {name}", text)


def _read_jsonl(file: Path, label: str) -> Iterator[Document]:
    for number, line in enumerate(_decoded(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields: Any = json.loads(line)
        except ValueError as error:
            raise BadInput(f"{file} line {number} is not JSON: {error}") from None
        if not isinstance(fields, dict) or "text" not in fields:
            there = ", ".join(fields) if isinstance(fields, dict) else type(fields).__name__
            raise BadInput(f"{file} line {number} has no field 'text': it has {there}")
        name = next((fields[key] for key in _NAME_FIELDS if key in fields), number)
        yield _record(f"{file} line {number}", f"{label} {name}", fields["text"])


def _record(place: str, name: str, text: object) -> Document:
    """One row; a row without text is an empty document, which is counted as too short later."""
    if text is None:
        text = ""
    if not isinstance(text, str):
        raise BadInput(f"{place}: 'text' is of type {type(text).__name__}, not a string")
    return Document(name=name, text=text, kind="text")
