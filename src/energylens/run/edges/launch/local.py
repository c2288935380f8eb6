"""In processes of their own on this machine, some at a time."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from energylens.core.ports import Ending, Launcher, Task
from energylens.run.launch import Means, last_line, launcher, words

POLL_SECONDS = 0.2
MERCY_SECONDS = 30.0  # to save what is at hand, before a worker is killed


@launcher("local")
def local(means: Means) -> Launcher:
    """`energylens run` for each task, as many at a time as there are workers (default: cores).

    The cores are shared out among the workers, and so are the GPUs that CUDA_VISIBLE_DEVICES
    names, if it is set. What a task writes is in a log beside its folder.
    """

    def launch(tasks: Sequence[Task], *, ended: Callable[[Task, Ending], None]) -> None:
        workers = min(means.workers or _cores(), len(tasks))
        waiting = list(tasks)
        running: dict[int, tuple[Task, subprocess.Popen[bytes]]] = {}
        try:
            while waiting or running:
                for worker in range(workers):
                    if waiting and worker not in running:
                        task = waiting.pop(0)
                        running[worker] = task, _start(task, means, worker, workers)
                time.sleep(POLL_SECONDS)
                for worker, (task, process) in list(running.items()):
                    if process.poll() is not None:
                        del running[worker]
                        ended(task, Ending(code=process.returncode, last=last_line(_log(task))))
        finally:
            _stop([process for _, process in running.values()])

    return launch


def _start(task: Task, means: Means, worker: int, workers: int) -> subprocess.Popen[bytes]:
    """A process outside our group, so that a Ctrl-C reaches it through us, once."""
    task.folder.parent.mkdir(parents=True, exist_ok=True)
    with _log(task).open("ab") as log:
        return subprocess.Popen(
            [*means.program, *words(task)], stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, env=_environment(worker, workers), start_new_session=True,
        )  # fmt: skip


def _environment(worker: int, workers: int) -> dict[str, str]:
    environment = dict(os.environ)
    asked = environment.get("OMP_NUM_THREADS", "")
    threads = min(int(asked) if asked.isdecimal() else _cores(), _cores() // workers)
    environment["OMP_NUM_THREADS"] = str(max(1, threads))
    if gpus := environment.get("CUDA_VISIBLE_DEVICES"):
        named = gpus.split(",")
        environment["CUDA_VISIBLE_DEVICES"] = named[worker % len(named)]
    return environment


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + MERCY_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _log(task: Task) -> Path:
    return task.folder.with_name(f"{task.folder.name}.log")


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    return len(affinity(0)) if affinity else os.cpu_count() or 1
