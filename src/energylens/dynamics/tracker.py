"""Follow the dimensions of a network's layers through any training loop."""

import math
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from energylens.core.errors import BadInput, SiteNotAvailable
from energylens.dynamics.history import History
from energylens.dynamics.look import TrackOptions, ceilings, look, require_fired, rows_seen
from energylens.dynamics.probe import Forward, call, make_probe
from energylens.dynamics.record import FORMAT, TRAINING, Look, Record
from energylens.dynamics.sites import default_sites, find_sites
from energylens.dynamics.tables import export
from energylens.dynamics.unseen import bare, unseen

EVERY = 100
"""Training steps from one look to the next, unless told otherwise."""
DEFAULTS = TrackOptions()


class Tracker:
    """Looks at a network every so many training steps, always on the same probe.

    The probe goes through the network in evaluation mode and leaves no trace: modes, buffers and
    random numbers are put back, so that a training with a tracker ends in the same weights as one
    without. Of a probe in two halves the second gives the same measures `again`: what differs is
    how far they depend on the samples.

    Args:
        model: Any module; wrappers that compile or distribute it are looked through.
        probe: What the network is called with: a tensor, a tuple of arguments, or a mapping of
            named ones; a few hundred samples.
        sites: Names of modules, ports as `layers.0:out[1]`, or wildcards as `layers.*.linear1`.
            None: every linear map, convolution, attention, recurrent net and block that runs.
        every: Steps from one look to the next, or the steps to look at.
        options: How sites are measured: centred, in two halves, 256 rows each, unless told
            otherwise.
        folder: Where looks are kept as they come. A tracker on the same folder goes on in it: what
            an earlier sitting saw from its first step on is dropped and made again.
        start: Updates done before the tracker is entered; None: one less than the first it is told.
        forward: How the network is called on a part of the probe, if not as usual.

    Raises:
        InsufficientData: If the probe has too few samples.
        UnknownName: If there is no such module; carries the nearest names.
        SiteNotAvailable: If a site never fires, or holds no activations.

    Example:
        with Tracker(model, images[:256], every=5) as tracker:
            for step, (x, y) in enumerate(batches, start=1):
                loss = train_step(x, y)
                tracker.after_step(step, loss=loss)
        history = tracker.history()
    """

    def __init__(
        self,
        model: nn.Module,
        probe: Any,
        sites: Sequence[str] | None = None,
        *,
        every: int | Collection[int] = EVERY,
        options: TrackOptions = DEFAULTS,
        folder: Path | str | None = None,
        start: int | None = None,
        forward: Forward = call,
    ) -> None:
        if isinstance(every, int) and every < 1:
            raise BadInput(f"a look every {every} steps was asked for: give 1 or more")
        self._model, self._forward, self._every = bare(model), forward, every
        self._options, self._start = options, start
        self._probe = make_probe(probe, again=options.again)
        self._told: int | None = None
        self._entry: Look | None = None
        self._bad_losses = 0
        self._before: tuple[int, list[Tensor]] | None = None
        digest = self._probe.sha256()
        self._move()
        asked = default_sites(self._model) if sites is None else list(sites)
        found = find_sites(self._model, asked, options.units)
        with unseen(self._model):
            seen = rows_seen(
                self._model, self._probe, 0, found, options, forward, pass_over=sites is None
            )
        if sites is not None:
            require_fired(found, seen)
        if not seen:
            raise SiteNotAvailable(
                "no linear map, convolution or block of the network fired: name sites to look at"
            )
        by_name = {site.name: site for site in found}
        self._sites = [by_name[name] for name in seen]  # in the order of the pass
        measures = look(self._model, self._probe, self._sites, options, forward)
        self._record = Record(
            about={
                "format": FORMAT, "sites": list(seen),
                "ceiling": list(ceilings(seen, options).values()),
                "measures": list(measures), "parts": len(self._probe.parts),
                "every": every if isinstance(every, int) else sorted(every),
                "options": asdict(options), "probe": digest,
            },
            folder=None if folder is None else Path(folder).expanduser(),
        )  # fmt: skip

    @property
    def sites(self) -> tuple[str, ...]:
        """What is looked at, from the network's input to its output."""
        return tuple(site.name for site in self._sites)

    def __enter__(self) -> "Tracker":
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Take up the folder, and look at the network as it is before its next step.

        Raises:
            BadInput: If another process uses the folder.
            ArtifactRefused: If the folder holds looks at something else.
        """
        self._record.close()  # of a training that was broken off and begins again
        self._record.open()
        self._told = None
        self._entry = self._seen(0)
        if self._start is not None:
            self._begin(self._start)

    def close(self) -> None:
        """Let go of the folder. The looks stay, in memory and there."""
        self._record.close()
        self._entry = self._before = None

    def after_step(
        self,
        step: int,
        *,
        loss: Tensor | float | None = None,
        grad_norm: Tensor | float | None = None,
    ) -> None:
        """Tell of an update that was done; look, if it is time.

        Args:
            step: Updates done so far: 1 after the first.
            loss: Of the update's batch.
            grad_norm: Euclidean norm over all weights; None: of the gradients that are there.

        Raises:
            BadInput: If steps do not ascend, or the tracker was not entered.
        """
        if step < 1:
            raise BadInput(f"after step {step} was told: give the updates done, 1 after the first")
        if self._told is None:
            self._begin(step - 1 if self._start is None else self._start)
        self._ascend(step)
        if self.is_due(step):
            self._record.add(self._seen(step, loss=loss, grad_norm=grad_norm))
        self._before = None
        if self._options.update_norm and self.is_due(step + 1):
            self._before = step, [p.detach().clone() for p in self._trained()]

    def look(
        self,
        step: int,
        *,
        loss: Tensor | float | None = None,
        grad_norm: Tensor | float | None = None,
    ) -> None:
        """Look now, whether or not it is time; for loops that choose their moments by themselves.

        Raises:
            BadInput: If steps do not ascend, or the tracker was not entered.
        """
        if self._told is None:
            self._record.begin(step)
        self._ascend(step)
        self._record.add(self._seen(step, loss=loss, grad_norm=grad_norm))

    def is_due(self, step: int) -> bool:
        """Whether a step is one to look at."""
        return step % self._every == 0 if isinstance(self._every, int) else step in self._every

    def history(self) -> History:
        """What was seen so far."""
        return self._record.history()

    def export(self, folder: Path | str, kind: str = "parquet") -> list[Path]:
        """Write `measurements` and `training` as Parquet, CSV or JSON; see `tables.export`."""
        return export(self.history(), folder, kind)

    def undefined(self) -> dict[str, int]:
        """How often each site could not be measured (zeros, or numbers that are not finite), and
        how often `loss` was told at a look of this sitting and was not finite; none is left out.
        """
        history = self.history()
        nan = history.values["stable_rank"].isnan().sum(1).tolist()
        counts = dict(zip(history.sites, nan, strict=True)) | {"loss": self._bad_losses}
        return {name: int(n) for name, n in counts.items() if n}

    def _begin(self, step: int) -> None:
        """Settle that the first look, on entering, was after so many updates."""
        entry, self._entry = self._entry, None
        # What an earlier sitting saw of the same weights stays; untrained weights may be others.
        known = step > 0 and any(look.step == step for look in self._record.looks)
        self._record.begin(step + known)
        if entry is not None and self.is_due(step) and not known:
            self._record.add(replace(entry, step=step))
        self._told = step

    def _ascend(self, step: int) -> None:
        if not self._record.is_open:
            raise BadInput("the tracker keeps a folder: enter it first, as in `with tracker:`")
        if self._told is not None and step <= self._told:
            raise BadInput(f"step {step} came after step {self._told}: steps must ascend")
        self._told = step

    def _seen(
        self,
        step: int,
        *,
        loss: Tensor | float | None = None,
        grad_norm: Tensor | float | None = None,
    ) -> Look:
        """Everything that there is to see now."""
        self._move()
        values = look(self._model, self._probe, self._sites, self._options, self._forward)
        weights = self._trained()
        gradients = [p.grad for p in weights if p.grad is not None]
        told = {
            "loss": loss,
            "grad_norm": _norm(gradients) if grad_norm is None else grad_norm,
            "weight_norm": _norm(weights),
            "update_norm": self._update(step, weights),
        }
        training = {name: _number(told[name]) for name in TRAINING}
        self._bad_losses += loss is not None and math.isnan(training["loss"])
        kept = {name: value.cpu() for name, value in values.items()}
        return Look(step=step, values=kept, training=training)

    def _move(self) -> None:
        """Follow the network to its device."""
        with suppress(StopIteration):
            self._probe = self._probe.to(next(self._model.parameters()).device)

    @torch.no_grad()
    def _update(self, step: int, weights: list[nn.Parameter]) -> Tensor | None:
        if self._before is None or self._before[0] != step - 1:
            return None
        return _norm([now - was for now, was in zip(weights, self._before[1], strict=True)])

    def _trained(self) -> list[nn.Parameter]:
        return [p for p in self._model.parameters() if p.requires_grad]


@torch.no_grad()
def _norm(tensors: Sequence[Tensor]) -> Tensor | None:
    return nn.utils.get_total_norm(tensors) if tensors else None


def _number(value: Tensor | float | None) -> float:
    if isinstance(value, Tensor):
        value = value.detach()
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else math.nan
