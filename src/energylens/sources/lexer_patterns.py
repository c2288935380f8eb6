"""Regular expressions: what the lexers of Pygments match, read from their syntax trees."""

import ast
from collections.abc import Iterator
from pathlib import Path

from energylens.sources.document import Document
from energylens.sources.reference import package_folder

PACKAGE = "pygments"
KIND = "patterns"
# Share of a document that must be marks of regular expressions: lists of words have few.
LEAST_DENSITY = 0.2
FEWEST_CHARACTERS = 400
_MARKS = frozenset(r"\[](){}|?*+^$.")


def lexer_patterns() -> list[Document]:
    """The patterns of each file of lexers, a line a pattern; a file is a family of languages.

    What is dense in words rather than in patterns is left out.
    """
    folder = package_folder(PACKAGE)
    files = sorted(folder.glob("lexers/*.py")) if folder else []
    documents = []
    for file in files:
        if file.name.startswith("_"):  # lists of the words of one language
            continue
        text = "\n".join(_patterns(file))
        if len(text) >= FEWEST_CHARACTERS and _density(text) >= LEAST_DENSITY:
            name = f"Pygments {file.stem} patterns"
            documents.append(Document(name=name, text=text, kind=KIND))
    return documents


def _density(text: str) -> float:
    return sum(character in _MARKS for character in text) / len(text)


def _patterns(file: Path) -> Iterator[str]:
    """First members of the tuples in each class's table of rules, where they are plain strings."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # ValueError: bytes that are no source
        return
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        for statement in node.body:
            if isinstance(statement, ast.Assign) and _is_rules(statement.targets[0]):
                yield from _first_strings(statement.value)


def _is_rules(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == "tokens"


def _first_strings(rules: ast.expr) -> Iterator[str]:
    for node in ast.walk(rules):
        if isinstance(node, ast.Tuple) and node.elts and isinstance(node.elts[0], ast.Constant):
            pattern = node.elts[0].value
            if isinstance(pattern, str) and len(pattern) > 1:
                yield pattern
