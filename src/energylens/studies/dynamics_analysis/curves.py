"""How many layers have not settled yet, over the training, by family of networks."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from energylens.core.errors import InsufficientData
from energylens.stats.survival import kaplan_meier

Row = dict[str, Any]


def curve_rows(
    settling: Sequence[Row], runs: Mapping[str, Row], measures: Sequence[str]
) -> list[Row]:
    """Kaplan–Meier curves with training runs as units; none of a family with a single run."""
    rows = []
    for family in sorted({str(row.get("family")) for row in runs.values()}):
        for measure in measures:
            mine = [row for row in settling if row["measure"] == measure
                    and str(runs[row["run"]].get("family")) == family]  # fmt: skip
            rows += _curve({"family": family, "measure": measure}, mine, runs)
    return rows


def _curve(key: Row, mine: Sequence[Row], runs: Mapping[str, Row]) -> list[Row]:
    length = [float(runs[row["run"]]["num_steps"]) for row in mine]
    number = {run: i for i, run in enumerate(dict.fromkeys(row["run"] for row in mine))}
    censored = torch.tensor([row["censored"] for row in mine])
    # Of trainings of different lengths, each is watched for the whole of its own.
    time = torch.tensor(
        [1.0 if row["censored"] else row["settled_step"] / steps
         for row, steps in zip(mine, length, strict=True)],
        dtype=torch.float64,
    )  # fmt: skip
    try:
        found = kaplan_meier(
            time, censored, unit=torch.tensor([number[row["run"]] for row in mine])
        )
    except InsufficientData:
        return []
    median, alive = found.median, found.alive
    whole = {
        "median": float(median.estimate), "median_low": float(median.low),
        "median_high": float(median.high), "n": found.subjects, "settled": found.events,
        "runs": len(number),
    }  # fmt: skip
    return [
        key | {
            "phase": float(found.time[i]), "unsettled": float(alive.estimate[i]),
            "low": float(alive.low[i]), "high": float(alive.high[i]),
            "at_risk": int(found.at_risk[i]), **whole,
        }
        for i in range(len(found.time))
    ]  # fmt: skip
