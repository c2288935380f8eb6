"""What figures of many trainings share: which run is of what family, its series and its events."""

from dataclasses import dataclass

import numpy as np

from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table, finite
from energylens.results.format import several

DETECTOR = "energylens"
FAMILIES = ("mlp", "cnn", "transformer")
LABELS = {"mlp": "MLP", "cnn": "CNN", "transformer": "transformer"}
COLOURS = {"mlp": "accent", "cnn": "repulsor", "transformer": "attractor"}
THIRDS = (1 / 3, 2 / 3)


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """Runs with the events of our detector; rows of `jumps` know their run by its row."""

    runs: Table
    jumps: Table
    run_of: np.ndarray
    """Row of the run of each jump."""
    series: np.ndarray
    """How many series, sites times measures, each run has."""

    @property
    def families(self) -> list[str]:
        """The families that are there, ours in their order, then the rest by name."""
        there = set(self.runs.text("family"))
        return [name for name in FAMILIES if name in there] + sorted(there - set(FAMILIES))

    def of_family(self, family: str) -> np.ndarray:
        """Rows of the runs of a family."""
        return np.flatnonzero([name == family for name in self.runs.text("family")])

    def phases(self, runs: np.ndarray | None = None) -> np.ndarray:
        """When the events of some or all runs were, in parts of their training, where known."""
        phases = self.jumps.number("phase")
        return finite(phases if runs is None else phases[np.isin(self.run_of, runs)])

    def early(self, runs: np.ndarray | None = None) -> float:
        """Share of the dated events that are in the first third; nan where there is none."""
        phases = self.phases(runs)
        return float(thirds(phases)[0] / len(phases)) if len(phases) else float("nan")

    @property
    def undated(self) -> str:
        """What is said of the events that could be at any time in half of their training."""
        left = self.jumps.rows - len(self.phases())
        return f"{several(left, 'event')} without a date left out of when" if left else ""

    def counts(self) -> np.ndarray:
        """Events of each run."""
        return np.bincount(self.run_of, minlength=self.runs.rows)


def trainings(records: Records) -> Trainings | None:
    """The runs and events of a study of trainings; None where the run is none."""
    # No event at all is a finding, so that the table of them may be empty.
    runs, jumps, settling = (records.tables.get(name) for name in ("runs", "jumps", "settling"))
    if runs is None or jumps is None or settling is None or not runs.rows:
        return None
    place = {run: row for row, run in enumerate(runs.text("run"))}
    ours = jumps.equal("detector", DETECTOR)
    series = np.bincount([place[run] for run in settling.text("run") if run in place],
                         minlength=runs.rows)  # fmt: skip
    run_of = np.array([place[run] for run in ours.text("run")], dtype=int)
    return Trainings(runs=runs, jumps=ours, series=series, run_of=run_of)


def label(family: str) -> str:
    """A family as people write it."""
    return LABELS.get(family, family)


def colour(family: str) -> str:
    """Its colour in every figure."""
    return LIGHT[COLOURS.get(family, "ink")]


def thirds(phases: np.ndarray) -> np.ndarray:
    """How many events are in the first, second and last third of training."""
    return np.bincount(np.digitize(phases, THIRDS), minlength=3)
