"""One synthetic run and its page, built once for all tests of the report."""

from pathlib import Path

import pytest

from energylens.report.page import build
from energylens.report.records import Records, read
from tests.report.records import write_run


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("report") / "a run")
    build(folder)
    return folder


@pytest.fixture(scope="session")
def records(run_dir: Path) -> Records:
    return read(run_dir)


@pytest.fixture(scope="session")
def html(run_dir: Path) -> str:
    return (run_dir / "report.html").read_text(encoding="utf-8")
