"""What the documents say is what the program does: their code runs, their pages are current."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from tools import family_table, measure_pages

from energylens.run.arguments import Around
from energylens.studies.study import STUDIES, flag
from tests.common.run_directory import (
    columns_there,
    described_tables,
    of_browsing,
    of_images,
    of_many_runs,
    of_trainings,
    on_request,
)

pytestmark = pytest.mark.timeout(900)  # whole studies run here, on machines that others use too
LONGEST = 800  # seconds of one command
ROOT = Path(__file__).parents[1]
PAGES = [p for p in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if p.is_file()]
TUTORIAL = ROOT / "docs" / "tutorial.md"
_FENCE = re.compile(
    r"(?P<remark><!-- not run: .+ -->\n)?^```(?P<language>python|bash)\n(?P<code>.*?)^```$",
    re.M | re.S,
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fence of Python or shell; `not_run` where a remark above it says why."""

    language: str
    code: str
    line: int
    not_run: bool


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            language=found["language"],
            code=found["code"],
            line=text[: found.start("code")].count("\n"),
            not_run=found["remark"] is not None,
        )
        for found in _FENCE.finditer(text)
    ]


def commands(block: Block) -> list[list[str]]:
    return [c.split() for c in block.code.splitlines() if c.startswith("energylens ")]


def run_page(page: Path) -> None:
    """Run a page from top to bottom in the current folder; its Python shares one namespace."""
    names: dict[str, object] = {"__name__": page.stem}
    for block in blocks(page):
        if block.not_run:
            continue
        if block.language == "python":
            code = "\n" * block.line + block.code  # so that a traceback names the page's line
            exec(compile(code, page, "exec"), names)
            continue
        for command in commands(block):
            answer = subprocess.run(
                [sys.executable, "-m", *command], capture_output=True, text=True, timeout=LONGEST,
                env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_WAIT_POLICY": "PASSIVE"},
            )  # fmt: skip
            assert answer.returncode == 0, f"{page.name}: {' '.join(command)}\n{answer.stderr}"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the tutorial was followed."""
    folder = tmp_path_factory.mktemp("docs")
    before = Path.cwd()
    os.chdir(folder)
    try:
        run_page(TUTORIAL)
    finally:
        os.chdir(before)
    return folder


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page != TUTORIAL and any(not b.not_run for b in blocks(page))],
    ids=lambda page: page.stem,
)
def test_what_a_page_shows_runs(page, place, monkeypatch):
    monkeypatch.chdir(place)
    run_page(page)


def test_the_tutorial_runs_and_leaves_a_report(place):
    assert (place / "runs/tutorial/report.html").stat().st_size > 10_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_options_that_are_named_exist(page):
    text = page.read_text(encoding="utf-8")
    known = {flag(f.name) for study in STUDIES.values() for f in fields(study.options)}
    known |= {flag(f.name) for f in fields(Around)} | {
        "--help",
        "--debug",
        "--version",
        "--dry-run",
        "--no-page",
    }
    named = set(re.findall(r"`(--[a-z-]+)`", text))
    for block in blocks(page):
        named |= {word for c in commands(block) for word in c if word.startswith("--")}
    assert named <= known, f"{page.name} names {sorted(named - known)}"


def test_the_run_directory_is_described_column_by_column(place):
    there = columns_there(place / "runs/tutorial")
    own = {
        name: found for name, found in described_tables().items()
        if not (of_many_runs(name) or of_images(name) or of_browsing(name) or of_trainings(name)
                or on_request(name))
    }  # fmt: skip
    assert own == there


# ---- measures


def test_no_measure_lacks_formula_source_or_null():
    for measure in measure_pages.measures():
        for promise in ("formula", "source", "null", "units"):
            assert getattr(measure, promise), f"{measure.name} has no {promise}"


def test_measure_pages_are_current():
    wanted = measure_pages.pages()
    there = {p.name: p.read_text(encoding="utf-8") for p in measure_pages.FOLDER.glob("*.md")}
    stale = [n for n in wanted.keys() | there.keys() if wanted.get(n) != there.get(n)]
    assert not stale, f"run `make docs`: {sorted(stale)} in docs/measures differ from the code"


def test_a_measure_page_says_what_was_registered():
    page = measure_pages.pages()["free_energy.md"]
    for said in ("E(h) = −logsumexp", "| units | nats |", "free_energy(", "zero"):
        assert said in page


# ---- families


def test_the_page_of_families_is_current():
    there = family_table.PAGE.read_text(encoding="utf-8")
    assert there == family_table.page(), "run `make docs`: docs/families.md differs from the code"
