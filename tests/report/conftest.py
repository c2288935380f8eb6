"""One synthetic run, its page and the browser that shows it, once for all tests of the report."""

import shutil
from pathlib import Path

import pytest

from energylens.report.page import build
from energylens.report.records import Records, read
from tests.report.records import write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


# Of this package, not of the session: while it is open an event loop runs.
@pytest.fixture(scope="package")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield browser
        browser.close()


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
