"""The figures of a run as SVG and PNG files, drawn in processes of their own beside the page.

Drawing takes most of the time that a report takes, on one core; the files need nothing of the page.
Where there are many trainings, whose maps take a second each, all cores draw.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from energylens.core.errors import EnergylensError

FOLDER = "figures"
MAPS_EACH = 8  # below it, starting a process takes as long as it saves
MOST = 4  # processes: each holds some 500 MB


def write_figures(run_dir: Path, *, part: int = 0, of: int = 1) -> None:
    """Write `figures/NAME.svg` and `.png` for every figure that the records of a run have.

    Of many trainings, each has a map of its own there, as PNG; the page draws its own.

    Args:
        part: Which of `of` equal parts of the figures is drawn.
    """
    from energylens.report.figure import write_files
    from energylens.report.figures import figures
    from energylens.report.heat_maps import heat_maps
    from energylens.report.records import read

    folder = run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    records = read(run_dir)
    drawn = chain(
        ((figure, ("svg", "png")) for figure in figures(records)),
        ((one, ("png",)) for one in heat_maps(records)),
    )
    for figure, kinds in islice(drawn, part, None, of):
        write_files(figure, folder, kinds=kinds)


@contextmanager
def figures_beside(run_dir: Path) -> Iterator[None]:
    """Write the files while the body runs; at its end they are there.

    Raises:
        EnergylensError: If they cannot be written; says why.
    """
    of = _processes(run_dir)
    children = [_draw(run_dir, part, of) for part in range(of)]
    try:
        yield
        said = [child.communicate()[1] for child in children]
    except BaseException:
        for child in children:
            child.kill()
            child.communicate()
        raise
    for child, words in zip(children, said, strict=True):
        if child.returncode:
            last = words.strip().splitlines()[-1:] or ["it did not say why"]
            raise EnergylensError(
                f"the files in {run_dir / FOLDER} could not be written: {last[0]}"
            )


def _draw(run_dir: Path, part: int, of: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "energylens.report.figure_files", str(run_dir)]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [*command, str(part), str(of)], env=found, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _processes(run_dir: Path) -> int:
    """As many as have some maps of trainings to draw each, and as there are cores."""
    try:
        found = pq.read_metadata(run_dir / "tables" / "runs.parquet")
    except (OSError, pa.ArrowInvalid):
        return 1  # a run of something else; a damaged table is told of where it is read
    trainings = found.num_rows if "family" in found.schema.names else 0
    return max(1, min(os.cpu_count() or 1, MOST, trainings // MAPS_EACH))


if __name__ == "__main__":
    write_figures(Path(sys.argv[1]), part=int(sys.argv[2]), of=int(sys.argv[3]))
