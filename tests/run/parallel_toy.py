"""A small study that several processes run together; a program, as `tests.run.toy` is.

TOY_DIES=rank makes that process end without a word after the first part.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from energylens.core.errors import BadInput
from energylens.core.ports import Collective, Progress, Store
from energylens.results.record import Estimate, Summary
from energylens.studies.study import STUDIES, Range, study


@dataclass(frozen=True, kw_only=True)
class Together:
    """Sums of numbers that lie on several processes."""

    parts: Annotated[int, Range(1, 100)] = 3
    """How many parts the work has."""

    negative: bool = False
    """Whether to ask for what is refused."""


if "toy-together" not in STUDIES:
    study(
        name="toy-together", question="Do the numbers of all processes add up?",
        entry="tests.run.parallel_toy:run", example="energylens run toy-together", parallel=True,
    )(Together)  # fmt: skip


def run(
    options: Together,
    *,
    store: Store,
    progress: Progress,
    say: Callable[[str], None],
    collective: Collective,
) -> Summary:
    import pyarrow as pa
    import torch

    if options.negative:
        raise BadInput("negative numbers were asked for: ask for others")
    total = 0
    for k in range(options.parts):
        if not store.done(f"part.{k}"):
            say(f"computing part.{k}")
            numbers = torch.arange(12) + k
            own = numbers[collective.rank :: collective.world].sum()
            found = int(collective.all_reduce(own))
            store.save(
                f"part.{k}", records={f"sum.{k}": found},
                tables={f"table.{k}": pa.table({"sum": [found]})},
            )  # fmt: skip
            store.log("toy", k, {"sum": float(found)})
        assert store.table(f"table.{k}")["sum"].to_pylist() == [store.record(f"sum.{k}")]
        total += store.record(f"sum.{k}")
        if os.environ.get("TOY_DIES") == str(collective.rank):
            os._exit(7)
    return Summary(
        study="toy-together", subject="numbers", finding=f"The sum is {total}.", grade="control",
        figures={"sum": Estimate(float(total), "units", n=options.parts, n_unit="parts")},
        cards=("sum",),
    )  # fmt: skip


def main() -> int:
    from energylens import cli
    from tests.run.toy import pretend_report

    cli._build = pretend_report
    return cli.main()


if __name__ == "__main__":
    from tests.run.parallel_toy import main as real_main

    raise SystemExit(real_main())
