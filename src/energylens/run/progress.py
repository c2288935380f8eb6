"""Telling a person how far long work is: bars on a terminal, few plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from energylens.core.ports import Advance, Progress
from energylens.results.format import duration

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_QUIET_SECONDS = 30.0
_BRIEF_SECONDS = 5.0
_STEP = 0.1


def progress_on_stderr() -> Progress:
    """Bars if standard error is a terminal, else plain lines."""
    return Bars() if sys.stderr.isatty() else Lines(_tell)


class Lines:
    """One plain line when a stage ends, and in a long stage a line at most every 30 s or 10 %.

    Args:
        tell: Called with each line.
        clock: Seconds, from any origin.
    """

    def __init__(
        self, tell: Callable[[str], object], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell, self._clock = tell, clock

    @contextmanager
    def task(self, label: str, total: int, unit: str = "") -> Iterator[Advance]:
        began = told = self._clock()
        done = told_share = 0.0

        def advance(amount: int, note: str = "") -> None:
            nonlocal done, told, told_share
            done += amount
            now, share = self._clock(), done / max(total, 1)
            step = share - told_share >= _STEP and now - told >= _BRIEF_SECONDS
            if done < total and (step or now - told >= _QUIET_SECONDS):
                told, told_share = now, share
                left = (now - began) * (1 - share) / share if share else float("nan")
                hint = f", about {duration(left)} left" if share else ""
                hint += f" ({_with_rate(note, done / (now - began), unit)})" if note else ""
                self._tell(f"{label}: {done:,.0f} of {total:,} {unit}".rstrip() + hint)

        yield advance
        amount = f"{done:,.0f} {unit}".rstrip()
        self._tell(f"{label}: {amount} in {duration(self._clock() - began)}")


def _with_rate(note: str, rate: float, unit: str) -> str:
    return f"{note}, {rate:,.0f} {unit or 'done'}/s"


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class Bars:
    """Bars with the time left, several at once where one stage lies within another."""

    def __init__(self) -> None:
        self._live: RichProgress | None = None

    @contextmanager
    def task(self, label: str, total: int, unit: str = "") -> Iterator[Advance]:
        outermost = self._live is None
        live = self._live = self._live or _bars()
        if outermost:
            live.start()
        bar = live.add_task(label, total=total, unit=unit, note="")
        began, done = time.monotonic(), 0

        def advance(amount: int, note: str = "") -> None:
            nonlocal done
            done += amount
            rate = done / max(time.monotonic() - began, 1e-9)
            live.advance(bar, amount)
            if note:
                live.update(bar, note=_with_rate(note, rate, unit))

        try:
            yield advance
        finally:
            if outermost:
                live.stop()
                self._live = None
            else:
                live.remove_task(bar)


def _bars() -> "RichProgress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("·"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        redirect_stdout=sys.stdout.isatty(),
    )
