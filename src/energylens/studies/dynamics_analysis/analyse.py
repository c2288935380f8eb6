"""From the histories of many trainings to what happened in them, each finding beside its null."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.dynamics.critical_periods import coordination, loss_link
from energylens.dynamics.history import History
from energylens.dynamics.jumps import JumpOptions
from energylens.dynamics.order import order_of_settling
from energylens.dynamics.settling import Settling, settling
from energylens.stats.multiplicity import benjamini_hochberg, draws_needed
from energylens.studies.dynamics_analysis.curves import curve_rows
from energylens.studies.dynamics_analysis.events import JUMPS, jump_rows
from energylens.studies.dynamics_analysis.hypotheses import Material, hypothesis_rows
from energylens.studies.dynamics_analysis.types import type_jumps, type_rows

Row = dict[str, Any]
MEASURES = ("stable_rank", "participation_ratio")
DRAWS = 1999
COORDINATION = ("strength", "null_mean", "null_sd", "p", "strength_course", "null_mean_course",
                "null_sd_course", "p_course", "max_coordination")  # fmt: skip
LOSS_LINK = ("lag", "correlation", "null_mean", "null_sd", "p", "correlation_course", "p_course",
             "share_falling", "base_rate")  # fmt: skip


def analyse(
    histories: Mapping[str, History],
    runs: pa.Table,
    generator: torch.Generator,
    *,
    measures: Sequence[str] = MEASURES,
    draws: int | None = None,
    options: JumpOptions | None = None,
) -> dict[str, pa.Table]:
    """Events, settling, order, coordination, the link to the loss, and what follows from them.

    Args:
        histories: By run.
        runs: One row a run, with `run`, `num_steps` and what the hypotheses compare: `family`,
            `architecture`, `dataset`, `final_accuracy`, `chance_accuracy`.
        measures: What events are looked for in; a run that has none of them is refused.
        draws: Of each null; by default as many as the number of runs needs for its q.
        options: How jumps are looked for.

    Returns:
        By name, the tables `jumps`, `jump_types`, `settling`, `settling_curves`, `order`,
        `coordination`, `loss_link` and `hypotheses`.

    Raises:
        BadInput: If runs and histories do not agree, or a run lacks a measure.
    """
    info = _agree(histories, runs, measures)
    options = options or JumpOptions()
    draws = max(DRAWS, draws_needed(len(info) * len(measures))) if draws is None else draws
    length = {run: int(row["num_steps"]) for run, row in info.items()}
    rows: dict[str, list[Row]] = {name: [] for name in ("settling", "order", *JUDGED)}
    for run, history in histories.items():
        for measure in measures:
            key, found = {"run": run, "measure": measure}, settling(history.values[measure],
                                                                    history.steps)  # fmt: skip
            rows["settling"] += _settling_rows(run, measure, history, found)
            rows["order"].append(key | _order(history, found, length[run], generator, draws))
            for name, judge in JUDGED.items():
                rows[name].append(key | judge(history, measure, generator, draws))
    for name in ("order", *JUDGED):
        _adjusted(rows[name], draws)
    rows["jumps"] = jump_rows(histories, length, measures, generator, options)
    types = type_jumps(rows["jumps"], generator, draws)
    rows["jump_types"] = type_rows(types)
    rows["settling_curves"] = curve_rows(rows["settling"], info, measures)
    materials = [_material(measure, info, histories, rows, options, draws) for measure in measures]
    rows["hypotheses"] = hypothesis_rows(materials, types, generator)
    return {
        name: pa.Table.from_pylist(found, schema=JUMPS if name == "jumps" else None)
        for name, found in rows.items()
    }


def _material(
    measure: str, info: Mapping[str, Row], histories: Mapping[str, History],
    rows: Mapping[str, list[Row]], options: JumpOptions, draws: int,
) -> Material:  # fmt: skip
    """What the hypotheses of one measure are asked of."""
    watched = [
        [float(history.steps[place]) / info[run]["num_steps"]
         for place in (options.apart, -1 - options.apart)]
        for run, history in ((run, histories[run]) for run in info)
    ]  # fmt: skip
    mine = {
        name: [row for row in rows[name] if row["measure"] == measure]
        for name in ("jumps", "settling", "order", *JUDGED)
    }
    return Material(
        measure=measure, runs=list(info.values()), histories=histories,
        watched=torch.tensor(watched, dtype=torch.float64), draws=draws, **mine,
    )  # fmt: skip


def _agree(
    histories: Mapping[str, History], runs: pa.Table, measures: Sequence[str]
) -> dict[str, Row]:
    info = {row["run"]: row for row in runs.to_pylist()}
    if set(info) != set(histories) or len(info) != len(runs):
        odd = sorted(set(info) ^ set(histories))
        raise BadInput(
            f"the table of runs and the histories differ in {', '.join(odd[:5]) or 'a double run'}:"
            " give one row and one history for each run"
        )
    for run, history in histories.items():
        missing = [name for name in measures if name not in history.values]
        if missing:
            raise BadInput(
                f"the run {run} was not measured in {', '.join(missing)}: it has"
                f" {', '.join(history.values)}; choose among these"
            )
    return info


def _settling_rows(run: str, measure: str, history: History, found: Settling) -> list[Row]:
    depth = history.depth()
    return [
        {
            "run": run, "site": site, "depth": float(depth[i]), "measure": measure,
            "settled_step": float(found.step[i]), "censored": bool(found.censored[i]),
            "drifts": bool(found.drifts[i]), "level": float(found.level[i]),
            "band": float(found.band[i]),
        }
        for i, site in enumerate(history.sites)
    ]  # fmt: skip


def _order(
    history: History, found: Settling, num_steps: int, generator: torch.Generator, draws: int
) -> Row:
    order = order_of_settling(
        found.step, found.censored, history.depth(), num_steps, generator, draws=draws
    )
    return {
        "rho": order.rho, "p": order.p, "spread": order.spread, "pattern": order.pattern.value,
        "n": order.sites, "censored": int(found.censored.sum()),
    }  # fmt: skip


def _coordination(history: History, measure: str, generator: torch.Generator, draws: int) -> Row:
    try:
        found = coordination(history.values[measure], history.steps, generator, draws=draws)
    except InsufficientData:
        return dict.fromkeys(COORDINATION, torch.nan)
    beyond, whole = found.beyond, found.whole
    values = (beyond.variance, beyond.null_mean, beyond.null_sd, beyond.p, whole.variance,
              whole.null_mean, whole.null_sd, whole.p, found.highest)  # fmt: skip
    return dict(zip(COORDINATION, values, strict=True))


def _loss_link(history: History, measure: str, generator: torch.Generator, draws: int) -> Row:
    loss = history.training.get("loss", torch.full((len(history.steps),), torch.nan))
    try:
        found = loss_link(history.values[measure], history.steps, loss, generator, draws=draws)
    except InsufficientData:
        return dict.fromkeys(LOSS_LINK, torch.nan)
    return {name: getattr(found, name) for name in LOSS_LINK}


def _adjusted(rows: list[Row], draws: int) -> None:
    """Put q beside p, over all runs and measures."""
    p = torch.tensor([row["p"] for row in rows], dtype=torch.float64)
    for row, q in zip(rows, benjamini_hochberg(p, draws=draws).tolist(), strict=True):
        row["q"] = q


# What is judged of each run and measure, by the table that it goes to.
JUDGED: dict[str, Callable[[History, str, torch.Generator, int], Row]] = {
    "coordination": _coordination, "loss_link": _loss_link,
}  # fmt: skip
