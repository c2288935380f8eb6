"""Numbers of a run in the places where people watch them, which can never hold it up."""

import contextlib
import importlib.util
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from energylens.core.errors import BadInput, UnknownName
from energylens.core.ports import Tracker

_MODULES = {name: f"energylens.run.edges.track.{name}"
            for name in ("mlflow", "tensorboard", "trackio", "wandb")}  # fmt: skip
TRACKERS = tuple(_MODULES)
_HELD = 10_000
_LAST_SECONDS = 10.0


def check_tracker(name: str) -> None:
    """Refuse a tracker that cannot be had; the empty name is none.

    Raises:
        UnknownName: If there is none of this name.
        BadInput: If its package is not installed.
    """
    if name and name not in _MODULES:
        raise UnknownName("tracker", name, TRACKERS)
    if name and importlib.util.find_spec(name) is None:
        raise BadInput(f"the tracker {name} was asked for and is not installed: pip install {name}")


def tracker_named(
    name: str, run_dir: Path, options: Mapping[str, Any], tell: Callable[[str], object]
) -> "Unstalled":
    """A tracker that is opened and fed by a thread of its own; see `check_tracker`."""

    def make() -> Tracker:
        return importlib.import_module(_MODULES[name]).start(run_dir, options)

    return Unstalled(make, name, tell=tell)


class Unstalled:
    """A tracker behind a queue: `log` returns at once, whatever the tracker does.

    What it cannot take in time is dropped, what it raises ends it; both are told once, and the run
    goes on.

    Args:
        make: Opens the tracker; called in the thread, since that may wait for a network.
        name: For what is told.
        tell: Told of what went wrong.
        held: How many steps wait at most.
    """

    def __init__(
        self,
        make: Callable[[], Tracker],
        name: str,
        *,
        tell: Callable[[str], object] = lambda line: None,
        held: int = _HELD,
    ) -> None:
        self.name, self.tell, self.dropped = name, tell, 0
        self._queue: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue(held)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._feed, args=(make,), daemon=True)
        self._thread.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Hand a step over; never waits."""
        if self._ended.is_set():
            return
        try:
            self._queue.put_nowait((step, dict(values)))
        except queue.Full:
            self.dropped += 1
            if self.dropped == 1:
                self.tell(f"{self.name} is slower than the run: steps are left out there")

    def close(self, *, seconds: float | int = _LAST_SECONDS) -> None:
        """Let it finish what it was given, but wait no longer than this."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=seconds / 2)
        self._thread.join(seconds)
        if self._thread.is_alive():
            self.tell(f"{self.name} did not finish in {seconds:.0f} s and was left behind")

    def _feed(self, make: Callable[[], Tracker]) -> None:
        try:
            tracker = make()
            while (item := self._queue.get()) is not None:
                tracker.log(*item)
            tracker.close()
        except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the run goes on
            self._ended.set()
            line = str(error).splitlines()[0] if str(error) else ""
            self.tell(f"{self.name} failed ({type(error).__name__}: {line}): the run goes on")
