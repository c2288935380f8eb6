"""What each training of ndt-suite costs: a step, a look, and all of them together.

    python benchmarks/suite.py [--steps 30] [--only transformer]

Every network is trained for a few steps on its own data and looked at as the suite does it, on one
thread. Times are process CPU seconds: of a step and of a look the median, and the fastest, which is
what they take where nothing else disturbs the caches. What the suite takes is the sum over its
trainings of 2,000 steps and 401 looks, and what processes take to start, over the number of
workers.
"""

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import torch

import energylens
from energylens.dynamics.tracker import Tracker
from energylens.dynamics.training import TrainingPlan, train_classifier
from energylens.sources.examples import EXAMPLE_SETS
from energylens.sources.suite_networks import architecture, network, tracked_sites
from energylens.studies.ndt_suite import NdtSuite
from energylens.studies.ndt_suite.grid import STEPS, cells, tasks_of
from energylens.studies.track_training import TrackTraining
from energylens.studies.track_training.work import Material, gather

SUITE = NdtSuite()
LOOKS = STEPS // SUITE.interval + 1
WORKERS = 2
RESULT = Path(__file__).parent / "results" / "suite.json"


def measure(name: str, material: Material, steps: int) -> dict[str, float]:
    """Milliseconds of a step and of a look, median and fastest."""
    train, drawn = material.parts.train, torch.Generator().manual_seed(1)
    module = network(architecture(name), train.shape, len(train.classes), drawn, words=train.words)
    tracker = Tracker(module, material.probe, tracked_sites(module), every=SUITE.interval)
    step_ms, look_ms = [], []
    ended = time.process_time()

    def after_step(step: int, loss: torch.Tensor) -> None:
        nonlocal ended
        begun = time.process_time()
        step_ms.append(1e3 * (begun - ended))
        tracker.after_step(step, loss=loss)
        ended = time.process_time()
        if tracker.is_due(step):
            look_ms.append(1e3 * (ended - begun))

    with tracker:
        train_classifier(
            module, train.inputs, train.labels, TrainingPlan(steps=steps), drawn, after_step
        )
    return {
        "step_ms": statistics.median(step_ms), "look_ms": statistics.median(look_ms),
        "fastest_step_ms": min(step_ms), "fastest_look_ms": min(look_ms),
    }  # fmt: skip


def seconds(found: dict[str, float], kind: str = "") -> float:
    """Of a whole training."""
    return (STEPS * found[f"{kind}step_ms"] + LOOKS * found[f"{kind}look_ms"]) / 1e3


def startup() -> float:
    """CPU seconds of what a process does before its first step: imports, the slowest of them."""
    import subprocess
    import sys
    from resource import RUSAGE_CHILDREN, getrusage

    before = getrusage(RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", "import energylens.studies.track_training.work"], check=True
    )
    after = getrusage(RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--only", default="", help="part of the name of an architecture")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    materials: dict[str, Material] = {}
    rows = []
    for dataset, name in cells(SUITE):
        if asked.only not in name:
            continue
        if dataset not in materials:
            examples = EXAMPLE_SETS[dataset].load()
            materials[dataset] = gather(examples, TrackTraining(dataset=dataset))
        found = measure(name, materials[dataset], asked.steps)
        rows.append({
            "dataset": dataset, "architecture": name, "seconds": round(seconds(found), 1),
            "fastest_seconds": round(seconds(found, "fastest_"), 1),
            **{key: round(value, 2) for key, value in found.items()},
        })  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    one = startup()
    started = len(tasks_of(SUITE)) * one
    total, fastest = (
        started + sum(row[key] for row in rows) for key in ("seconds", "fastest_seconds")
    )
    result = {
        "benchmark": "suite", "steps": asked.steps, "trainings": rows,
        "seconds_by_family": {
            family: round(sum(r["seconds"] for r in rows if r["architecture"].startswith(family)))
            for family in ("mlp", "cnn", "transformer")
        },
        "share_of_looks": round(sum(r["look_ms"] for r in rows) * LOOKS / 1e3 / total, 3),
        "startup_seconds": round(one, 1), "tasks": len(tasks_of(SUITE)),
        "cpu_minutes": round(total / 60, 1),
        f"minutes_of_{WORKERS}_workers": round(total / 60 / WORKERS, 1),
        f"fastest_minutes_of_{WORKERS}_workers": round(fastest / 60 / WORKERS, 1),
        "load": os.getloadavg()[0],
        "clock": "process CPU seconds", "threads": 1, "energylens": energylens.__version__,
        "torch": torch.__version__, "machine": platform.machine(),
        "python": platform.python_version(),
    }  # fmt: skip
    if not asked.only:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "trainings"}))


if __name__ == "__main__":
    main()
