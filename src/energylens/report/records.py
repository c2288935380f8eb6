"""The records of one run, read once and cleaned at the door: run.json, summary.json, tables/*."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.results.text import visible

MOST_JSON = 32 * 2**20  # bytes; a larger record is not one of ours
BATCH = 8192  # rows of a stored table that are decoded at a time
SENTENCE = 4000  # characters kept of a text in JSON
CELL = 120  # and of a text in a table, unless its column is one of sentences

# Tables of a row or more a feature and place: read some columns, or some rows, at a time.
STREAMED = ("browse_features", "browse_contexts", "browse_windows", "browse_coactivations",
            "measurements", "training")  # fmt: skip

# The energy that a study's findings rest on: of a language model, of a classifier.
HEADLINES = ("downstream", "class_margin")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as columns: numbers as float64 with nan for null, text cleaned, lists as they are."""

    name: str
    columns: Mapping[str, Any]
    rows: int

    def number(self, column: str) -> np.ndarray:
        """A column of numbers or truth values; null is nan."""
        return np.asarray(self._column(column), dtype=np.float64)

    def text(self, column: str) -> list[str]:
        return ["" if cell is None else cell for cell in self._column(column)]

    def lists(self, column: str) -> list[list[Any]]:
        return [cell or [] for cell in self._column(column)]

    def where(self, keep: Any) -> "Table":
        """The rows that a mask or a list of row numbers keeps."""
        index = np.arange(self.rows)[keep]
        kept = {
            name: cells[index] if isinstance(cells, np.ndarray) else [cells[i] for i in index]
            for name, cells in self.columns.items()
        }
        return Table(name=self.name, columns=kept, rows=len(index))

    def headline(self) -> "Table":
        """The rows of the energy that the findings rest on."""
        kept = [energy in HEADLINES for energy in self.text("energy")]
        return self.where(np.array(kept, dtype=bool))

    def equal(self, column: str, value: str) -> "Table":
        return self.where(np.array([cell == value for cell in self.text(column)], dtype=bool))

    def _column(self, column: str) -> Any:
        if column not in self.columns:
            raise _without(self.name, column, self.columns)
        return self.columns[column]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A table that stays on the disk; its text is not cleaned: `Table` does that, as it is read."""

    name: str
    path: Path
    columns: tuple[str, ...]
    rows: int

    def table(self, *columns: str) -> Table:
        """All rows of a few columns.

        Raises:
            ArtifactRefused: If a column is absent, or the file is damaged.
        """
        self._need(columns)
        with _refusing(self.path):
            read = pq.read_table(self.path, columns=list(columns))
        cells = {name: _cells(read.column(name)) for name in columns}
        return Table(name=self.name, columns=cells, rows=read.num_rows)

    def blocks(self, column: str, size: int, *columns: str) -> Iterator[tuple[int, pa.Table]]:
        """Rows whose number in `column` is of one block of `size` numbers, block after block.

        The rows must be in the order of that column; blocks without a row are passed over. No more
        than a block and a batch are in memory.

        Raises:
            ArtifactRefused: If a column is absent, or the file is damaged.
        """
        self._need((column, *columns))
        held: list[pa.RecordBatch] = []
        now = -1
        with _refusing(self.path), pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(BATCH, columns=[column, *columns]):
                number = batch.column(column).to_numpy(zero_copy_only=False) // size
                edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(number)]
                for start, end in pairwise(edges):
                    if end > start and number[start] != now:
                        if held:
                            yield now, pa.Table.from_batches(held)
                        held, now = [], int(number[start])
                    held.append(batch.slice(start, end - start))
        if held:
            yield now, pa.Table.from_batches(held)

    def _need(self, columns: Sequence[str]) -> None:
        if missing := [name for name in columns if name not in self.columns]:
            raise _without(self.name, missing[0], self.columns)


@dataclass(frozen=True, kw_only=True)
class Records:
    """What a study left behind."""

    run: Mapping[str, Any]
    summary: Mapping[str, Any]
    tables: Mapping[str, Table] = field(default_factory=dict)
    stored: Mapping[str, Stored] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """What the statistics count as independent: an image where the run read images."""
        return "image" if "images" in self.run.get("inputs", {}) else "document"

    @property
    def place(self) -> str:
        """What lies within a unit."""
        return "position" if self.unit == "image" else "token"

    def table(self, name: str) -> Table | None:
        """The table, or None where it is absent or empty."""
        found = self.tables.get(name)
        return found if found and found.rows else None

    def there(self, name: str) -> bool:
        """Whether there is such a table with rows, in memory or on the disk."""
        found = self.tables.get(name) or self.stored.get(name)
        return found is not None and found.rows > 0


def finite(values: np.ndarray) -> np.ndarray:
    """What of it is defined."""
    return values[np.isfinite(values)]


def read(run_dir: Path) -> Records:
    """Read a run folder.

    Raises:
        BadInput: If the folder holds no run.
        ArtifactRefused: If a record is damaged.
    """
    paths = sorted((run_dir / "tables").glob("*.parquet"))
    return Records(
        run=_json(run_dir / "run.json"),
        summary=_json(run_dir / "summary.json"),
        tables={path.stem: _table(path) for path in paths if path.stem not in STREAMED},
        stored={path.stem: _stored(path) for path in paths if path.stem in STREAMED},
    )


def _json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise BadInput(
            f"{path.parent} has no {path.name}: name a folder that a finished `energylens run` made"
        )
    if path.stat().st_size > MOST_JSON:
        raise ArtifactRefused(
            f"{path} is larger than {MOST_JSON >> 20} MB: it is no record of ours"
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ArtifactRefused(f"{path} is not valid JSON ({error}): rerun the study") from error
    if not isinstance(record, dict):
        raise ArtifactRefused(f"{path} holds a {type(record).__name__}, not an object")
    return _clean(record, SENTENCE)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _without(table: str, column: str, there: Iterable[str]) -> ArtifactRefused:
    return ArtifactRefused(
        f"tables/{table}.parquet has no column {column!r}, only {', '.join(there)}: rerun the study"
        " with this version"
    )


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Damage in one sentence."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise ArtifactRefused(f"{path} cannot be read as Parquet: rerun the study") from error


def _stored(path: Path) -> Stored:
    with _refusing(path), pq.ParquetFile(path) as file:
        return Stored(name=path.stem, path=path, columns=tuple(file.schema_arrow.names),
                      rows=file.metadata.num_rows)  # fmt: skip


def _table(path: Path) -> Table:
    with _refusing(path):
        read = pq.read_table(path)
    columns = {
        name: _cells(read.column(name), SENTENCE if name == "sentence" else CELL)
        for name in read.column_names
    }
    return Table(name=path.stem, columns=columns, rows=read.num_rows)


def _cells(column: Any, most: int = CELL) -> Any:
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.cast(pa.float64()).to_numpy()
    return _clean(column.to_pylist(), most)


def _clean(value: Any, most: int) -> Any:
    if isinstance(value, str):
        return visible(value, most=most)
    if isinstance(value, list):
        return [_clean(item, most) for item in value]
    if isinstance(value, dict):
        return {visible(key): _clean(item, most) for key, item in value.items()}
    return value
