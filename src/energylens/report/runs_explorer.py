"""The browser of many trainings: of each a map of its layers over its steps, events and loss."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from energylens.report.explorer import STILL_ROWS, Explorer, Packed, Still, pack
from energylens.report.figure import cell
from energylens.report.records import Records, Table
from energylens.report.training_runs import DETECTOR, label
from energylens.results.format import several

COLUMNS = 160  # of a map; a longer training is averaged to so many
DIGITS = 4
FIXED = ("run", "site", "depth", "step", "ceiling")
AGAIN = "_again"
MOST_MEASURES = 4


def runs_explorer(records: Records) -> Explorer | None:
    """Every training of a study; None where the run measured none."""
    runs, measured = records.table("runs"), records.stored.get("measurements")
    if runs is None or measured is None or not runs.rows or "family" not in runs.columns:
        return None
    return Explorer(
        view="runs", title="The trainings", short="Trainings", placeholder="/ search",
        note=f"{several(runs.rows, 'training')}, each with its layers over its steps. In a map"
        " every row goes from its own least value, light, to its own largest, dark.",
        data=list(_packed(records, runs)), still=_still(records, runs),
    )  # fmt: skip


Map: TypeAlias = tuple[str, list[str], np.ndarray, np.ndarray]


def maps(records: Records, runs: Table) -> Iterator[list[Map]]:
    """Of each training, its measures with sites from input to output, steps and values.

    Yields:
        Name, sites, steps [sample], values [site, sample] of each measure; training by training.
    """
    names = _measures(records)
    whole = records.stored["measurements"].table("run", "site", "step", *names)
    owners = np.array(whole.text("run"))
    for run in runs.text("run"):
        yield list(_maps_of(whole.where(owners == run), names))


def _maps_of(table: Table, names: Sequence[str]) -> Iterator[Map]:
    sites = list(dict.fromkeys(table.text("site")))
    place = {site: row for row, site in enumerate(sites)}
    rows = np.array([place[site] for site in table.text("site")])
    steps, columns = np.unique(table.number("step"), return_inverse=True)
    for name in names:
        values = np.full((len(sites), len(steps)), np.nan)
        values[rows, columns] = table.number(name)
        yield name, sites, steps, values


def _measures(records: Records) -> list[str]:
    """Those that events were looked for in come first."""
    there = [name for name in records.stored["measurements"].columns
             if name not in FIXED and not name.endswith(AGAIN)]  # fmt: skip
    settling = records.table("settling")
    used = list(dict.fromkeys(settling.text("measure"))) if settling is not None else []
    ordered = [name for name in used if name in there]
    return (ordered + [name for name in there if name not in ordered])[:MOST_MEASURES]


def _packed(records: Records, runs: Table) -> Iterator[Packed]:
    training = records.stored.get("training")
    losses = training.table("run", "step", "loss") if training is not None else None
    jumps = records.table("jumps")
    sparks = []
    found_of = zip(runs.text("run"), maps(records, runs), strict=True)
    for number, (run, found) in enumerate(found_of):
        loss = losses.equal("run", run) if losses is not None else None
        yield pack(f"run-{number}", {
            "measures": [_thin_map(name, values) for name, _, _, values in found],
            "sites": found[0][1] if found else [], "steps": _ends(found[0][2]) if found else [],
            "loss": _thin(loss.number("loss")[None])[0] if loss is not None else [],
            "events": _events(jumps, run, found[0][1] if found else []),
        }, digits=DIGITS)  # fmt: skip
        sparks.append(_spark(found))
    counts = _counts(jumps, runs.text("run"))
    yield pack("index", {
        "runs": runs.text("run"), "family": [label(name) for name in runs.text("family")],
        "spark": sparks, "events": counts,
        **{name: _texts(runs, name) for name in ("architecture", "dataset")},
        **{name: _numbers(runs, name) for name in (
            "seed", "layers", "parameters", "num_steps", "interval", "final_accuracy",
            "chance_accuracy", "final_loss")},
    }, digits=DIGITS)  # fmt: skip


def _thin_map(name: str, values: np.ndarray) -> dict[str, Any]:
    thin = _thin(values)
    with np.errstate(all="ignore"):
        known = np.isfinite(values).any(1)
        low, high = np.full(len(values), np.nan), np.full(len(values), np.nan)
        low[known], high[known] = np.nanmin(values[known], 1), np.nanmax(values[known], 1)
    return {"name": name.replace("_", " "), "key": name, "values": thin, "low": low, "high": high}


def _thin(values: np.ndarray) -> np.ndarray:
    """Means over stretches of samples; nan where a stretch has no value."""
    parts = np.array_split(np.arange(values.shape[1]), min(COLUMNS, max(1, values.shape[1])))
    out = np.full((len(values), len(parts)), np.nan)
    for at, part in enumerate(parts):
        stretch = values[:, part]
        known = np.isfinite(stretch)
        total = np.where(known, stretch, 0).sum(1)
        count = known.sum(1)
        out[count > 0, at] = total[count > 0] / count[count > 0]
    return out


def _ends(steps: np.ndarray) -> list[float]:
    return [float(steps[0]), float(steps[-1])] if len(steps) else []


def _spark(found: Sequence[Map]) -> list[float]:
    """The mean course of the first measure, in 24 bars above its least."""
    if not found or not np.isfinite(found[0][3]).any():
        return []
    course = _thin(found[0][3])
    mean = np.nanmean(np.where(np.isfinite(course).any(0), course, 0.0), 0)
    bars = np.array([part.mean() for part in np.array_split(mean, min(24, len(mean)))])
    return (bars - np.nanmin(bars)).tolist()


def _events(jumps: Table | None, run: str, sites: Sequence[str]) -> list[list[Any]]:
    if jumps is None:
        return []
    own = jumps.equal("run", run).equal("detector", DETECTOR)
    place = {site: row for row, site in enumerate(sites)}
    return [
        [measure, place[site], step, low, high, direction, amplitude, bool(np.isfinite(phase))]
        for measure, site, step, low, high, direction, amplitude, phase in zip(
            own.text("measure"), own.text("site"), own.number("step"), own.number("low"),
            own.number("high"), own.text("direction"), own.number("amplitude"),
            own.number("phase"), strict=True)
        if site in place
    ]  # fmt: skip


def _counts(jumps: Table | None, runs: Sequence[str]) -> list[int]:
    owners = jumps.equal("detector", DETECTOR).text("run") if jumps is not None else []
    return [owners.count(run) for run in runs]


def _texts(table: Table, name: str) -> list[str]:
    return table.text(name) if name in table.columns else [""] * table.rows


def _numbers(table: Table, name: str) -> np.ndarray:
    return table.number(name) if name in table.columns else np.full(table.rows, np.nan)


def _still(records: Records, runs: Table) -> Still:
    counts = _counts(records.table("jumps"), runs.text("run"))
    rows = [
        [run, dataset, cell(accuracy), cell(chance), str(count)]
        for run, dataset, accuracy, chance, count in zip(
            runs.text("run"), _texts(runs, "dataset"), _numbers(runs, "final_accuracy"),
            _numbers(runs, "chance_accuracy"), counts, strict=True)
    ][:STILL_ROWS]  # fmt: skip
    return Still(
        note=f"{len(rows)} of {several(runs.rows, 'training')}; the others are in"
        " tables/runs.parquet.",
        columns=[("training", False), ("data", False), ("accuracy", True), ("chance", True),
                 ("events", True)],
        rows=rows,
    )  # fmt: skip
