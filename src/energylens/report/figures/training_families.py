"""How do kinds of networks differ? For each family when its events are, and in which layers."""

from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame
from energylens.report.figure import Column, Figure, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records
from energylens.report.training_runs import Trainings, colour, label, trainings
from energylens.results.format import number, percent, several

BINS, LAYERS = 20, 10


def figure(records: Records) -> Figure | None:
    """Two panels a family; None where no events are."""
    found = trainings(records)
    if found is None or not found.jumps.rows:
        return None
    counts = found.counts()
    families = [name for name in found.families if counts[found.of_family(name)].any()]
    dated = [name for name in families if len(found.phases(found.of_family(name)))]
    panels = [
        Panel(draw=partial(_phases, found=found, family=family), height=260,
              label=f"When events of {label(family)}s are.")
        for family in dated
    ] + [
        Panel(draw=partial(_layers, found=found, family=family), height=260,
              label=f"Which layers of {label(family)}s have the most events.")
        for family in families
    ]  # fmt: skip
    ranked = [(family, *row) for family in families for row in _ranked(found, family)]
    return Figure(
        name="training_families", question="When and where do the families of networks change?",
        short="Families", answer=_answer(found, families),
        notes=[
            *filter(None, [found.undated]),
            "above: events by part of training; grey: spread evenly; below: the layers with the"
            " most events a training that has the layer, named by their place in the network",
            "families differ in depth and data, so that a difference is not of the kind alone: the"
            " table of hypotheses has contrasts with the training as unit",
        ],
        method=("method-trainings", "trainings"), panels=panels,
        columns=[
            Column(name="family", label="family", cells=[label(row[0]) for row in ranked]),
            Column(name="layer", label="layer", cells=[row[1] for row in ranked]),
            Column(name="events", label="events", cells=[row[2] for row in ranked]),
            Column(name="trainings", label="trainings with it", cells=[row[3] for row in ranked]),
            Column(name="rate", label="events a training", cells=[row[4] for row in ranked]),
        ],
        tells=(), wide=True,
    )  # fmt: skip


def _phases(axes: Axes, *, found: Trainings, family: str) -> None:
    phases = found.phases(found.of_family(family))
    early, mean = percent(found.early(found.of_family(family))), number(phases.mean(), digits=2)
    told = f"events: {early} in the first third, mean at {mean}"
    frame(axes, across="part of training", up=told, title=label(family))
    axes.axhline(len(phases) / BINS, color=LIGHT["null"], linewidth=6, zorder=1)
    axes.hist(phases, bins=BINS, range=(0, 1), color=colour(family), rwidth=0.86, zorder=2)
    axes.set_xlim(0, 1)


def _layers(axes: Axes, *, found: Trainings, family: str) -> None:
    ranked = _ranked(found, family)
    frame(axes, across="events a training that has the layer", up="", title=label(family))
    axes.barh(range(len(ranked)), [row[3] for row in ranked], height=0.6, color=colour(family))
    axes.set_yticks(range(len(ranked)), [row[0] for row in ranked], fontsize=10)
    axes.set_ylim(max(len(ranked), 4) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def _ranked(found: Trainings, family: str) -> list[tuple[str, int, int, float]]:
    """Layers with the most events a training: name, events, trainings that have events there."""
    runs = found.of_family(family)
    mine = np.isin(found.run_of, runs)
    sites = np.array(found.jumps.text("site"))[mine]
    owners = found.run_of[mine]
    rows = []
    for site in sorted(set(sites.tolist())):
        at = sites == site
        trained = len(set(owners[at].tolist()))
        rows.append((site, int(at.sum()), trained, float(at.sum() / trained)))
    return sorted(rows, key=lambda row: (-row[3], row[0]))[:LAYERS]


def _answer(found: Trainings, families: list[str]) -> str:
    told, counts = [], found.counts()
    for family in families:
        runs = found.of_family(family)
        rate = counts[runs].sum() / max(1, found.series[runs].sum())
        early = f"{percent(found.early(runs))} early" if len(found.phases(runs)) else "none dated"
        told.append(f"{label(family)} {number(rate, digits=2)} ({early})")
    quiet = [label(name) for name in found.families if name not in families]
    text = f"Events a series: {', '.join(told)}."
    if quiet:
        text += f" None in {several(len(quiet), 'family', 'families')}: {', '.join(quiet)}."
    return text
