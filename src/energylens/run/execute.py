"""Run a study in its folder: once, or as often as it takes until it is done."""

import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from energylens.core.errors import BadInput, EnergylensError, NoRoom
from energylens.core.files import LOCK, sweep
from energylens.core.lock import hold
from energylens.core.ports import Collective, Launcher, Progress, silence, solo
from energylens.results.record import Summary
from energylens.run.edges.store.folder import Folder
from energylens.run.launch import TASKS, run_tasks
from energylens.run.ledger import Ledger, finished, read_run
from energylens.run.shared import SharedStore
from energylens.run.stop import stoppable
from energylens.run.track import check_tracker, tracker_named
from energylens.studies.study import STUDIES, Study, check_options, flag, options_record, run_key


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Where a run is, and what it found.

    Attributes:
        path: The run's folder.
        summary: The finding.
        fresh: False if the run had been done before and nothing was computed.
    """

    path: Path
    summary: Summary
    fresh: bool = True


def execute(
    study_name: str,
    options: Any,
    out: Path | None = None,
    *,
    progress: Progress = silence,
    say: Callable[[str], None] = lambda line: None,
    argv: Sequence[str] = (),
    track: str = "",
    collective: Collective = solo,
    launcher: Launcher | None = None,
) -> RunResult:
    """Run a study to its end; parts that an earlier sitting finished are kept.

    Where several processes run it together, each calls this with the same arguments: the first
    alone holds and writes the folder, on a disk that the others can read.

    Args:
        study_name: A registered study.
        options: An instance of the study's options.
        out: The run's folder; by default one under `runs/`, named after study, subject and key.
        progress: Told how far the work is.
        say: Told single lines that a person may want to read.
        argv: The command line, for the record.
        track: A tracker that is to be told what the study logs, such as `tensorboard`.
        collective: The processes that run the study together.
        launcher: Runs the tasks of a study that has some; by default here, one after another.

    Raises:
        BadInput: If options are out of range, the folder belongs to another run, the study is one
            for a single process, or it refuses its input; if it does so before a part is finished,
            nothing is left behind.
        Interrupted: On Ctrl-C or SIGTERM; the same call resumes.
        TasksLost: If tasks ended early again and again; the same call tries them again.
    """
    study = STUDIES[study_name]
    check_options(options)
    check_tracker(track)
    if collective.world > 1 and not study.parallel:
        raise BadInput(
            f"{study.name} works in one process, and {collective.world} were started: start it"
            " without torchrun"
        )
    path = out if out is not None else default_folder(study, options)
    with stoppable(), ExitStack() as held:
        made = not path.exists()
        done = collective.once(lambda: _enter(path, study, options, held))
        if done is not None:
            return RunResult(path=path, summary=Summary.from_json(done.encode()), fresh=False)
        if collective.rank:
            summary = _work(study, options, _seen(path, collective), collective, progress, say)
            return RunResult(path=path, summary=summary)
        ledger = Ledger(path, study, options, argv, processes=collective.world)
        tracker = tracker_named(track, path, options_record(options), say) if track else None
        store = Folder(path, on_saved=ledger.note, tracker=tracker)
        try:
            summary = _work(study, options, store, collective, progress, say, launcher)
            if summary.study != study.name:
                raise ValueError(f"study {study.name!r} signed its summary {summary.study!r}")
            ledger.finish(store, summary.to_json())
        except BaseException as error:
            if isinstance(error, BadInput) and not store.has_parts() and not _tasks(path):
                _forget(path, folder_too=made)
            else:
                with suppress(NoRoom):  # on a full disk the error itself says so
                    ledger.fail(_sentence(error))
            raise
        finally:
            if tracker is not None:
                tracker.close()
    return RunResult(path=path, summary=summary)


def _enter(path: Path, study: Study, options: Any, held: ExitStack) -> str | None:
    """Hold the run's folder from now on; the summary as JSON if there is nothing left to do."""
    refuse_foreign(path, study, options)
    _make(path)
    held.enter_context(hold(path))
    refuse_foreign(path, study, options)  # another process may have been first
    summary = finished(path)
    if summary is not None:
        return summary.to_json().decode()
    sweep(path)
    return None


def _seen(path: Path, collective: Collective) -> Folder:
    """The folder that the first process writes, for the others."""
    if not path.is_dir():
        raise BadInput(
            f"process {collective.rank + 1} of {collective.world} cannot see {path.absolute()}:"
            " choose a folder with --out that lies on a disk of all machines"
        )
    return Folder(path)


def _work(
    study: Study,
    options: Any,
    folder: Folder,
    collective: Collective,
    progress: Progress,
    say: Callable[[str], None],
    launcher: Launcher | None = None,
) -> Summary:
    work: Callable[..., Summary] = study.function()
    if study.tasks:
        work = partial(work, launch=partial(
            run_tasks, root=folder.path, launcher=launcher, progress=progress, say=say
        ))  # fmt: skip
    if not study.parallel:
        return work(options, store=folder, progress=progress, say=say)
    store = SharedStore(folder, collective)
    return work(options, store=store, progress=progress, say=say, collective=collective)


def default_folder(study: Study, options: Any) -> Path:
    """`runs/<study>-<subject>-<first 8 digits of the key>`."""
    subject = str(options_record(options)[study.subject]) if study.subject else ""
    slug = re.sub(r"[^A-Za-z0-9_.]+", "-", Path(subject).name)[:40].strip("-.")
    return Path("runs") / "-".join(
        part for part in (study.name, slug, run_key(study.name, options)[:8]) if part
    )


def refuse_foreign(path: Path, study: Study, options: Any) -> None:
    """Never write into a folder that holds anything but this very run.

    Raises:
        BadInput: Says what the folder holds, and what to do.
    """
    if path.exists() and not path.is_dir():
        raise BadInput(f"{path} is a file: --out takes a folder")
    record = read_run(path)
    if record is None:
        if path.exists() and any(not entry.name.startswith(".") for entry in path.iterdir()):
            raise BadInput(f"{path} holds files that are no run: choose another folder with --out")
    elif record["study"] != study.name:
        raise BadInput(
            f"{path} holds a run of {record['study']}, not of {study.name}: "
            "choose another folder with --out"
        )
    elif record.get("key") != run_key(study.name, options):
        raise BadInput(
            f"{path} holds a run with other options ({_differences(record, options)}): "
            "repeat those to resume it, or choose another folder with --out"
        )


def _differences(record: dict[str, Any], options: Any) -> str:
    there, asked = record.get("options", {}), options_record(options)
    names = [n for n in {**there, **asked} if there.get(n) != asked.get(n)]
    shown = [f"{flag(n)} {there.get(n)!r} there, {asked.get(n)!r} asked" for n in names[:3]]
    return "; ".join(shown) + ("; and more" if len(names) > 3 else "")


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / LOCK).touch()
    except OSError as error:
        raise BadInput(
            f"cannot write in {path} ({error.strerror}): choose another folder with --out"
        ) from error


def _tasks(path: Path) -> list[Path]:
    """Folders of tasks that have begun."""
    return list((path / TASKS).glob("*/run.json"))


def _forget(path: Path, *, folder_too: bool) -> None:
    """Input was refused before anything was found: leave no trace that the corrected command
    would stumble over."""
    (path / "run.json").unlink(missing_ok=True)
    shutil.rmtree(path / TASKS, ignore_errors=True)  # logs alone
    if folder_too:
        (path / LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # something else has put a file there
            path.rmdir()


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, EnergylensError) else f"{type(error).__name__}: {text}"
