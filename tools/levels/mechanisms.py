"""Null worlds of events in a training: windows in which no more changes than in others."""

from collections.abc import Mapping

import torch
from tools.levels.world import Claim, World
from torch import Tensor

from energylens.studies.mechanisms_at_jumps.changes import QUIET
from energylens.studies.mechanisms_at_jumps.contrasts import ALL, LESS, MORE, contrast_rows
from energylens.studies.mechanisms_at_jumps.moments import FAST

RUNS, EVENTS, WINDOWS, MEASURES = ("one", "two", "three"), 5, 4, 4


def _contrasts(generator: torch.Generator, planted: bool) -> Mapping[str, Tensor]:
    """Changes that fall as 1 / time, whatever is an event; planted: twice as large at events."""
    windows, changes = [], []
    for run in RUNS:
        time = 0.05 + 0.95 * torch.rand(EVENTS, 1, generator=generator, dtype=torch.float64)
        near = 0.1 * torch.rand(EVENTS, WINDOWS, generator=generator, dtype=torch.float64)
        near[:, 0] = 0.05
        noise = torch.randn(EVENTS, WINDOWS, MEASURES, generator=generator, dtype=torch.float64)
        own = 0.4 * torch.randn(EVENTS, WINDOWS, 1, generator=generator, dtype=torch.float64)
        size = (0.4 * noise + own).exp() / (time + near - 0.05).clamp(min=0.01)[:, :, None]
        size[:, 0] *= 1 + planted
        size *= 1 - 2 * torch.randint(2, size.shape, generator=generator)
        for event in range(EVENTS):
            for place in range(WINDOWS):
                number = event * WINDOWS + place
                windows.append({"run": run, "window": number, "event": event, "event_kind": FAST,
                                "kind": QUIET if place else FAST, "peak": number})  # fmt: skip
                changes += [
                    {"run": run, "window": number, "measure": f"measure {m}", "site": "one",
                     "change": float(size[event, place, m])}
                    for m in range(MEASURES)
                ]  # fmt: skip
    rows = contrast_rows(windows, changes, runs=RUNS, kinds=(FAST,), generator=generator)
    sizes = [row for row in rows if row["about"] == "size"]
    family = [row for row in rows if row["run"] == RUNS[0]]
    return {
        "p": torch.tensor([row["p"] for row in sizes if row["run"] != ALL]),
        "p_together": torch.tensor([row["p"] for row in sizes if row["run"] == ALL]),
        "p_adjusted": torch.tensor([row["p_adjusted"] for row in family]),
        "verdict": torch.tensor([float(row["verdict"] not in (MORE, LESS)) for row in family]),
    }


FUNCTION = "`event_contrast.event_contrast`"
NULL = "any window of a set may have been the event"
WORLDS = (
    World(
        name="events of trainings", draw=_contrasts,
        says=f"{len(RUNS)} trainings with {EVENTS} events, {WINDOWS - 1} quiet windows each from"
        f" the same tenth; {MEASURES} measures whose changes fall as 1 / time, times log-normal"
        " errors of which a half is shared by the measures. Planted: twice as large at events",
        claims=(
            Claim(name="p", columns=("mechanism_contrasts.p",), function=FUNCTION, null=NULL),
            Claim(name="p_together", columns=("mechanism_contrasts.p",), function=FUNCTION,
                  null=f"{NULL}, ranks over all trainings"),
            Claim(name="p_adjusted", columns=("mechanism_contrasts.p_adjusted",), family=True,
                  function=FUNCTION, null=NULL),
            Claim(name="verdict", columns=("mechanism_contrasts.verdict",), family=True,
                  function=FUNCTION, null=NULL, levels=(0.05,)),
        ),
    ),
)  # fmt: skip
