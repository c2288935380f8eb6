"""Write one documentation page for each registered measure, and their table.

`make docs` runs it; `tests/test_docs.py` fails where a page differs from what this writes.
Signatures and docstrings are read from the source text, so that a page is the same under any
Python and with or without run-time checks.
"""

import ast
import importlib
import importlib.util
import pkgutil
import re
from pathlib import Path

import energylens
from energylens.core.axes import AXES
from energylens.core.registry import MEASURES, Measure

FOLDER = Path(__file__).parents[1] / "docs" / "measures"
WITHOUT_MEASURES = {"energylens.studies", "energylens.run", "energylens.report"}
INDEX_HEAD = """\
# Measures

Every measure is registered with the formula it computes, where that comes from, and the null it
has to beat; one that lacks any of them fails the tests. These pages are written from the code by
`make docs`: edit the docstring, not the page.

| measure | what it is | units | null |
|---|---|---|---|
"""
FOR_CUDA = frozenset({"energylens.core.sparse_triton"})
"""Modules that need a package which is there with CUDA alone."""
_SECTION = re.compile(r"^(Args|Returns|Raises|Attributes|Example|Examples|Note):$")
_ENTRY = re.compile(r"^([\w*]+(?:, [\w*]+)*): (.*)$")


def measures() -> list[Measure]:
    """All measures of the package, by name; those that tests register are left out."""
    for room in pkgutil.iter_modules(energylens.__path__, prefix="energylens."):
        if room.ispkg and room.name not in WITHOUT_MEASURES:
            path = importlib.import_module(room.name).__path__
            for info in pkgutil.walk_packages(path, prefix=f"{room.name}."):
                if info.name not in FOR_CUDA:
                    importlib.import_module(info.name)
    own = [m for m in MEASURES.values() if m.function.__module__.startswith("energylens.")]
    return sorted(own, key=lambda m: m.name)


def definition(measure: Measure) -> ast.FunctionDef:
    """The function's definition in its source file."""
    spec = importlib.util.find_spec(measure.function.__module__)
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return next(
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == measure.name
    )


def signature(node: ast.FunctionDef) -> str:
    """The signature, one argument a line."""
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    gaps: list[ast.expr | None] = [None] * (len(plain) - len(arguments.defaults))
    lines = [_argument(a, d) for a, d in zip(plain, [*gaps, *arguments.defaults], strict=True)]
    if arguments.kwonlyargs:
        lines.append("*")
        keyword = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        lines += [_argument(a, d) for a, d in keyword]
    body = "".join(f"    {line},\n" for line in lines)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}(\n{body}){returns}"


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(argument) + (f" = {ast.unparse(default)}" if default else "")


def prose(docstring: str) -> str:
    """A Google-style docstring as Markdown; sections become headings, examples code."""
    out: list[str] = []
    section = ""
    for line in docstring.splitlines():
        if found := _SECTION.match(line):
            section = found[1]
            out += ["## " + {"Args": "Arguments"}.get(section, section), ""]
        elif section.startswith("Example"):
            out.append(line[4:])
        elif section and (entry := _ENTRY.match(line.strip())) and line.startswith("    "):
            out.append(f"- `{entry[1]}`: {entry[2]}")
        elif section and line.strip():
            out.append(("  " if out[-1].startswith(("- ", "  ")) else "") + line.strip())
        else:
            out.append(line)
    return _fence_examples("\n".join(out))


def _fence_examples(text: str) -> str:
    """Put each run of doctest lines into a code fence."""
    blocks = re.split(r"\n(?=>>> )", text)
    if len(blocks) == 1:
        return text
    code = "\n".join(blocks[1:]).strip()
    return f"{blocks[0]}\n```pycon\n{code}\n```"


def page(measure: Measure) -> str:
    """The page of one measure."""
    node = definition(measure)
    summary, _, rest = (ast.get_docstring(node) or "").partition("\n")
    axes = "; ".join(f"{axis} ({AXES[axis]})" for axis in measure.axes)
    rows = {
        "formula": f"`{measure.formula}`",
        "units": measure.units,
        "one value for each": axes or "whole sample",
        "null": measure.null,
        "unchanged by": "; ".join(measure.unchanged_by) or "nothing is promised",
        "source": measure.source,
        "code": f"`{measure.function.__module__}.{measure.name}`",
    }
    table = "".join(f"| {key} | {_cell(value)} |\n" for key, value in rows.items())
    return (
        f"# {measure.name}\n\n{summary}\n\n| | |\n|---|---|\n{table}\n"
        f"```text\n{signature(node)}\n```\n\n{prose(rest.strip())}".rstrip()
        + "\n"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def index(all_measures: list[Measure]) -> str:
    """The table of all measures."""
    rows = ""
    for measure in all_measures:
        summary = (ast.get_docstring(definition(measure)) or "").partition("\n")[0]
        cells = [f"[{measure.name}]({measure.name}.md)", summary, measure.units, measure.null]
        rows += "| " + " | ".join(_cell(cell) for cell in cells) + " |\n"
    return INDEX_HEAD + rows


def pages() -> dict[str, str]:
    """File name to text, of everything that belongs into the folder."""
    every = measures()
    return {"index.md": index(every)} | {f"{m.name}.md": page(m) for m in every}


def write(folder: Path = FOLDER) -> None:
    """Bring the folder up to date; pages of measures that are gone are removed."""
    wanted = pages()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
