"""Stands in for Slurm where there is none: `sbatch`, `squeue` and `scancel` of one machine.

`sbatch` starts every element of the array at once; `squeue` says which still run. A job that is
not known is answered as Slurm answers.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

QUEUE = Path(os.environ.get("STAND_IN_SLURM", "queue"))


def sbatch(*words: str) -> int:
    script = Path(words[-1])
    text = script.read_text()
    last = int(re.search(r"--array=0-(\d+)", text)[1])
    log = re.search(r"--output=(.*)", text)[1]
    job = len(list(QUEUE.glob("*"))) + 1 if QUEUE.is_dir() else 1
    (QUEUE / str(job)).mkdir(parents=True)
    for index in range(last + 1):
        with open(log.replace("%A", str(job)).replace("%a", str(index)), "ab") as out:
            process = subprocess.Popen(
                ["bash", script], stdout=out, stderr=out, start_new_session=True,
                env={**os.environ, "SLURM_ARRAY_TASK_ID": str(index)},
            )  # fmt: skip
        (QUEUE / str(job) / str(index)).write_text(str(process.pid))
    sys.stdout.write(f"{job};cluster\n")
    return 0


def squeue(*words: str) -> int:
    job = next(w.partition("=")[2] for w in words if w.startswith("--jobs="))
    running = [f.name for f in (QUEUE / job).glob("*") if _alive(int(f.read_text()))]
    if not running:
        sys.stderr.write("slurm_load_jobs error: Invalid job id specified\n")
        return 1
    sys.stdout.write("".join(f"{index}\n" for index in running))
    return 0


def scancel(job: str) -> int:
    for file in (QUEUE / job).glob("*"):
        if _alive(int(file.read_text())):
            os.kill(int(file.read_text()), 15)
    return 0


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    raise SystemExit({"sbatch": sbatch, "squeue": squeue, "scancel": scancel}[sys.argv[1]](
        *sys.argv[2:]
    ))  # fmt: skip
