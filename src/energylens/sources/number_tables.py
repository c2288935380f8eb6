"""Tables of numbers that scikit-learn, matplotlib and SciPy carry: read as text, none imported."""

import ast
import gzip
import re
import zlib
from collections.abc import Iterator

from energylens.sources.document import Document
from energylens.sources.reference import package_folder

PACKAGES = ("scikit-learn", "matplotlib", "scipy")
KIND = "numbers"
# Rows are independent records here (a patient, a wine, a flower, an image), so that documents may
# share a table; they are few, lest one table be what "numbers" means.
_RECORDS = {
    "breast_cancer.csv": 8, "wine_data.csv": 6, "iris.csv": 3, "diabetes_data_raw.csv.gz": 6,
    "digits.csv.gz": 8,
}  # fmt: skip
# One document each: rows follow upon one another, or repeat the same quantity.
_WHOLE = ("Stocks.csv", "msft.csv")
_CERTIFIED = ("nist_anova/AtmWtAg.dat", "nist_anova/SiRstv.dat", "nist_linregress/Norris.dat")


def number_tables() -> list[Document]:
    """All that are installed, the name of each saying from where."""
    return [*_records(), *_series(), *_colour_maps(), *_typefaces(), *_physics()]


def _text(package: str, *path: str) -> str:
    """A file of a package, empty where it is not there or damaged."""
    folder = package_folder(package)
    file = folder.joinpath(*path) if folder else None
    if file is None or not file.is_file():
        return ""
    content = file.read_bytes()
    if file.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            return ""
    return content.decode("utf-8", "replace")


def _records() -> Iterator[Document]:
    """Every n-th record of a table: no record is in two documents."""
    for file, documents in _RECORDS.items():
        rows = _text("sklearn", "datasets", "data", file).splitlines()
        if rows and re.search("[a-z]", rows[0]):  # names of the classes
            rows = rows[1:]
        for number in range(documents if rows else 0):
            yield Document(
                name=f"scikit-learn {file} records {number + 1}, {number + 1 + documents}, …",
                text="\n".join(rows[number::documents]), kind=KIND,
            )  # fmt: skip


def _series() -> Iterator[Document]:
    for file in _WHOLE:
        if text := _text("matplotlib", "mpl-data", "sample_data", file):
            yield Document(name=f"matplotlib {file}", text=text, kind=KIND)


def _colour_maps() -> Iterator[Document]:
    """Red, green and blue of each colour map, a line a colour."""
    source = _text("matplotlib", "_cm_listed.py")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
            (target,) = node.targets
            written = ast.get_source_segment(source, node.value) or ""
            rows = re.findall(r"\[\s*([-\d.,\s]+?)\s*\]", written)
            if isinstance(target, ast.Name) and rows:
                name = target.id.strip("_").removesuffix("_data")
                yield Document(name=f"matplotlib colours {name}", text="\n".join(rows), kind=KIND)


def _typefaces() -> Iterator[Document]:
    """Widths and boxes of characters: one cut of each typeface, for bold and italic are alike."""
    folder = package_folder("matplotlib")
    files = sorted(folder.glob("mpl-data/fonts/afm/*.afm")) if folder else []
    for file in {file.name[:3]: file for file in reversed(files)}.values():
        _, _, after = file.read_text(encoding="latin-1").partition("StartCharMetrics")
        table, end, _ = after.partition("EndCharMetrics")
        if end:
            _, _, rows = table.partition("\n")
            yield Document(name=f"matplotlib {file.name}", text=rows, kind=KIND)


def _physics() -> Iterator[Document]:
    """Constants of nature, and measured series whose statistics NIST certifies."""
    source = _text("scipy", "constants", "_codata.py")
    tables = re.findall(r'^txt(\d{4}) = """\\?\n(.*?)"""', source, re.DOTALL | re.MULTILINE)
    if tables:
        year, rows = max(tables)  # the others measure the same constants
        yield Document(name=f"SciPy CODATA {year}", text=rows, kind=KIND)
    for file in _CERTIFIED:
        _, _, rows = _text("scipy", "stats", "tests", "data", *file.split("/")).rpartition("Data:")
        if rows:
            yield Document(name=f"SciPy {file.split('/')[-1]}", text=rows, kind=KIND)
