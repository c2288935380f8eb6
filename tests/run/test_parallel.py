"""A study that several processes run is one run: one folder, one voice, no endless wait."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from energylens.core.errors import BadInput, EnergylensError
from energylens.core.ports import Solo, solo
from energylens.run.edges.collective.torch_distributed import NEEDED, processes
from energylens.run.edges.store.folder import verify
from energylens.run.execute import execute
from tests.common.processes import ROOT, ended, start
from tests.run.parallel_toy import Together
from tests.run.toy import Toy

TOY = "tests.run.parallel_toy"
SUM = sum(sum(range(k, 12 + k)) for k in range(3))


def outcome(path: Path) -> dict[str, bytes]:
    found = [path / "summary.json", *(path / "records").iterdir(), *(path / "tables").iterdir()]
    return {str(file.relative_to(path)): file.read_bytes() for file in found}


@pytest.fixture(scope="module")
def by_one(tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "run"
    assert execute("toy-together", Together(), out).summary.figures["sum"].value == SUM
    return out


def test_two_processes_leave_one_run_and_the_first_tells_of_it(tmp_path, by_one):
    out = tmp_path / "run"
    (code, said, _), (other, nothing, errors) = ended(
        start(2, TOY, "run", "toy-together", "--out", str(out))
    )
    assert code == other == 0, errors
    assert f"The sum is {SUM}." in said and said.count("computing part.1") == 1
    assert "energylens" not in errors and "sum" not in nothing
    assert outcome(out) == outcome(by_one) and verify(out) == []
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "done" and record["sittings"] == 1 and record["processes"] == 2
    (code, said, _), (other, _, _) = ended(start(2, TOY, "run", "toy-together", "--out", str(out)))
    assert code == other == 0 and "this run was done before" in said


def test_where_a_process_dies_the_others_stop_with_one_sentence(tmp_path, by_one):
    out = tmp_path / "run"
    (code, _, errors), (died, _, _) = ended(
        start(2, TOY, "run", "toy-together", "--out", str(out), TOY_DIES="1")
    )
    assert (code, died) == (1, 7)
    (line,) = [line for line in errors.splitlines() if line.startswith("energylens: ")]
    assert "process 1 of 2 stopped because a peer ended" in line and "Traceback" not in errors
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "failed" and "process 1 of 2" in record["error"]
    assert execute("toy-together", Together(), out).summary.figures["sum"].value == SUM
    assert outcome(out) == outcome(by_one)
    changes = json.loads((out / "run.json").read_text())["changes"]
    assert any("processes changed from 2 to 1" in change for change in changes)


def test_what_the_first_refuses_all_refuse_and_say_why(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for rank, (code, _, errors) in enumerate(
        ended(start(2, TOY, "run", "toy-together", "--out", str(tmp_path)))
    ):
        assert code == 2 and "holds files that are no run" in errors, rank
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_what_the_study_refuses_leaves_nothing(tmp_path):
    out = tmp_path / "run"
    for code, _, errors in ended(
        start(2, TOY, "run", "toy-together", "--negative", "--out", str(out))
    ):
        assert code == 2 and "negative numbers were asked for" in errors
    assert not out.exists()


def test_a_study_for_one_process_refuses_several(tmp_path):
    class Two(Solo):
        world = 2

    with pytest.raises(BadInput, match="toy works in one process, and 2 were started"):
        execute("toy", Toy(), tmp_path / "run", collective=Two())
    assert not (tmp_path / "run").exists()


@pytest.fixture
def environment(monkeypatch):
    for name in (*NEEDED, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


def test_without_torchrun_there_is_one_process(environment):
    with processes() as collective:
        assert collective is solo
    environment("RANK", "0")
    environment("WORLD_SIZE", "1")
    environment("MASTER_ADDR", "localhost")
    environment("MASTER_PORT", "1")
    with processes() as collective:
        assert collective is solo


@pytest.mark.parametrize(
    ("variables", "says"),
    [({"RANK": "0"}, "WORLD_SIZE and MASTER_ADDR and MASTER_PORT is missing"),
     ({"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "RANK is '2'"),
     ({"RANK": "x", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "RANK is 'x'")],
)  # fmt: skip
def test_an_environment_that_is_not_torchruns_is_refused(environment, variables, says):
    for name, value in variables.items():
        environment(name, value)
    with pytest.raises(BadInput, match=says), processes():
        pass


def test_peers_that_do_not_come_are_not_waited_for_longer_than_said(environment):
    variables = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}
    for name, value in variables.items():
        environment(name, value)
    with pytest.raises(EnergylensError, match=r"process 2 of 2 did not find the others .* 1 s"):
        with processes(patience=1):
            pass


@pytest.mark.slow
def test_torchrun_itself_starts_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", TOY, "run", "toy-together", "--out", str(tmp_path / "run")],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"The sum is {SUM}.") == 1
