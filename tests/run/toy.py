"""A small study with parts, used by the tests of run and cli; a program too, for kill tests.

`python -m tests.run.toy run toy --out DIR` is `energylens run toy --out DIR`. The environment
says where to pause: TOY_PAUSE=k says "paused" before the k-th part and waits to be killed;
TOY_DIE=FILE kills the first toy to come to its second part, and makes the file.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from energylens.core.errors import BadInput
from energylens.core.ports import Launch, Progress, Store, Task
from energylens.results.record import Estimate, Summary
from energylens.studies.study import STUDIES, Range, pin_inputs, study


@dataclass(frozen=True, kw_only=True)
class Toy:
    """Sums of random numbers."""

    subject: str = "noise"
    """What is summed."""

    parts: Annotated[int, Range(1, 100)] = 4
    """How many parts the work has."""

    scale: Annotated[float, Range(0.1, 10.0)] = 1.0
    """Size of the numbers."""

    shift: float = 0.0
    """Added to each."""

    layers: tuple[int, ...] = (1, 2)
    """Layers to visit."""

    text: tuple[Path, ...] = ()
    """Files to read."""

    mode: Literal["plain", "fail", "sleep", "refuse"] = "plain"
    """What happens at the end."""

    quick: bool = False
    """Whether to hurry."""

    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Seed of everything random."""


if "toy" not in STUDIES:
    study(
        name="toy", question="Do random numbers add up?", entry="tests.run.toy:run",
        example="energylens run toy --parts 2", subject="subject",
    )(Toy)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Toys:
    """Many toys."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """A toy each."""

    parts: int = 2
    """Parts of each."""

    mode: Literal["plain", "fail", "sleep", "refuse"] = "plain"
    """What happens at the end of the last."""


if "toys" not in STUDIES:
    study(
        name="toys", question="Do many sums add up?", entry="tests.run.toy:run_many",
        example="energylens run toys --on local", tasks=True,
    )(Toys)  # fmt: skip


def run_many(
    options: Toys, *, store: Store, progress: Progress, say: Callable[[str], None], launch: Launch
) -> Summary:
    last = options.seeds[-1]
    found = launch([
        Task(study="toy", folder=Path(f"seed-{seed}"), options=Toy(
            seed=seed, parts=options.parts, mode=options.mode if seed == last else "plain"
        ))
        for seed in options.seeds
    ])  # fmt: skip
    means = {name: run.record("mean.0")["mean"] for name, run in found.items()}
    import pyarrow as pa

    store.save(
        "means", records={"means": means}, tables={"means": pa.table({"mean": [*means.values()]})}
    )
    return Summary(study="toys", subject="noise", finding=f"{len(means)} sums.", grade="control")


def run(options: Toy, *, store: Store, progress: Progress, say: Callable[[str], None]) -> Summary:
    import numpy as np  # no torch: the kill tests start this program many times
    import pyarrow as pa

    if options.mode == "refuse":
        raise BadInput("the toy does not like its input")
    pin_inputs(store, {"text": {"sha256": os.environ.get("TOY_TEXT", "0" * 64)}})
    means: list[float] = []
    with progress.task("parts", options.parts, "part") as advance:
        for k in range(options.parts):
            part = f"part.{k}"
            if not store.done(part):
                say(f"computing {part}")
                _pause(k)
                generator = np.random.default_rng(options.seed + k)
                x = options.shift + options.scale * generator.standard_normal(1000)
                store.save(f"rows.{k}", tables={f"rows.{k}": pa.table({"x": x})}, scratch=True)
                rows = store.table(f"rows.{k}")
                mean = np.mean(rows["x"].to_numpy())
                store.save(
                    part,
                    tables={f"table.{k}": rows},
                    records={f"mean.{k}": {"mean": mean, "sd": float("nan")}},
                )
            means.append(store.record(f"mean.{k}")["mean"])
            advance(1)
    if options.mode == "fail":
        raise RuntimeError("the toy broke")
    if options.mode == "sleep":
        say("sleeping")
        time.sleep(60)
    figure = Estimate(sum(means), "units", n=options.parts, n_unit="parts")
    return Summary(
        study="toy", subject=options.subject, finding=f"The sum is {figure.value:.3f}.",
        grade="control", figures={"sum": figure}, cards=("sum",),
    )  # fmt: skip


def _pause(k: int) -> None:
    if os.environ.get("TOY_PAUSE") == str(k):
        sys.stdout.write("paused\n")
        sys.stdout.flush()
        time.sleep(60)
    once = Path(os.environ.get("TOY_DIE", "/"))
    if k and not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def pretend_report(run_dir: Path) -> Path:
    page: Any = run_dir / "report.html"
    page.write_text("<!doctype html>")
    return page


def main() -> int:
    from energylens import cli

    cli._build = pretend_report
    return cli.main()


if __name__ == "__main__":
    # Under the name the study's entry uses, so that the study is registered once.
    from tests.run.toy import main as real_main

    raise SystemExit(real_main())
