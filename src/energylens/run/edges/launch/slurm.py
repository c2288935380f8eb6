"""On a Slurm cluster, as one job array: a batch script of command lines, and nothing pickled.

What Slurm knows of a task is not asked: whether it is done is read in its folder. So accounting
(`sacct`) need not be there, and a requeued, lost or doubled task is like any other.
"""

import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from energylens.core.errors import BadInput
from energylens.core.files import write_bytes
from energylens.core.ports import Ending, Launcher, Task
from energylens.run.launch import Means, last_line, launcher, words

POLL_SECONDS = (1.0, 15.0)  # at first, and once a job has run for a while
_ASKED = re.compile(r"[a-z][a-z-]*(=[^\s=].*)?")
_GONE = "invalid job id"  # what squeue says of a job that ended a while ago


@launcher("slurm")
def slurm(means: Means) -> Launcher:
    """`energylens run` for each task, as an element of a job array.

    Folders must lie on a disk that all nodes share, and the environment be there too. A node that
    fails or a preemption puts a task back into the queue (`--requeue`), where it resumes.
    """
    asked = [_checked(word) for word in means.ask]

    def launch(tasks: Sequence[Task], *, ended: Callable[[Task, Ending], None]) -> None:
        folder = tasks[0].folder.parent
        script = folder / f"slurm-{time.time_ns()}.sh"
        write_bytes(script, batch_script(tasks, means).encode())
        job = _submit(script, asked)
        means.say(f"Slurm job {job}: {len(tasks)} tasks, {script}")
        waiting = dict(enumerate(tasks))
        pause, longest = POLL_SECONDS
        try:
            while waiting:
                time.sleep(pause)
                pause = min(longest, 1.2 * pause)
                there = _in_queue(job)
                for index in [i for i in waiting if there is not None and i not in there]:
                    log = folder / f"slurm-{job}_{index}.log"
                    ended(waiting.pop(index), Ending(code=None, last=last_line(log)))
        finally:
            if waiting:
                _ask("scancel", job)

    return launch


def batch_script(tasks: Sequence[Task], means: Means) -> str:
    """A script that runs the task of its index in the array; Slurm's signals go to the run.

    Its own process becomes the run (`exec`), so that SIGTERM, which Slurm sends at the time limit
    and half a minute before it kills, stops the run between two steps.
    """
    folder = tasks[0].folder.parent
    at_once = f"%{means.workers}" if means.workers else ""
    cases = "\n".join(
        f"{index}) command=({shlex.join([*means.program, *words(task)])}) ;;"
        for index, task in enumerate(tasks)
    )
    return f"""#!/bin/bash
#SBATCH --job-name=energylens
#SBATCH --array=0-{len(tasks) - 1}{at_once}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={folder}/slurm-%A_%a.log
export OMP_NUM_THREADS=${{SLURM_CPUS_PER_TASK:-1}}
case $SLURM_ARRAY_TASK_ID in
{cases}
esac
cd {shlex.quote(str(Path.cwd()))}
exec "${{command[@]}}"
"""


def _checked(word: str) -> str:
    if not _ASKED.fullmatch(word):
        raise BadInput(
            f"option --slurm has {word!r}: it takes what sbatch takes, without dashes in front,"
            " as in time=60 partition=gpu gpus=1"
        )
    return f"--{word}"


def _submit(script: Path, asked: Sequence[str]) -> str:
    if shutil.which("sbatch") is None:
        raise BadInput(
            "there is no sbatch on this machine: start this on a node that submits to Slurm, or"
            " run the tasks here with --on local"
        )
    answer = _ask("sbatch", "--parsable", *asked, str(script))
    if answer.returncode:
        told = " ".join(answer.stderr.split()) or f"exit code {answer.returncode}"
        raise BadInput(f"Slurm refused the job ({told}): change what --slurm asks for")
    return answer.stdout.strip().split(";")[0]  # the cluster's name may follow


def _in_queue(job: str) -> set[int] | None:
    """Indices of the tasks that Slurm still has; None while Slurm cannot be asked."""
    answer = _ask("squeue", "--noheader", "--array", f"--jobs={job}", "--format=%K")
    if answer.returncode:
        return set() if _GONE in answer.stderr.lower() else None
    return {int(word) for word in answer.stdout.split() if word.isdecimal()}


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
