"""Runs the tasks of a study until all are done, with a launcher that need not be reliable."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from energylens.core.errors import BadInput, TasksLost
from energylens.core.lock import held
from energylens.core.ports import Ending, Launcher, Progress, Store, Task, silence
from energylens.core.registry import Registry
from energylens.run.arguments import command_line, parse
from energylens.run.edges.store.folder import Folder
from energylens.run.ledger import finished, read_run
from energylens.run.stop import STOPPED
from energylens.studies.study import STUDIES

TASKS = "tasks"  # in the folder of the run around them
REFUSED = 2  # exit code of a run that cannot use its input
WAIT_SECONDS = 1.0

F = TypeVar("F", bound=Callable[["Means"], Launcher])


@dataclass(frozen=True, kw_only=True)
class Means:
    """What a launcher may use.

    Attributes:
        workers: Tasks at the same time; 0: as many as it finds right.
        ask: What a cluster is asked for each task, as in `time=60`.
        progress: Told how far the work is, where it is done in this process.
        say: Told single lines that a person may want to read.
        program: What runs `run STUDY …`, where that is another process.
    """

    workers: int = 0
    ask: tuple[str, ...] = ()
    progress: Progress = silence
    say: Callable[[str], None] = lambda line: None
    program: tuple[str, ...] = (sys.executable, "-m", "energylens")


LAUNCHERS: Registry[Callable[[Means], Launcher]] = Registry(
    "launcher", "energylens.run.edges.launch"
)


def launcher(name: str) -> Callable[[F], F]:
    """Register what makes a launcher of some means."""

    def register(make: F) -> F:
        LAUNCHERS.add(name, make)
        return make

    return register


def run_tasks(
    tasks: Sequence[Task],
    *,
    root: Path,
    launcher: Launcher | None,
    progress: Progress,
    say: Callable[[str], None],
) -> Mapping[str, Store]:
    """Run every task that is not done yet; returns their stores by the names of their folders.

    A task that ends early is tried once more, and after that for as long as each try finishes a
    part, or saves a checkpoint, that the one before had not: so a cluster's time limit costs time,
    not the run. One that breaks with the same error twice is not tried again.

    Args:
        tasks: Their folders are plain names, each its own.
        root: Folder of the run around them; theirs are in `tasks/` below it.
        launcher: By default `inline`.
        progress: Told of each task that is done.
        say: Told of each task that ended early, with its last line.

    Raises:
        BadInput: If a task refuses its input.
        TasksLost: If tasks ended early again, and none came further.
    """
    placed = [_placed(task, root / TASKS) for task in tasks]
    if twice := len(placed) - len({task.folder for task in placed}):
        raise ValueError(f"{twice} tasks share a folder with another")
    launch = launcher or LAUNCHERS["inline"](Means(progress=progress, say=say))
    with _share_of_work(placed, progress) as done:
        left = _unfinished(placed)
        for task in placed:
            if task not in left:
                done(task)
        tried_before = False
        while left:
            left = _try(left, launch, done, say, last_try=tried_before)
            tried_before = True
    return {task.folder.name: Folder(task.folder) for task in placed}


@contextmanager
def _share_of_work(tasks: Sequence[Task], progress: Progress) -> Iterator[Callable[[Task], None]]:
    """Tell the share of all work that is done, since the longest task may take a hundred times as
    long as the shortest."""
    whole, done, told = sum(task.work for task in tasks), 0.0, 0
    label = f"{len(tasks)} task{'s' * (len(tasks) != 1)}"
    with progress.task(label, 100, "%") as advance:

        def tell(task: Task) -> None:
            nonlocal done, told
            done += task.work
            percent = round(100 * done / whole)
            advance(percent - told)
            told = percent

        yield tell


def _try(
    tasks: Sequence[Task],
    launch: Launcher,
    done: Callable[[Task], None],
    say: Callable[[str], None],
    *,
    last_try: bool,
) -> list[Task]:
    """Try each once that no other process is at; returns those that are worth another try."""
    free = [task for task in tasks if not held(task.folder)]
    before = {task.folder: _parts(task.folder) for task in free}
    broke = {task.folder: _failure(task.folder) for task in free}
    endings: dict[Path, Ending] = {}

    def ended(task: Task, ending: Ending) -> None:
        if finished(task.folder) is not None:
            done(task)
        elif ending.code == REFUSED and not held(task.folder):
            raise BadInput(f"task {task.folder.name}: {ending.last}")
        else:
            endings[task.folder] = ending
            say(f"task {task.folder.name} ended early: {_told(ending)}")

    if free:
        launch(free, ended=ended)
    _wait_for_others(tasks, say)
    left = _unfinished(tasks)
    stuck = [
        task for task in left if task.folder in before
        and (_parts(task.folder) == before[task.folder]
             or "" != _failure(task.folder) == broke[task.folder])
    ]  # fmt: skip
    if stuck and last_try:
        first = stuck[0].folder
        raise TasksLost(
            f"{len(stuck)} of {len(tasks)} tasks ended early again without coming further, first"
            f" {first.name} ({_told(endings.get(first, Ending(code=None)))}): mend the cause, then"
            " the same command tries them again"
        )
    return left


def words(task: Task) -> list[str]:
    """What the program is given to run a task: `run STUDY … --out FOLDER`, without a page: nobody
    waits for it, and the run around the tasks shows what they found."""
    study = STUDIES[task.study]
    said = command_line(study, task.options)
    return ["run", study.name, *said, "--no-page", "--out", str(task.folder)]


def last_line(log: Path) -> str:
    """The last line of a log that says something, without our own name in front."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").splitlines()
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return said.removeprefix("energylens: ")[:300]


def _placed(task: Task, root: Path) -> Task:
    """In its folder, and with its options as a command line would give them, so that a run that
    one launcher began is the same run for another."""
    study, name = STUDIES[task.study], str(task.folder)
    if task.folder.name != name or name.startswith("."):
        raise ValueError(f"{name!r} cannot name a task: use a plain word")
    options, _ = parse(study, command_line(study, task.options))
    return replace(task, options=options, folder=(root / name).absolute())


def _unfinished(tasks: Sequence[Task]) -> list[Task]:
    return [task for task in tasks if finished(task.folder) is None]


def _parts(folder: Path) -> frozenset[tuple[str, int]]:
    """Marks of finished parts and checkpoints of those at work: what changes if, and only if, a
    run comes further."""
    kept = ("parts", "scratch/parts", "work")
    found = (file for name in kept for file in (folder / name).rglob("*") if file.is_file())
    return frozenset((file.name, file.stat().st_mtime_ns) for file in found)


def _failure(folder: Path) -> str:
    """What a run broke with; empty if it did not, or was stopped from outside."""
    error = (read_run(folder) or {}).get("error") or ""
    return "" if error == STOPPED else error


def _wait_for_others(tasks: Sequence[Task], say: Callable[[str], None]) -> None:
    """Somebody may have started one of the tasks by hand, or in a sitting that was killed."""
    for task in tasks:
        if held(task.folder):
            say(f"waiting for task {task.folder.name}, which another process runs")
        while held(task.folder):
            time.sleep(WAIT_SECONDS)


def _told(ending: Ending) -> str:
    how = "" if ending.code is None else f"exit code {ending.code}"
    return ", ".join(filter(None, [how, ending.last])) or "it left no word"
