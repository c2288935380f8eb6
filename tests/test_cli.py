"""The command line: quick help, exit codes, and one plain sentence for whatever is wrong."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from energylens import cli
from energylens.core.errors import BadInput
from energylens.run.arguments import Around, parse
from energylens.studies.study import STUDIES, Study
from tests.run.toy import Toy, pretend_report


@pytest.fixture(autouse=True)
def _pretend_report(monkeypatch):
    monkeypatch.setattr(cli, "_build", pretend_report)


def ask(capsys, *words: str) -> tuple[int, str, str]:
    code = cli.main(words)
    said = capsys.readouterr()
    return code, said.out, said.err


def python(code: str, *, python_options: tuple[str, ...] = (), **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *python_options, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("words", ["--help", "list", "run energy-lens --help"])
def test_help_is_quick_and_imports_nothing_heavy(words):
    code = f"""
import sys
from energylens.cli import main
assert main({words.split()!r}) == 0
heavy = {{"torch", "transformers", "numpy", "scipy", "pyarrow", "sklearn", "matplotlib"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    python(code)  # once, so that the compiled files are there
    began = os.times()
    assert "energy" in python(code)
    ended = os.times()
    spent = sum(ended[2:4]) - sum(began[2:4])  # of the child; other work on the machine is not ours
    assert spent < 1.0


def test_help_shows_an_example_and_every_option(capsys):
    code, out, err = ask(capsys, "run", "toy", "--help")
    assert (code, err) == (0, "")
    for word in ("Do random numbers add up?", "energylens run toy --parts 2", "How many parts",
                 "--parts {1 to 100}", "--layers", "--no-quick", "--out DIR"):  # fmt: skip
        assert word in out


def test_help_list_and_version(capsys):
    for words in ([], ["--help"], ["-h"], ["run", "--help"], ["report", "-h"]):
        code, out, err = ask(capsys, *words)
        assert (code, err) == (0, "") and "energylens run energy-lens --model tiny" in out
    assert "toy" in ask(capsys, "list")[1] and "Do random numbers add up?" in ask(capsys, "list")[1]
    assert ask(capsys, "--version")[1].startswith("energylens 0.")


def test_a_run_prints_its_finding_and_its_report(capsys, tmp_path):
    out = tmp_path / "a run ü"
    code, said, err = ask(capsys, "run", "toy", "--out", str(out), "--parts=2")
    assert code == 0
    assert said.splitlines()[-2].startswith("The sum is ")
    assert said.splitlines()[-1] == f"report: {out / 'report.html'}"
    assert err == "" or err.startswith("parts: 2 part in ")
    code, said, _ = ask(capsys, "run", "toy", "--parts", "2", "--out", str(out))
    assert code == 0 and "was done before: nothing was computed again" in said
    code, said, _ = ask(capsys, "report", str(out))
    assert (code, said) == (0, f"report: {out / 'report.html'}\n")


def test_a_run_without_a_page_says_where_its_records_are(capsys, tmp_path):
    words = ("run", "toy", "--parts", "1", "--no-page", "--out", str(tmp_path))
    for _ in range(2):
        code, said, _ = ask(capsys, *words)
        assert code == 0 and said.splitlines()[-1] == f"records: {tmp_path}"
        assert not (tmp_path / "report.html").exists()
    assert ask(capsys, "report", str(tmp_path))[0] == 0
    assert (tmp_path / "report.html").is_file()


def test_the_default_folder_is_under_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ask(capsys, "run", "toy", "--parts", "1")[0] == 0
    assert [p.name.rpartition("-")[0] for p in (tmp_path / "runs").iterdir()] == ["toy-noise"]


def test_the_command_on_record_can_be_pasted(capsys, tmp_path):
    import json

    ask(capsys, "run", "toy", "--parts", "1", "--subject", "two words", "--out", str(tmp_path))
    command = json.loads((tmp_path / "run.json").read_text())["command"]
    assert command == f"energylens run toy --parts 1 --subject 'two words' --out {tmp_path}"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("rnu toy", "no command named 'rnu': did you mean 'run'?"),
        ("--verison", "no command named '--verison': did you mean '--version'?"),
        ("run", "run takes the name of a study first, then its options: there is "),
        ("run --parts 3 toy", "run takes the name of a study first"),
        ("run toi", "no study named 'toi': did you mean 'toy'?"),
        ("run toy --shfit 3", "no option named '--shfit' in toy: did you mean '--shift'?"),
        ("run toy --zzz 3", "no option named '--zzz' in toy: see energylens run toy --help"),
        ("run toy --no-parts", "no option named '--no-parts' in toy"),
        ("run toy 3", "'3' is no option of toy: options begin with --"),
        ("run toy --parts", "option --parts is given no value: it takes a whole number, 1 to 100"),
        ("run toy --parts=", "option --parts is '': it takes a whole number, 1 to 100"),
        ("run toy --parts 3 4", "option --parts is '3 4': it takes a whole number, 1 to 100"),
        ("run toy --parts 2.5", "option --parts is '2.5': it takes a whole number, 1 to 100"),
        ("run toy --parts nan", "option --parts is 'nan': it takes a whole number, 1 to 100"),
        ("run toy --parts 101", "option --parts is 101: it must be 1 to 100"),
        ("run toy --parts -1", "option --parts is -1: it must be 1 to 100"),
        ("run toy --scale nan", "option --scale is nan: it must be a number, 0.1 to 10.0"),
        ("run toy --scale -inf", "option --scale is -inf: it must be a number, 0.1 to 10.0"),
        ("run toy --scale 1e400", "option --scale is inf: it must be a number, 0.1 to 10.0"),
        ("run toy --scale big", "option --scale is 'big': it takes a number, 0.1 to 10.0"),
        ("run toy --shift nan", "option --shift is nan: it must be a finite number"),
        ("run toy --layers 1 x", "option --layers is '1 x': it takes one or more: a whole number"),
        ("run toy --layers", "option --layers is given no value: it takes one or more"),
        ("run toy --mode fial", "option --mode is 'fial': it takes one of plain, fail, sleep, ref"),
        ("run toy --quick yes", "option --quick is 'yes': it takes no value"),
        ("run toy --seed -1", "option --seed is -1: it must be 0 to 2,147,483,647"),
        ("run toy --text a --text b", "option --text is given twice: give it once"),
        ("run toy --out a b", "option --out is 'a b': it takes a path"),
        ("list all", "list takes nothing, and got all: see --help"),
        ("report", "report takes one folder, and got none: see --help"),
        ("report a b", "report takes one folder, and got a b: see --help"),
        ("report nowhere", "nowhere holds no run"),
        ("compare", "compare takes two folders, and got none: see --help"),
        ("compare a", "compare takes two folders, and got a: see --help"),
        ("compare nowhere else", "nowhere holds no run: compare takes the folder of two"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    capsys, tmp_path, monkeypatch, words, sentence
):
    monkeypatch.chdir(tmp_path)
    code, out, err = ask(capsys, *words.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"energylens: {sentence}") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_report_of_a_run_that_is_not_done_says_how_to_resume(capsys, tmp_path):
    words = ["run", "toy", "--mode", "fail", "--out", str(tmp_path)]
    code, _, err = ask(capsys, *words)
    assert code == 1
    assert err.splitlines()[-1] == "energylens: RuntimeError: the toy broke (--debug shows where)"
    code, _, err = ask(capsys, "report", str(tmp_path))
    assert code == 2
    assert err.endswith(f"is not done: resume it with energylens {' '.join(words)}\n")


def test_a_report_of_damaged_records_says_how_to_redo_them(capsys, tmp_path):
    ask(capsys, "run", "toy", "--parts", "1", "--out", str(tmp_path))
    (tmp_path / "tables" / "table.0.parquet").write_bytes(b"PAR1")
    code, _, err = ask(capsys, "report", str(tmp_path))
    assert code == 2 and "table.0.parquet is missing or has changed since it was written" in err
    assert ask(capsys, "run", "toy", "--parts", "1", "--out", str(tmp_path))[0] == 0
    assert ask(capsys, "report", str(tmp_path))[0] == 0


def test_two_runs_are_compared(capsys, tmp_path):
    for name, words in (("a", []), ("b", ["--shift", "5.0"]), ("c", ["--seed", "3"])):
        ask(capsys, "run", "toy", "--parts", "2", *words, "--out", str(tmp_path / name))
    code, out, err = ask(capsys, "compare", str(tmp_path / "a"), str(tmp_path / "b"))
    assert (code, err) == (0, "")
    assert "shift: 0.0 → 5.0" in out and "1 differ and have no interval to judge by" in out
    assert f"first   {tmp_path / 'a'}: noise" in out
    assert "seed: 0 → 3" in ask(capsys, "compare", str(tmp_path / "a"), str(tmp_path / "c"))[1]
    same = ask(capsys, "compare", str(tmp_path / "a"), str(tmp_path / "a"))[1]
    assert "nothing: same options, inputs and versions" in same
    unfinished = tmp_path / "d"
    ask(capsys, "run", "toy", "--mode", "fail", "--out", str(unfinished))
    code, _, err = ask(capsys, "compare", str(tmp_path / "a"), str(unfinished))
    assert code == 2 and "is not done: resume it" in err


def test_debug_shows_where(tmp_path):
    with pytest.raises(RuntimeError, match="the toy broke"):
        cli.main(["run", "toy", "--mode", "fail", "--out", str(tmp_path), "--debug"])
    with pytest.raises(BadInput):
        cli.main(["--debug", "rnu"])


def test_control_characters_do_not_reach_the_terminal(capsys):
    _, _, err = ask(capsys, "report", "\x1b[31mred\u202e")
    assert "\x1b" not in err and "\u202e" not in err and "\\x1b[31mred" in err


def test_a_terminal_that_knows_ascii_only():
    code = "from energylens.cli import main; main(['report', 'Überlauf−'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.stderr.startswith(b"energylens: ?berlauf? holds no run")


def test_a_reader_who_leaves_is_no_error():
    command = f"{sys.executable} -m energylens list | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_values_come_through_as_their_types():
    words = "--layers -1 2 --text a b --scale 1e-1 --mode fail --quick --subject=--x --out o"
    options, place = parse(STUDIES["toy"], words.split())
    assert options == Toy(
        layers=(-1, 2), text=(Path("a"), Path("b")), scale=0.1, mode="fail", quick=True,
        subject="--x",
    )  # fmt: skip
    assert place == Around(out=Path("o")) and type(options) is Toy
    assert parse(STUDIES["toy"], ["--no-quick"]) == (Toy(), Around())


def test_underscores_are_forgiven():
    options, _ = parse(STUDIES["toy"], ["--no_quick", "--seed", "3"])
    assert options.seed == 3


@dataclass(frozen=True, kw_only=True)
class Demanding:
    """One option without a default, and one made anew each time."""

    model_name: str
    """What to look into."""

    sites: list[str] = field(default_factory=list)
    """Where to look."""


def test_an_option_that_is_needed_is_asked_for():
    study = Study(name="d", question="?", example="", entry="a:b", options=Demanding)
    with pytest.raises(BadInput, match="d needs the option --model-name: it takes a word"):
        parse(study, ["--sites", "a", "b"])
    options, _ = parse(study, ["--sites", "a", "b", "--model-name", "x"])
    assert options == Demanding(model_name="x", sites=["a", "b"])
