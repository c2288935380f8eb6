"""A training that is looked at all along: dimensions by the tracker, progress by other measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from energylens.core.ports import Advance
from energylens.dynamics.history import History
from energylens.dynamics.look import TrackOptions
from energylens.dynamics.tracker import Tracker
from energylens.studies.phase_changes.setting import Reading, Setting


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What was seen of a training.

    Attributes:
        history: Dimensions of its sites.
        progress: By measure, at the same steps; in a second row on other data of the kind, nan
            where there is none.
    """

    history: History
    progress: Mapping[str, Float64[Tensor, "reading sample"]]


def train(setting: Setting, *, steps: int, every: int, advance: Advance) -> Trained:
    """Train, looking before the first step and after every so many."""
    network, optimizer = setting.network, setting.optimizer
    readings: list[Mapping[str, Reading]] = [_read(setting)]
    weights = [_copied(network)]
    options = TrackOptions(most_rows=None)
    with Tracker(network, setting.probe, setting.sites, every=every, options=options) as tracker:
        for step in range(1, steps + 1):
            loss = setting.loss()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            tracker.after_step(step, loss=loss)
            if tracker.is_due(step):
                readings.append(_read(setting))
                weights.append(_copied(network))
                advance(every)
    both = [{**now, **later} for now, later in zip(readings, _looked_back(setting, weights),
                                                   strict=True)]  # fmt: skip
    progress = {name: _series([reading[name] for reading in both]) for name in both[0]}
    return Trained(history=tracker.history(), progress=progress)


@torch.no_grad()
def _looked_back(
    setting: Setting, weights: Sequence[Mapping[str, Tensor]]
) -> list[Mapping[str, Reading]]:
    """What is measured in hindsight, look by look; the network ends as it was."""
    measured, found = setting.hindsight(), []
    for then in weights:
        setting.network.load_state_dict(then)
        found.append(measured())
    return found


@torch.no_grad()
def _read(setting: Setting) -> dict[str, Reading]:
    return dict(setting.progress())


def _copied(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _series(readings: list[Reading]) -> Float64[Tensor, "reading sample"]:
    return torch.tensor(readings, dtype=torch.float64).T
