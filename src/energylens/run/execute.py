"""Run a study in its folder: once, or as often as it takes until it is done."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from energylens.core.errors import ArtifactRefused, BadInput, EnergylensError, NoRoom
from energylens.core.files import sweep
from energylens.core.ports import Progress, silence
from energylens.results.record import Summary
from energylens.run.edges.store.folder import Folder, verify
from energylens.run.ledger import Ledger, read_run
from energylens.run.lock import hold
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
) -> RunResult:
    """Run a study to its end; parts that an earlier sitting finished are kept.

    Args:
        study_name: A registered study.
        options: An instance of the study's options.
        out: The run's folder; by default one under `runs/`, named after study, subject and key.
        progress: Told how far the work is.
        say: Told single lines that a person may want to read.
        argv: The command line, for the record.
        track: A tracker that is to be told what the study logs, such as `tensorboard`.

    Raises:
        BadInput: If options are out of range, the folder belongs to another run, or the study
            refuses its input; if it does so before a part is finished, nothing is left behind.
        Interrupted: On Ctrl-C or SIGTERM; the same call resumes.
    """
    study = STUDIES[study_name]
    check_options(options)
    check_tracker(track)
    path = out if out is not None else default_folder(study, options)
    refuse_foreign(path, study, options)
    made = not path.exists()
    _make(path)
    with hold(path), stoppable():
        refuse_foreign(path, study, options)  # another process may have been first
        summary = finished(path)
        if summary is not None:
            return RunResult(path=path, summary=summary, fresh=False)
        sweep(path)
        ledger = Ledger(path, study, options, argv)
        tracker = tracker_named(track, path, options_record(options), say) if track else None
        store = Folder(path, on_saved=ledger.note, tracker=tracker)
        try:
            summary = study.function()(options, store=store, progress=progress, say=say)
            if summary.study != study.name:
                raise ValueError(f"study {study.name!r} signed its summary {summary.study!r}")
            ledger.finish(store, summary.to_json())
        except BaseException as error:
            if isinstance(error, BadInput) and not store.has_parts():
                _forget(path, folder_too=made)
            else:
                with suppress(NoRoom):  # on a full disk the error itself says so
                    ledger.fail(_sentence(error))
            raise
        finally:
            if tracker is not None:
                tracker.close()
    return RunResult(path=path, summary=summary)


def default_folder(study: Study, options: Any) -> Path:
    """`runs/<study>-<subject>-<first 8 digits of the key>`."""
    subject = str(options_record(options)[study.subject]) if study.subject else ""
    slug = re.sub(r"[^A-Za-z0-9_.]+", "-", Path(subject).name)[:40].strip("-.")
    return Path("runs") / "-".join(
        part for part in (study.name, slug, run_key(study.name, options)[:8]) if part
    )


def finished(run_dir: Path) -> Summary | None:
    """The summary of a run that is done and undamaged; None if there is still work to do."""
    record = read_run(run_dir)
    try:
        if record is None or record.get("status") != "done" or verify(run_dir):
            return None
        return Summary.from_json((run_dir / "summary.json").read_bytes())
    except ArtifactRefused:
        return None


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
        (path / ".lock").touch()
    except OSError as error:
        raise BadInput(
            f"cannot write in {path} ({error.strerror}): choose another folder with --out"
        ) from error


def _forget(path: Path, *, folder_too: bool) -> None:
    """Input was refused before anything was found: leave no trace that the corrected command
    would stumble over."""
    (path / "run.json").unlink(missing_ok=True)
    if folder_too:
        (path / ".lock").unlink(missing_ok=True)
        with suppress(OSError):  # something else has put a file there
            path.rmdir()


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, EnergylensError) else f"{type(error).__name__}: {text}"
