"""Text as documents: the statistical unit of everything measured on a language model."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch

from energylens.core.errors import BadInput
from energylens.core.files import sha256
from energylens.sources.default_text import default_documents
from energylens.sources.document import Document
from energylens.sources.hub_text import (
    NAME_FIELDS,
    hub_text,
    hub_text_record,
    is_hub_text,
    stream_hub_text,
)

_CODE_SUFFIX = re.compile(
    r"\.(c|cc|cpp|cs|cu|go|h|hpp|java|jl|js|kt|lua|php|pl|py|r|rb|rs|scala|sh|sql|swift|ts)",
    re.IGNORECASE,
)
# Bytes of a text file that a stream holds at once: with their tokens some 200 MB.
LONGEST = 4 * 2**20
_ROWS_AT_ONCE = 256
_PAGE = 2**20
_LONGEST_CHARACTER = 4


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
    hidden ones left out); a row of Parquet and a line of JSONL is one, by its field `text`; so is a
    row of a dataset, `hf:owner/name:config:split[:5000]#column`, which says where it ends. Where
    all files of one folder lie in two or more subfolders, these name the kinds of text; else the
    kind is `code` or `text`, by the ending of the name. The default text is presidential messages,
    the Python documentation, Python's own library, tables of numbers, patterns and plays.

    Raises:
        BadInput: If a path is missing, holds no text, is not UTF-8, or has no field `text`.
    """
    if isinstance(paths, str):
        documents, name = default_documents() if paths == "default" else _refuse_string(paths)
    else:
        _refuse_endless(paths)
        documents, name = list(stream_text(paths, longest=None)), _name(_given(paths))
    if not any(document.text.strip() for document in documents):
        raise BadInput(f"{_shown(paths)} holds no text: every document in it is empty")
    return Corpus(documents=tuple(documents), name=name, sha256=text_sha256(documents))


def stream_text(
    paths: Sequence[Path | str] | Literal["default"],
    *,
    longest: int | None = LONGEST,
    skip: int = 0,
) -> Iterator[Document]:
    """The documents of `load_text`, in the same order, read one at a time as they are asked for.

    A text file of more than `longest` bytes gives several documents, each named by the bytes it
    holds and ended where a line ends; with None, every file is one document. Parquet is read some
    hundred rows at a time, JSONL by the line, a dataset of the hub (`hub_text`) by the row.

    Args:
        paths: As for `load_text`.
        longest: Bytes of a text file that are one document at the most.
        skip: Documents to pass over, as a run does that goes on; a dataset given alone passes over
            rows without handing them out.

    Raises:
        BadInput: At once if a path is missing or `longest` is no more than a character; later, on
            reaching it, as `load_text` does.
    """
    if isinstance(paths, str):
        found = default_documents() if paths == "default" else _refuse_string(paths)
        return islice(iter(found[0]), skip, None)
    if longest is not None and longest <= _LONGEST_CHARACTER:
        raise BadInput(f"pieces of {longest} bytes were asked for: one holds more than a character")
    given = _given(paths)
    if len(given) == 1 and is_hub_text(given[0]):
        return stream_hub_text(hub_text(given[0]), skip=skip)
    streams = [
        stream_hub_text(hub_text(path))
        if is_hub_text(path)
        else _stream_files(path, _files(path), longest, alone=len(given) == 1)
        for path in given
    ]
    return islice(chain.from_iterable(streams), skip, None)


def _stream_files(
    path: Path, files: Sequence[Path], longest: int | None, *, alone: bool
) -> Iterator[Document]:
    kinds = _subfolders(path, files) if alone else {}
    return (
        replace(document, kind=kinds.get(file, document.kind))
        for file in files
        for document in _read(file, _label(path, file), longest)
    )


def shuffled(
    documents: Iterable[Document], generator: torch.Generator, *, held_mb: float | int = 64
) -> Iterator[Document]:
    """The documents in random order, as far as memory allows.

    Documents are held until their text takes `held_mb`; from then on each that comes in sends a
    random one of them out. A text smaller than that is shuffled as a whole; of a larger one, a
    document can come at any time after it was read, and rarely much later.

    Example:
        >>> some = [Document(name=str(i), text="-", kind="text") for i in range(5)]
        >>> sorted(d.name for d in shuffled(some, torch.Generator().manual_seed(0)))
        ['0', '1', '2', '3', '4']
    """
    held: list[Document] = []
    room = int(held_mb * 2**20)
    for document in documents:
        held.append(document)
        room -= len(document.text)
        while room < 0 and len(held) > 1:
            sent = _drawn(held, generator)
            room += len(sent.text)
            yield sent
    while held:
        yield _drawn(held, generator)


def _drawn(held: list[Document], generator: torch.Generator) -> Document:
    """A random one, taken out of the list; the last takes its place."""
    place = int(torch.randint(len(held), (), generator=generator))
    held[place], held[-1] = held[-1], held[place]
    return held.pop()


def text_identity(paths: Sequence[Path | str] | Literal["default"]) -> dict[str, Any]:
    """What tells a text from any other, without reading all of it as documents.

    Of files that is the SHA-256 of their bytes, in order, with their names; of a dataset of the hub
    its commit, configuration, split, rows and column, which fix what is read: see
    `hub_text_record`.

    Returns:
        `name`, `sha256` of the rest, and `sources`.

    Raises:
        BadInput: If a path is missing, or the hub does not know a dataset or cannot be reached.
    """
    sources: list[Any]
    if isinstance(paths, str):
        corpus = load_text(paths)
        sources, name = [{"text": corpus.sha256}], corpus.name
    else:
        given = _given(paths)
        sources, name = [], _name(given)
        for path in given:
            if is_hub_text(path):
                sources.append(hub_text_record(hub_text(path)))
            else:
                sources.append({_label(path, file): sha256(file) for file in _files(path)})
    listed = json.dumps(sources, ensure_ascii=False, sort_keys=True)
    digest = hashlib.sha256(listed.encode()).hexdigest()
    return {"name": name, "sha256": digest, "sources": sources}


def text_sha256(documents: Iterable[Document]) -> str:
    """Hash of names and texts, in order: `Corpus.sha256` of the same documents."""
    digest = hashlib.sha256()
    for document in documents:
        for part in (document.name, document.text):
            content = part.encode("utf-8", "surrogatepass")
            digest.update(f"{len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()


def _refuse_endless(paths: Sequence[Path | str]) -> None:
    for path in paths:
        if is_hub_text(path) and hub_text(path).last is None:
            raise BadInput(
                f"text {path} has no end here and would be read whole: say how many rows, as in"
                f" {str(path).partition('#')[0]}[:5000]"
            )


def _refuse_string(paths: str) -> NoReturn:
    raise BadInput(f"text was given as the string {paths!r}: give a list of paths")


def _given(paths: Sequence[Path | str]) -> list[Path]:
    if not paths:
        raise BadInput("no text was given: name at least one file or folder")
    return [Path(path) if is_hub_text(path) else Path(path).expanduser() for path in paths]


def _name(given: Sequence[Path]) -> str:
    return ", ".join(
        hub_text(path).label if is_hub_text(path) else path.resolve().name for path in given
    )


def _shown(paths: Sequence[Path | str]) -> str:
    return ", ".join(str(path) for path in _given(paths)[:3])


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


def _read(file: Path, label: str, longest: int | None) -> Iterator[Document]:
    reader: Callable[[Path, str], Iterator[Document]] | None = {
        ".parquet": _read_parquet,
        ".jsonl": _read_jsonl,
        ".ndjson": _read_jsonl,
    }.get(file.suffix.lower())
    return _read_plain(file, label, longest) if reader is None else reader(file, label)


def _read_plain(file: Path, label: str, longest: int | None) -> Iterator[Document]:
    kind = "code" if _CODE_SUFFIX.fullmatch(file.suffix) else "text"
    whole = longest is None or file.stat().st_size <= longest
    for first, data in _pieces(file, None if whole else longest):
        name = label if whole else f"{label} bytes {first}–{first + len(data) - 1}"
        yield Document(name=name, text=_decoded(data, file, first), kind=kind)


def _pieces(file: Path, longest: int | None) -> Iterator[tuple[int, bytes]]:
    """Bytes of a file and where they start: all, or so many at most, ended where a line ends."""
    try:
        with file.open("rb") as handle:
            if longest is None:
                yield 0, handle.read()
                return
            first, held = 0, b""
            while more := handle.read(longest - len(held)):
                held += more
                end = _line_end(held) if len(held) == longest else len(held)
                yield first, held[:end]
                first, held = first + end, held[end:]
            if held:
                yield first, held
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from None


def _line_end(data: bytes) -> int:
    """After the last newline, or where there is none before the last character of UTF-8."""
    if end := data.rfind(b"\n") + 1:
        return end
    end = len(data) - 1
    while end > len(data) - _LONGEST_CHARACTER and data[end] & 0xC0 == 0x80:
        end -= 1
    return end


def _decoded(data: bytes, file: Path, first: int = 0) -> str:
    """Text of a file's bytes from `first` on."""
    try:
        text = data.decode("utf-8" if first else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{file} is not UTF-8 text (byte {first + error.start}): convert it, or leave it out"
        ) from None
    if "\0" in text:
        raise BadInput(f"{file} is not text (it has NUL bytes): leave it out")
    return text.replace("\r\n", "\n")


def _read_parquet(file: Path, label: str) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # A row group may hold the whole file: its pages are read as they are needed.
        with pq.ParquetFile(file, pre_buffer=False, buffer_size=_PAGE) as table:
            columns = table.schema_arrow.names
            if "text" not in columns:
                raise BadInput(f"{file} has no column 'text': its columns are {', '.join(columns)}")
            key = next((name for name in NAME_FIELDS if name in columns), None)
            wanted = ["text"] + ([key] if key else [])
            row = 0
            for some in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted):
                texts = some.column("text").to_pylist()
                names = some.column(key).to_pylist() if key else range(row, row + len(texts))
                for name, text in zip(names, texts, strict=True):
                    yield _record(f"{file} row {row}", f"{label} {name}", text)
                    row += 1
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{file} cannot be read as Parquet: {str(error).splitlines()[0]}") from None


def _read_jsonl(file: Path, label: str) -> Iterator[Document]:
    for number, (first, data) in enumerate(_lines(file), start=1):
        line = _decoded(data, file, first)
        if not line.strip():
            continue
        try:
            fields: Any = json.loads(line)
        except ValueError as error:
            raise BadInput(f"{file} line {number} is not JSON: {error}") from None
        if not isinstance(fields, dict) or "text" not in fields:
            there = ", ".join(fields) if isinstance(fields, dict) else type(fields).__name__
            raise BadInput(f"{file} line {number} has no field 'text': it has {there}")
        name = next((fields[key] for key in NAME_FIELDS if key in fields), number)
        yield _record(f"{file} line {number}", f"{label} {name}", fields["text"])


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Bytes of each line and where they start; only a line feed ends a line."""
    first = 0
    try:
        with file.open("rb") as handle:
            for line in handle:
                yield first, line.removesuffix(b"\n")
                first += len(line)
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from None


def _record(place: str, name: str, text: object) -> Document:
    """One row; a row without text is an empty document, which is counted as too short later."""
    if text is None:
        text = ""
    if not isinstance(text, str):
        raise BadInput(f"{place}: 'text' is of type {type(text).__name__}, not a string")
    return Document(name=name, text=text, kind="text")
