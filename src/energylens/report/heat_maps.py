"""A file for each training: its layers over its steps, with what happened there."""

import re
from collections.abc import Iterator
from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame
from energylens.report.figure import Figure, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table
from energylens.report.runs_explorer import maps
from energylens.report.training_runs import DETECTOR

ROW = 24
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")  # a name comes from a file, and may be anything


def heat_maps(records: Records) -> Iterator[Figure]:
    """For paper: one figure a training, a panel a measure. None of them is on the page."""
    runs, jumps = records.table("runs"), records.table("jumps")
    if runs is None or records.stored.get("measurements") is None or "family" not in runs.columns:
        return
    for number, (run, found) in enumerate(zip(runs.text("run"), maps(records, runs), strict=True)):
        own = jumps.equal("run", run).equal("detector", DETECTOR) if jumps is not None else None
        height = 110 + ROW * max((len(sites) for _, sites, _, _ in found), default=1)
        yield Figure(
            name=f"run-{number}-{_NOT_PLAIN.sub('_', run)}", question=run, short=run, answer="",
            notes=(), method=("", ""),
            panels=[
                Panel(draw=partial(_draw, measure=name, sites=sites, steps=steps, values=values,
                                   events=own), label=name, height=height)
                for name, sites, steps, values in found
            ],
            columns=(), tells=(), wide=True,
        )  # fmt: skip


def _draw(
    axes: Axes,
    *,
    measure: str,
    sites: list[str],
    steps: np.ndarray,
    values: np.ndarray,
    events: Table | None,
) -> None:
    """Rows from the input to the output, each from its own least value to its own largest."""
    frame(axes, across="training step", up=f"{measure.replace('_', ' ')}, each layer on its scale")
    known = np.isfinite(values).any(1)
    low = np.nanmin(values[known], axis=1, keepdims=True)
    span = np.nanmax(values[known], axis=1, keepdims=True) - low
    shares = np.full(values.shape, np.nan)
    shares[known] = (values[known] - low) / np.where(span > 0, span, 1)
    # Looks are evenly spaced, but for the last; an image is drawn many times faster than cells.
    axes.imshow(shares, cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="nearest",
                extent=(steps[0], steps[-1], len(sites) - 0.5, -0.5))  # fmt: skip
    if events is not None:
        mine = events.equal("measure", measure)
        place = {site: row for row, site in enumerate(sites)}
        y = [place.get(site, np.nan) for site in mine.text("site")]
        known = np.isfinite(mine.number("phase"))
        # Filled, or a ring where the event could be at any time in half of the training.
        axes.scatter(mine.number("step"), y, s=16, marker="D", linewidth=np.where(known, 0.6, 1),
                     color=np.where(known, LIGHT["repulsor"], "none"),
                     edgecolor=np.where(known, LIGHT["paper"], LIGHT["repulsor"]))  # fmt: skip
    axes.set_yticks(range(len(sites)), sites, fontsize=9)
    axes.set_ylim(len(sites) - 0.5, -0.5)
    axes.margins(x=0)
    axes.grid(visible=False)
