"""Every launcher: all tasks are done, a lost one resumes, a doubled one is done once."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from energylens.core.errors import BadInput, Interrupted, TasksLost
from energylens.core.ports import Ending, Task, silence
from energylens.run.edges.launch import slurm as slurm_engine
from energylens.run.edges.launch.local import _environment
from energylens.run.edges.launch.slurm import batch_script
from energylens.run.execute import execute
from energylens.run.launch import LAUNCHERS, Means, last_line, run_tasks
from energylens.run.ledger import finished
from energylens.run.progress import Lines
from tests.run.test_execute import ROOT, outcome, run_record, toy, wait_for
from tests.run.toy import Toy, Toys

PROGRAM = (sys.executable, "-m", "tests.run.toy")
STAND_IN = Path(__file__).parent / "stand_in_slurm.py"
SLURM_IS_UP = bool(shutil.which("sinfo")) and not subprocess.run(
    ["sinfo", "--noheader"], capture_output=True
).returncode  # fmt: skip


@pytest.fixture(autouse=True)
def cluster(tmp_path, monkeypatch):
    """The Slurm that runs here, or else three commands that stand in for it."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    monkeypatch.setattr(slurm_engine, "POLL_SECONDS", (0.2, 0.5))
    if SLURM_IS_UP:
        return
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} {name} "$@"\n')
        (commands / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_SLURM", str(tmp_path / "queue"))


@pytest.fixture(params=["inline", "local", "slurm"])
def name(request):
    return request.param


def made(name: str, said: list[str]):
    return LAUNCHERS[name](Means(workers=2, program=PROGRAM, say=said.append))


def toys(count: int = 3, **last) -> list[Task]:
    """Toys of two parts, of which the last may be of another kind."""
    kinds = [{}] * (count - 1) + [last]
    return [
        Task(study="toy", options=Toy(seed=k, parts=2, **kind), folder=Path(f"seed-{k}"))
        for k, kind in enumerate(kinds)
    ]


def run_all(name: str, root: Path, tasks: list[Task]) -> list[str]:
    said: list[str] = []
    run_tasks(tasks, root=root, launcher=made(name, said), progress=silence, say=said.append)
    return said


def killed_at(part: int, out: Path, *words: str) -> None:
    """A toy that was killed before it computed that part."""
    process = toy("run", *words, "--out", str(out), TOY_PAUSE=str(part))
    wait_for(process, "paused")
    process.kill()
    process.communicate()


def test_every_task_is_done_and_the_same_as_by_hand(tmp_path, name):
    execute("toys", Toys(), tmp_path / "all", launcher=made(name, []))
    execute("toy", Toy(seed=1, parts=2), tmp_path / "one")
    for seed in (0, 1, 2):
        assert finished(tmp_path / f"all/tasks/seed-{seed}") is not None
    assert outcome(tmp_path / "all/tasks/seed-1") == outcome(tmp_path / "one")
    assert not execute("toys", Toys(), tmp_path / "all").fresh


def test_a_sitting_that_was_killed_is_gone_on_with(tmp_path, name):
    killed_at(1, tmp_path / "all", "toys")
    execute("toys", Toys(), tmp_path / "all", launcher=made(name, []))
    assert run_record(tmp_path / "all/tasks/seed-0")["sittings"] == 2
    assert run_record(tmp_path / "all/tasks/seed-1")["sittings"] == 1
    execute("toys", Toys(), tmp_path / "whole")
    for seed in (0, 1, 2):
        task = f"tasks/seed-{seed}"
        assert outcome(tmp_path / "all" / task) == outcome(tmp_path / "whole" / task)
    assert outcome(tmp_path / "all") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("name", ["local", "slurm"], indirect=True)
def test_a_task_that_dies_is_told_and_tried_once_more(tmp_path, monkeypatch, name):
    monkeypatch.setenv("TOY_DIE", str(tmp_path / "died"))
    said = run_all(name, tmp_path, toys())
    (died,) = [line for line in said if "ended early" in line]
    sittings = [run_record(tmp_path / f"tasks/seed-{k}")["sittings"] for k in range(3)]
    assert sorted(sittings) == [1, 1, 2] and f"seed-{sittings.index(2)} ended early" in died
    if name == "local":
        assert "exit code -9, computing part.1" in died


@pytest.mark.parametrize("name", ["local", "slurm"], indirect=True)
def test_a_task_that_fails_again_ends_the_run_and_the_others_are_kept(tmp_path, name):
    words = r"1 of 1 tasks ended early again .* seed-2 \(.*RuntimeError: the toy broke"
    with pytest.raises(TasksLost, match=words):
        run_all(name, tmp_path, toys(mode="fail"))
    assert finished(tmp_path / "tasks/seed-0") and finished(tmp_path / "tasks/seed-1")
    assert run_record(tmp_path / "tasks/seed-2")["sittings"] == 2


def test_a_task_is_tried_for_as_long_as_it_comes_further(tmp_path):
    tries = []

    def a_part_each_time(tasks, *, ended):
        (task,) = tasks
        tries.append(task)
        if len(tries) == 4:
            execute("toy", task.options, task.folder)
        else:
            killed_at(len(tries), task.folder, "toy", "--parts", "4")
        ended(task, Ending(code=-9))

    task = Task(study="toy", options=Toy(parts=4), folder=Path("long"))
    run_tasks([task], root=tmp_path, launcher=a_part_each_time, progress=silence,
              say=lambda line: None)  # fmt: skip
    assert len(tries) == 4 and run_record(tmp_path / "tasks/long")["sittings"] == 4


def test_the_share_of_the_work_is_told_not_of_the_tasks(tmp_path):
    lines: list[str] = []
    tasks = [replace(task, work=work) for task, work in zip(toys(), (80.0, 15.0, 5.0), strict=True)]

    def launch(tasks, *, ended):
        for task in tasks:
            execute("toy", task.options, task.folder)
            clock.now += task.work
            ended(task, Ending(code=0))

    clock = SimpleNamespace(now=0.0)
    told = Lines(lines.append, clock=lambda: clock.now)
    for _ in range(2):
        run_tasks(tasks, root=tmp_path, launcher=launch, progress=told, say=lines.append)
    assert lines == [
        "3 tasks: 80 of 100 %, about 20 s left", "3 tasks: 95 of 100 %, about 5.0 s left",
        "3 tasks: 100 % in 1 min 40 s", "3 tasks: 100 % in 0.0 s",
    ]  # fmt: skip


def test_a_task_that_breaks_alike_twice_is_given_up_whatever_it_wrote(tmp_path):
    tries = []

    def new_files_each_time(tasks, *, ended):
        (task,) = tasks
        tries.append(task)
        with pytest.raises(RuntimeError):
            execute("toy", task.options, task.folder)
        (task.folder / "work").mkdir(exist_ok=True)
        (task.folder / "work" / f"{len(tries)}").touch()
        ended(task, Ending(code=1, last="it broke"))

    with pytest.raises(TasksLost, match="it broke"):
        run_tasks(toys(1, mode="fail"), root=tmp_path, launcher=new_files_each_time,
                  progress=silence, say=lambda line: None)  # fmt: skip
    assert len(tries) == 2


def test_a_task_that_another_process_runs_is_waited_for(tmp_path, name):
    folder = str(tmp_path / "tasks/seed-1")
    other = toy("run", "toy", "--seed", "1", "--parts", "2", "--out", folder, TOY_PAUSE="1")
    wait_for(other, "paused")
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line.startswith("waiting"):
            other.kill()

    run_tasks(toys(), root=tmp_path, launcher=made(name, said), progress=silence, say=say)
    other.communicate()
    assert "waiting for task seed-1, which another process runs" in said
    assert run_record(tmp_path / "tasks/seed-1")["sittings"] == 2
    assert run_record(tmp_path / "tasks/seed-0")["sittings"] == 1


@pytest.mark.parametrize("name", ["inline", "local"], indirect=True)
def test_refused_input_is_one_sentence_and_leaves_nothing(tmp_path, name):
    with pytest.raises(BadInput, match="the toy does not like its input"):
        execute("toys", Toys(seeds=(0,), mode="refuse"), tmp_path / "out", launcher=made(name, []))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["local", "slurm"], indirect=True)
def test_asked_to_stop_it_stops_its_tasks(tmp_path, name):
    out = tmp_path / "out"

    def stop():
        while not list(out.glob("tasks/seed-0/parts/part.1.json")):
            time.sleep(0.1)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    with pytest.raises(Interrupted):
        execute("toys", Toys(seeds=(0,), mode="sleep"), out, launcher=made(name, []))
    for _ in range(100):
        if run_record(out / "tasks/seed-0")["status"] == "failed":
            break
        time.sleep(0.1)
    assert run_record(out / "tasks/seed-0")["error"] == "stopped; the same command resumes"


def test_two_tasks_in_one_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match="1 tasks share a folder"):
        run_all("inline", tmp_path, [*toys(1), *toys(1)])
    with pytest.raises(ValueError, match="cannot name a task"):
        run_all("inline", tmp_path, [Task(study="toy", options=Toy(), folder=Path("a/b"))])


def test_options_are_the_same_whichever_way_they_reach_a_task(tmp_path):
    odd = Toy(scale=1, shift=-0.1, layers=(-1, 3), subject="--two words", quick=True)
    task = Task(study="toy", options=odd, folder=Path("odd"))
    run_all("local", tmp_path, [task])
    assert run_all("inline", tmp_path, [task]) == []  # it is the same run, and done


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr("energylens.run.edges.launch.local._cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert _environment(0, 3)["OMP_NUM_THREADS"] == "2"
    assert _environment(0, 16)["OMP_NUM_THREADS"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in _environment(0, 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert _environment(0, 2)["OMP_NUM_THREADS"] == "1"
    assert [_environment(w, 3)["CUDA_VISIBLE_DEVICES"] for w in range(3)] == ["4", "5", "4"]


def test_the_last_line_of_a_log(tmp_path):
    log = tmp_path / "log"
    assert last_line(log) == ""
    log.write_bytes(b"x" * 9000 + b"\nenergylens: it broke\n \n")
    assert last_line(log) == "it broke"


# ---- Slurm


def test_the_batch_script_is_what_it_should_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "a b"
    task = Task(study="toy", options=Toy(subject="it's $HOME"), folder=folder / "one")
    script = batch_script([task, task], Means(workers=1, program=("energylens",)))
    quoted = "'--subject=it'\"'\"'s $HOME'"
    assert f"0) command=(energylens run toy {quoted} --no-page --out '{folder}/one') ;;" in script
    assert "#SBATCH --array=0-1%1\n" in script and "#SBATCH --requeue\n" in script
    assert f"#SBATCH --output={folder}/slurm-%A_%a.log\n" in script
    (tmp_path / "script").write_text(script)
    subprocess.run(["bash", "-n", tmp_path / "script"], check=True)


@pytest.mark.parametrize("word", ["--time=60", "time 60", "time=", "a-1=b", "TIME=1"])
def test_what_slurm_is_asked_must_look_like_it(word):
    with pytest.raises(BadInput, match="option --slurm has .*: it takes what sbatch takes"):
        LAUNCHERS["slurm"](Means(ask=(word,)))


def test_without_slurm_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BadInput, match="there is no sbatch on this machine"):
        run_all("slurm", tmp_path, toys())


def test_while_slurm_does_not_answer_nothing_is_taken_for_ended(monkeypatch):
    def answers(code: int, out: str, err: str):
        done = subprocess.CompletedProcess([], code, out, err)
        monkeypatch.setattr(slurm_engine, "_ask", lambda *command: done)
        return slurm_engine._in_queue("7")

    assert answers(1, "", "slurm_load_jobs error: Unable to contact slurm controller") is None
    assert answers(1, "", "slurm_load_jobs error: Invalid job id specified") == set()
    assert answers(0, "0\n12\n", "") == {0, 12}
    assert answers(0, "", "") == set()
