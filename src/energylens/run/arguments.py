"""From the words of a command line to a study's options; every fault is one plain sentence."""

import io
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import MISSING, dataclass, field, fields, make_dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from energylens.core.errors import BadInput, nearest
from energylens.studies.study import Range, Study, check_options, flag, leaves, range_of

_WORDS = {int: "a whole number", float: "a number", Path: "a path", str: "a word", bool: "no value"}


@dataclass(frozen=True, kw_only=True)
class Out:
    """Where a run lies and what is made of it, which is no part of what it is."""

    out: Path | None = None
    """Folder of the run."""

    page: bool = True
    """Whether its page is made; `energylens report FOLDER` makes it at any time."""


@dataclass(frozen=True, kw_only=True)
class Watched(Out):
    """The same of a run that tells numbers while it goes on."""

    track: str = ""
    """Where else to show its numbers: tensorboard, trackio, wandb or mlflow, if it is installed."""


@dataclass(frozen=True, kw_only=True)
class Place(Out):
    """The same of a run that has tasks, and where these are computed."""

    on: str = "inline"
    """Where its tasks run: inline (one after another), local (processes), slurm (a cluster)."""

    workers: Annotated[int, Range(0, 100_000)] = 0
    """Tasks at the same time; 0: one a core, or as many as the cluster lets run."""

    slurm: tuple[str, ...] = ()
    """What Slurm is asked for each task, as in time=60 partition=gpu gpus=1."""


@dataclass(frozen=True, kw_only=True)
class Around(Place, Watched):
    """All that can be asked of a run besides the options of its study."""


def parse(study: Study, arguments: Sequence[str]) -> tuple[Any, Around]:
    """Read a study's options, `--out`, and where its tasks run if it has some.

    Raises:
        BadInput: Names the option, what was given, and what it takes.
        SystemExit: With code 0, after printing the help that was asked for.
    """
    import tyro

    asked = _with_place(study)
    prog = f"energylens run {study.name}"
    if "-h" in arguments or "--help" in arguments:
        tyro.cli(asked, prog=prog, description=_description(study), args=["--help"])
    given = _grouped(study, arguments)
    _refuse_unknown(study, given)
    _refuse_missing(study, given)
    found = _read(asked, arguments)
    if found is None:
        raise _fault(study, given)
    options = study.options(**{f.name: getattr(found, f.name) for f in fields(study.options)})
    place = Around(**{f.name: getattr(found, f.name) for f in fields(_place(study))})
    for asked_for in (options, place):
        check_options(asked_for)
    return options, place


def command_line(study: Study, options: Any) -> list[str]:
    """The words from which `parse` reads these options: those that differ from their defaults.

    Raises:
        BadInput: If an option that has a default is empty, which no words say.
    """
    said: list[str] = []
    for option in fields(study.options):
        value, name = getattr(options, option.name), flag(option.name)
        default = option.default if option.default_factory is MISSING else option.default_factory()
        if value == default:
            continue
        if isinstance(value, bool):
            said.append(name if value else f"--no-{name.removeprefix('--')}")
        elif isinstance(value, list | tuple):
            if not value:
                raise BadInput(f"option {name} is empty: leave it out, or give it a value")
            said += [name, *map(str, value)]
        else:
            said.append(f"{name}={value}")
    return said


def _place(study: Study) -> type[Out]:
    return Place if study.tasks else Watched if study.logs else Out


def _with_place(study: Study) -> type[Any]:
    """The study's options and the place; ranges stand in the help where the type would."""
    import tyro

    again = []
    for option in (*fields(study.options), *fields(_place(study))):
        hint = _hints(study)[option.name]
        told: dict[str, Any] = {}
        if allowed := range_of(hint):
            told = {"metavar": f"{{{allowed}}}"}
        elif option.name == "out":
            told = {"metavar": "DIR", "help_behavior_hint": "(default: under runs/)"}
        if told:
            default = field(default=option.default, default_factory=option.default_factory)  # type: ignore[call-overload]
            again.append((option.name, Annotated[hint, tyro.conf.arg(**told)], default))
    return make_dataclass(
        study.options.__name__, again, bases=(_place(study), study.options), frozen=True,
        kw_only=True,
    )  # fmt: skip


def _description(study: Study) -> str:
    return f"{study.question}\n\nexample:\n  {study.example}"


def _hints(study: Study) -> dict[str, Any]:
    """Of everything that can be asked: the options, and the place."""
    asked = (study.options, _place(study))
    return {n: h for each in asked for n, h in get_type_hints(each, include_extras=True).items()}


def _grouped(study: Study, arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each option with the words that follow it."""
    given: list[tuple[str, list[str]]] = []
    for word in arguments:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word.partition("=")
            given.append((name.replace("_", "-"), [value] if equals else []))
        elif given:
            given[-1][1].append(word)
        else:
            raise BadInput(
                f"{word!r} is no option of {study.name}: options begin with --, "
                f"see energylens run {study.name} --help"
            )
    return given


def _refuse_unknown(study: Study, given: list[tuple[str, list[str]]]) -> None:
    known = [flag(name) for name in _hints(study)]
    switches = [f"--no-{n}" for n in _switches(study)]
    seen: set[str] = set()
    for name, values in given:
        if name not in known and name not in switches:
            near = " or ".join(repr(n) for n in nearest(name, known))
            hint = f"did you mean {near}?" if near else f"see energylens run {study.name} --help"
            raise BadInput(f"no option named {name!r} in {study.name}: {hint}")
        if name in seen:
            raise BadInput(f"option {name} is given twice: give it once, with all its values")
        if not values and name not in switches and name.removeprefix("--") not in _switches(study):
            raise BadInput(f"option {name} is given no value: it takes {_takes(study, name)}")
        seen.add(name)


def _refuse_missing(study: Study, given: list[tuple[str, list[str]]]) -> None:
    there = {name for name, _ in given}
    for option in fields(study.options):
        needed = option.default is MISSING and option.default_factory is MISSING
        if needed and flag(option.name) not in there:
            takes = _takes(study, flag(option.name))
            raise BadInput(f"{study.name} needs the option {flag(option.name)}: it takes {takes}")


def _switches(study: Study) -> list[str]:
    return [n.replace("_", "-") for n, hint in _hints(study).items() if bool in leaves(hint)]


def _read(target: type[Any], words: Sequence[str]) -> Any | None:
    """What the words say, or None: the parser's own complaint is a page long and is not shown."""
    import tyro

    try:
        with redirect_stderr(io.StringIO()):
            return tyro.cli(target, args=list(words), console_outputs=False)
    except SystemExit:
        return None


def _fault(study: Study, given: list[tuple[str, list[str]]]) -> BadInput:
    """Which option cannot be read: each is tried alone."""
    hints = {flag(n): hint for n, hint in _hints(study).items()}
    for name, values in given:
        hint = hints.get(name, bool)
        alone = make_dataclass("Alone", [(name.removeprefix("--").replace("-", "_"), hint)])
        is_switch = bool in leaves(hint)
        if (is_switch and values) or (not is_switch and _read(alone, [name, *values]) is None):
            shown = " ".join(values)
            return BadInput(f"option {name} is {shown!r}: it takes {_takes(study, name)}")
    return BadInput(f"these options do not fit together: see energylens run {study.name} --help")


def _takes(study: Study, name: str) -> str:
    """What an option takes, in words."""
    hints = {flag(n): hint for n, hint in _hints(study).items()}
    hint = hints.get(name, bool)
    words = [_word(leaf) for leaf in leaves(hint) if leaf is not NoneType]
    text = " or ".join(dict.fromkeys(words))
    allowed = range_of(hint)
    text = f"{text}, {allowed}" if allowed else text
    return f"one or more: {text}" if _is_many(hint) else text


def _word(leaf: Any) -> str:
    if get_origin(leaf) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(leaf))
    return _WORDS.get(leaf, getattr(leaf, "__name__", str(leaf)))


def _is_many(hint: Any) -> bool:
    return any(get_origin(part) in (list, tuple) for part in (hint, *get_args(hint)))
