"""The figures of a run as SVG and PNG files, drawn in a process of its own beside the page.

Drawing takes most of the time that a report takes, on one core; the files need nothing of the page.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from energylens.core.errors import EnergylensError

FOLDER = "figures"


def write_figures(run_dir: Path) -> None:
    """Write `figures/NAME.svg` and `.png` for every figure that the records of a run have.

    Of many trainings, each has a map of its own there, as PNG; the page draws its own.
    """
    from energylens.report.figure import write_files
    from energylens.report.figures import figures
    from energylens.report.heat_maps import heat_maps
    from energylens.report.records import read

    folder = run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    records = read(run_dir)
    for figure in figures(records):
        write_files(figure, folder)
    for one in heat_maps(records):
        write_files(one, folder, kinds=("png",))


@contextmanager
def figures_beside(run_dir: Path) -> Iterator[None]:
    """Write the files while the body runs; at its end they are there.

    Raises:
        EnergylensError: If they cannot be written; says why.
    """
    command = [sys.executable, "-m", "energylens.report.figure_files", str(run_dir)]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        command, env=found, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        try:
            yield
        except BaseException:
            child.kill()
            raise
        _, said = child.communicate()
    if child.returncode:
        last = said.strip().splitlines()[-1:] or ["it did not say why"]
        raise EnergylensError(f"the files in {run_dir / FOLDER} could not be written: {last[0]}")


if __name__ == "__main__":
    write_figures(Path(sys.argv[1]))
