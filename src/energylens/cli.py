"""The command line: `energylens list`, `run`, `report` and `compare`.

Exit codes: 0 done; 2 wrong usage or bad input, told in one sentence; 1 anything else.
"""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from energylens.core.errors import BadInput, EnergylensError, Interrupted, UnknownName
from energylens.core.version import VERSION
from energylens.studies.study import STUDIES

_HELP = """\
Energylens: which features a network computes with, and what they do to its energy.

usage:
  energylens list                  studies, one question a line
  energylens run STUDY [options]   run a study; the same command resumes it
                                   (with --dry-run: say what it would do, and how long)
  energylens report RUN_DIR        build a run's page again from its records
  energylens compare RUN RUN       what changed, and which differences exceed their intervals

options:
  --help       this text; after `run STUDY`: the study's options
  --version    version of Energylens
  --debug      show where in the code an error arose

example:
  energylens run energy-lens --model tiny
"""
_COMMANDS = ("list", "run", "report", "compare")
_TAKES = {
    "list": "list takes nothing",
    "report": "report takes one folder",
    "compare": "compare takes two folders",
}
_STOPPED = "stopped; the same command resumes"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    _write_anything()
    try:
        _dispatch([word for word in arguments if word != "--debug"])
    except SystemExit as done:  # the option parser ends so after its help
        return int(done.code or 0)
    except BrokenPipeError:
        return _reader_left()
    except (Exception, KeyboardInterrupt) as error:  # told here, and nowhere else
        if debug:
            raise
        return _report_error(error)
    return 0


def _dispatch(arguments: list[str]) -> None:
    match arguments:
        case [] | ["-h" | "--help", *_]:
            _say(_HELP.rstrip())
        case ["--version"]:
            _say(f"energylens {VERSION}")
        case [command, "-h" | "--help"] if command in _COMMANDS:
            _say(_HELP.rstrip() + "\n\n" + _studies())
        case ["list"]:
            _say(_studies())
        case ["run", *rest]:
            _run(rest)
        case ["report", run_dir] if not run_dir.startswith("-"):
            _rebuild(Path(run_dir))
        case ["compare", first, second] if not any(x.startswith("-") for x in (first, second)):
            _compare(Path(first), Path(second))
        case ["list" | "report" | "compare" as command, *rest]:
            raise BadInput(f"{_TAKES[command]}, and got {' '.join(rest) or 'none'}: see --help")
        case [unknown, *_]:
            raise UnknownName("command", unknown, [*_COMMANDS, "--help", "--version"])


def _studies() -> str:
    width = max((len(name) for name in STUDIES), default=0)
    return "\n".join(f"{s.name.ljust(width)}  {s.question}" for s in STUDIES.values())


def _run(arguments: list[str]) -> None:
    if not arguments or arguments[0].startswith("-"):
        known = ", ".join(STUDIES)
        raise BadInput(f"run takes the name of a study first, then its options: there is {known}")
    from energylens.core.ports import silence
    from energylens.run.arguments import parse
    from energylens.run.edges.collective.torch_distributed import processes
    from energylens.run.execute import execute
    from energylens.run.launch import LAUNCHERS, Means
    from energylens.run.progress import progress_on_stderr

    study = STUDIES[arguments[0]]
    dry, given = "--dry-run" in arguments, [word for word in arguments[1:] if word != "--dry-run"]
    options, place = parse(study, given)
    if dry:
        from energylens.studies.study import check_options

        check_options(options)
        study.planner()(options, _say)
        return
    with processes() as collective:
        first = collective.rank == 0
        say = _say if first else lambda line: None
        progress = progress_on_stderr() if first else silence
        means = Means(workers=place.workers, ask=place.slurm, progress=progress, say=say)
        result = execute(
            study.name, options, place.out, progress=progress, say=say,
            argv=["run", *arguments], track=place.track, collective=collective,
            launcher=LAUNCHERS[place.on](means) if study.tasks else None,
        )  # fmt: skip
    if not first:
        return
    page = result.path / "report.html"
    if place.page and (result.fresh or not page.is_file()):
        page = _build(result.path)
    if not result.fresh:
        _say("this run was done before: nothing was computed again")
    _say(result.summary.finding)
    _say(f"report: {page}" if place.page else f"records: {result.path}")


def _rebuild(run_dir: Path) -> None:
    _finished(run_dir, "report")
    _say(f"report: {_build(run_dir)}")


def _compare(first: Path, second: Path) -> None:
    from energylens.report.comparison import lines
    from energylens.results.compare import compare
    from energylens.results.record import Summary

    runs = [_finished(path, "compare") for path in (first, second)]
    summaries = [
        Summary.from_json((path / "summary.json").read_bytes(), str(path / "summary.json"))
        for path in (first, second)
    ]
    found = compare(summaries[0], summaries[1], runs[0], runs[1])
    _say("\n".join(lines(found, (str(first), str(second)))))


def _finished(run_dir: Path, command: str) -> dict[str, Any]:
    """What `run.json` says of a run that is done and undamaged."""
    from energylens.run.edges.store.folder import verify
    from energylens.run.ledger import read_run

    record = read_run(run_dir)
    if record is None:
        whose = "two" if command == "compare" else "one"
        raise BadInput(
            f"{run_dir} holds no run: {command} takes the folder of {whose}, with a run.json"
        )
    if record.get("status") != "done":
        raise BadInput(f"the run in {run_dir} is not done: resume it with {record.get('command')}")
    if damaged := verify(run_dir):
        raise BadInput(
            f"{run_dir / damaged[0]} is missing or has changed since it was written: "
            f"redo it with {record.get('command')}"
        )
    return record


def _build(run_dir: Path) -> Path:
    from energylens.report.page import build

    return build(run_dir)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _report_error(error: BaseException) -> int:
    text = " ".join(str(error).split())
    if isinstance(error, KeyboardInterrupt | Interrupted):
        line, code = _STOPPED, 1
    elif isinstance(error, BadInput):
        line, code = text, 2
    elif isinstance(error, EnergylensError):
        line, code = text, 1
    else:
        line, code = f"{type(error).__name__}: {text} (--debug shows where)", 1
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)
    sys.stderr.write(f"energylens: {shown}\n")
    return code


def _write_anything() -> None:
    """A terminal that knows ASCII only gets `?` for the rest, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _reader_left() -> int:
    """`energylens list | head -1`: whoever read us has seen enough."""
    sys.stdout = io.StringIO()  # so that the interpreter's last flush has nothing to fail on
    return 0
