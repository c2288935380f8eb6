"""The report: one HTML file from the records of a run, without torch, at rest on any machine."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from energylens.core.files import write_bytes
from energylens.report.battery_methods import BATTERY_METHODS
from energylens.report.cards import cards
from energylens.report.cases import cases
from energylens.report.claims import claim_rows
from energylens.report.dictionary_explorer import dictionary_explorer
from energylens.report.dictionary_methods import DICTIONARY_METHODS
from energylens.report.explorer import Packed, alignment_explorer, pack, table_data
from energylens.report.figure import Column, Drawing, Figure, cell, draw
from energylens.report.figure_files import figures_beside
from energylens.report.figures import figures
from energylens.report.image_methods import IMAGE_METHODS
from energylens.report.mechanism_methods import MECHANISM_METHODS
from energylens.report.method import METHODS, methods, references
from energylens.report.oddities import looked
from energylens.report.original_methods import ORIGINAL_METHODS
from energylens.report.records import Records, read
from energylens.report.runs_explorer import runs_explorer
from energylens.report.training_methods import TRAINING_METHODS
from energylens.results.format import duration, number, several

PAGE = "report.html"
SHOWN_ROWS = 60  # of a table view: the whole table is a click (CSV) or a file (Parquet) away
SCRIPTS = ("page.js", "feature.js", "alignment.js", "dictionary.js", "runs.js", "browser.js")
# What a run that failed early has not said.
UNSAID: dict[str, Any] = {
    "command": "", "key": "", "inputs": {}, "options": {}, "versions": {}, "code": {},
    "hardware": {}, "seconds": 0, "sittings": 0, "peak_memory_mb": None,
}  # fmt: skip
_INDEX = re.compile(r"(?<![A-Za-z])(EFAS|smooth|[A-Za-zΣ])_(?:\{([^{}]+)\}|([A-Za-zĥ]+))")
GRADES = {
    "real": "real model and data",
    "quick": "quick budget: real, but small",
    "control": "control or synthetic: not a finding",
}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A figure as the template needs it."""

    figure: Figure
    drawings: Sequence[Drawing]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[bool]
    more: str
    data: Packed


def build(run_dir: Path) -> Path:
    """Build the page of a run from its records.

    Args:
        run_dir: A run folder: run.json, summary.json, tables/*.parquet.

    Returns:
        The page; beside it, `figures/` holds every figure as SVG and PNG.

    Raises:
        BadInput: If the folder holds no run.
        ArtifactRefused: If a record is damaged.
        EnergylensError: If the files of the figures cannot be written.
    """
    records = read(run_dir)
    path = run_dir / PAGE
    with figures_beside(run_dir):
        shown = [_shown(figure) for figure in figures(records)]
        page = _render(records, shown).encode("utf-8")
    write_bytes(path, page)
    return path


def _render(records: Records, shown: Sequence[Shown]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("energylens.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    style = _asset("page.css")
    script = "".join(_asset(name) for name in SCRIPTS)
    texts = (
        *METHODS, *DICTIONARY_METHODS, *TRAINING_METHODS, *MECHANISM_METHODS, *BATTERY_METHODS,
        *ORIGINAL_METHODS,
    )  # fmt: skip
    told = IMAGE_METHODS if records.unit == "image" else texts
    method = methods(records, told)
    return environment.get_template("page.html.j2").render(
        # Ours, read from the package: the only text that enters the page unescaped.
        style=Markup(style), script=Markup(script), drawing=Markup,
        style_hash=_hash(style), script_hash=_hash(script),
        run={**UNSAID, **records.run}, summary=records.summary, grade=_grade(records.summary),
        strip=strip(records), cards=cards(records.summary), shown=shown,
        explorer=(alignment_explorer(records) or dictionary_explorer(records)
                  or runs_explorer(records)),
        cases=cases(records), claims=claim_rows(records), looked=looked(records),
        tables=[*records.tables.values(), *records.stored.values()], indexed=indexed,
        methods=method, references=references(method), number=number,
        several=several,
    )  # fmt: skip


def indexed(text: str) -> Any:
    """A formula or a paragraph with its indices lowered: of a_f the f, of e_{t−1} the t−1."""
    from markupsafe import Markup, escape

    return Markup(_INDEX.sub(r"\1<sub>\2\3</sub>", str(escape(text))))


def _asset(name: str) -> str:
    return (files("energylens.report") / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()


def _grade(summary: Mapping[str, Any]) -> tuple[str, str]:
    """The grade and its words; an unknown grade counts as the lowest."""
    grade = summary.get("grade")
    grade = grade if grade in GRADES else "control"
    return grade, GRADES[grade]


def _shown(figure: Figure) -> Shown:
    drawings = draw(figure)
    count = len(figure.columns[0].cells)
    data = {
        "tells": list(figure.tells),
        "marks": [drawing.marks for drawing in drawings],
        **table_data(figure.columns),
    }
    more = ""
    if count > SHOWN_ROWS:
        more = f"The first {SHOWN_ROWS} of {several(count, 'row')}; the CSV has them all."
    return Shown(
        figure=figure, drawings=drawings, more=more, data=pack(f"data-{figure.name}", data),
        rows=cells(figure.columns, SHOWN_ROWS), numeric=[_is_numeric(c) for c in figure.columns],
    )  # fmt: skip


def _is_numeric(column: Column) -> bool:
    return not any(isinstance(cell, str) for cell in column.cells[:SHOWN_ROWS])


def cells(columns: Sequence[Column], most: int) -> list[list[str]]:
    """The first rows of a table as text; undefined is a dash."""
    shown = [[cell(one, signed=c.signed) for one in c.cells[:most]] for c in columns]
    return [list(row) for row in zip(*shown, strict=True)]


def strip(records: Records) -> list[tuple[str, str]]:
    """Where the numbers come from, in one line; what a record does not say is left out."""
    run, inputs = records.run, records.run.get("inputs", {})
    models = [entry for name, entry in inputs.items() if name.split(" ")[0] == "model"]
    text, images = inputs.get("text", {}), inputs.get("images", {})
    hardware, tokens = run.get("hardware", {}), _tokens(records)
    seeds = ", ".join(str(seed) for seed in run.get("seeds", []))
    machine = " ".join(
        filter(None, [_cores(hardware), duration(run["seconds"]) if run.get("seconds") else ""])
    )
    words = [
        ("data", records.summary.get("grade", "")),
        ("model" if len(models) == 1 else "models", ", ".join(map(_named, models))),
        ("text", _named(text)),
        ("documents", _documents(text)),
        ("images", _named(images)),
        ("held-out images", f"{images['images']:,}" if images else ""),
        ("training tokens" if records.unit == "document" else "", tokens),
        ("seed" if len(run.get("seeds", [])) == 1 else "seeds", seeds),
        ("run", machine),
        ("energylens", run.get("versions", {}).get("energylens", "")),
        ("date", (run.get("finished") or run.get("started") or "")[:10]),
        ("status", "" if run.get("status") == "done" else run.get("status", "")),
    ]
    return [(name, value) for name, value in words if name and value]


def _documents(text: Mapping[str, Any]) -> str:
    """How many were scored, and of which kinds where there are several."""
    if not text.get("documents"):
        return ""
    kinds = text.get("kinds") or {}
    each = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
    return f"{text['documents']:,}" + (f" ({each})" if len(kinds) > 1 else "")


def _named(thing: Mapping[str, Any]) -> str:
    return " ".join(filter(None, [thing.get("name"), (thing.get("sha256") or "")[:8]]))


def _cores(hardware: Mapping[str, Any]) -> str:
    threads = hardware.get("threads") or hardware.get("cores")
    return f"{several(threads, 'thread')}," if threads else ""


def _tokens(records: Records) -> str:
    table = records.table("dictionaries")
    if table is None or "tokens" not in table.columns:
        return ""
    return f"{int(np.nanmax(table.number('tokens'))):,}"
