"""Series of each kind are drawn and gone through by every detector; each kind is done once."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from energylens.core.ports import Progress, Store
from energylens.dynamics.battery import Series, nulls, planted, score
from energylens.dynamics.jumps import JumpOptions, Jumps
from energylens.results.record import Summary
from energylens.stats.rates import clustered_rate_interval, poisson_interval
from energylens.studies.changepoint_battery import ChangepointBattery
from energylens.studies.changepoint_battery.detectors import (
    CONTENDERS,
    INTERVAL,
    LEVELS,
    OURS,
    loose,
    our_jumps,
    our_marks,
)
from energylens.studies.changepoint_battery.finding import summarise
from energylens.studies.changepoint_battery.tables import roc_rows, verdict_rows
from energylens.studies.energy_lens.tables import table
from energylens.studies.planted_energies.networks import seeded
from energylens.studies.study import pin_inputs

Row = dict[str, Any]
Part = Mapping[str, Sequence[Row]]
QUICK, QUICK_ROC = 20, 10
PLANTED, NULL = "planted", "null"


def run(
    options: ChangepointBattery, *, store: Store, progress: Progress, say: Callable[[str], None]
) -> Summary:
    """All kinds of series through all detectors, and what follows."""
    torch.set_num_threads(1)
    pin_inputs(store, {})
    kinds = {
        **{(PLANTED, name): draw for name, draw in planted(options.samples).items()},
        **{(NULL, name): draw for name, draw in nulls(options.samples).items()},
    }
    count = QUICK if options.quick else options.series
    again = min(count, QUICK_ROC if options.quick else options.roc_series)
    missing = [kind for kind in kinds if not store.done(_part(kind))]

    def judge(kind: tuple[str, str]) -> Part:
        drawn = kinds[kind](count, seeded(options.seed, "series", *kind))
        return judged(kind, drawn, again, options)

    with progress.task("kinds of series", len(kinds), "kind") as advance:
        advance(len(kinds) - len(missing))
        with ThreadPoolExecutor(options.workers) as pool:
            for kind, rows in zip(missing, pool.map(judge, missing), strict=True):
                say(f"{kind[0]}: {kind[1]}")
                store.save(_part(kind), scratch=True, records={_part(kind): rows})
                advance(1)
    parts = [store.record(_part(kind)) for kind in kinds]
    battery = [row for part in parts for row in part["battery"]]
    roc = [row for part in parts for row in part["roc"]]
    tables = {
        "battery": battery,
        "battery_verdicts": list(verdict_rows(battery)),
        "battery_roc": list(roc_rows(roc)),
        "battery_examples": [row for part in parts for row in part["examples"]],
    }
    store.save("tables", tables={name: table(rows) for name, rows in tables.items()})
    return summarise(options, tables)


def _part(kind: tuple[str, str]) -> str:
    return f"{kind[0]}.{kind[1]}"


def judged(
    kind: tuple[str, str], drawn: Series, again: int, options: ChangepointBattery
) -> dict[str, list[Row]]:
    """One kind of series through every detector, at its own threshold and at others."""
    ours = JumpOptions(level=options.level, draws=options.draws)
    generator = seeded(options.seed, "null", *kind)
    jumps = our_jumps(drawn.values, ours, generator)
    marks = {OURS: our_marks(jumps, drawn.values)}
    marks |= {name: it.marks(drawn.values, it.threshold) for name, it in CONTENDERS.items()}
    rows = [battery_row(kind, name, found, drawn, generator) for name, found in marks.items()]
    rows[0] |= dated(jumps, drawn)
    few = Series(values=drawn.values[:again], jumps=drawn.jumps[:again], tolerance=drawn.tolerance)
    return {
        "battery": rows,
        "roc": list(_curves(kind, few, our_jumps(few.values, loose(ours), generator))),
        "examples": _example(kind, drawn, marks),
    }


def battery_row(
    kind: tuple[str, str], name: str, marks: Tensor, drawn: Series, generator: torch.Generator
) -> Row:
    """What one detector found of one kind, and what as many marks at random places would."""

    found, moved = score(marks, drawn), score(_turned(marks, generator), drawn)
    truth = torch.full((len(marks),), drawn.jumps.shape[1])
    recall = clustered_rate_interval(found.found, truth)
    false = poisson_interval(found.false.sum())
    thousands = marks.numel() / 1000
    jumps = int(truth.sum())
    return {
        "detector": name, "kind": kind[0], "case": kind[1], "n_series": len(marks),
        "n_samples": marks.shape[1], "n_jumps": jumps, "found": int(found.found.sum()),
        "recall": float(recall.estimate), "recall_low": float(recall.low),
        "recall_high": float(recall.high),
        "recall_chance": float(moved.found.sum()) / jumps if jumps else torch.nan,
        "false_alarms": int(found.false.sum()),
        "per_1000": float(false.estimate) / thousands, "per_1000_low": float(false.low) / thousands,
        "per_1000_high": float(false.high) / thousands,
        "alarmed": float((found.false > 0).double().mean()),
        "dated": 0, "covered": torch.nan, "undefined": 0,
    }  # fmt: skip


def _turned(marks: Tensor, generator: torch.Generator) -> Tensor:
    """The marks of each series, turned by a random number of samples."""
    samples = marks.shape[1]
    turn = torch.randint(1, samples, (len(marks), 1), generator=generator)
    return marks.gather(1, (torch.arange(samples) + turn) % samples)


def dated(jumps: Jumps, drawn: Series) -> Row:
    """How often a jump that was found lies within the interval of its date."""
    if not drawn.jumps.shape[1]:
        return {"undefined": jumps.undefined}
    truth = drawn.jumps[jumps.series]
    near = (truth - (jumps.step / INTERVAL)[:, None]).abs()
    which = near.argmin(1, keepdim=True)
    hit = near.gather(1, which)[:, 0] <= drawn.tolerance
    at = INTERVAL * truth.gather(1, which)[:, 0]
    inside = (at >= jumps.low) & (at <= jumps.high)
    return {
        "dated": int(hit.sum()), "undefined": jumps.undefined,
        "covered": float(inside[hit].double().mean()) if bool(hit.any()) else torch.nan,
    }  # fmt: skip


def _curves(kind: tuple[str, str], few: Series, jumps: Jumps) -> list[Row]:
    """Hits and false alarms at each threshold of each detector."""
    looks = [(OURS, "level", level, our_marks(jumps, few.values, level)) for level in LEVELS]
    looks += [
        (name, it.unit, threshold, it.marks(few.values, threshold))
        for name, it in CONTENDERS.items() for threshold in it.others
    ]  # fmt: skip
    rows = []
    for name, unit, threshold, marks in looks:
        found = score(marks, few)
        rows.append({
            "detector": name, "unit": unit, "threshold": threshold, "kind": kind[0],
            "case": kind[1], "n_jumps": few.jumps.numel(), "found": int(found.found.sum()),
            "false_alarms": int(found.false.sum()), "n_samples": marks.numel(),
        })  # fmt: skip
    return rows


def _example(kind: tuple[str, str], drawn: Series, marks: Mapping[str, Tensor]) -> list[Row]:
    """The first series of a kind, and what each detector marks in it."""
    first = drawn.jumps[0].round().long().tolist()
    return [
        {
            "kind": kind[0], "case": kind[1], "sample": sample, "value": value,
            "jump": sample in first,
            **{name: bool(some[0, sample]) for name, some in marks.items()},
        }
        for sample, value in enumerate(drawn.values[0].tolist())
    ]  # fmt: skip
